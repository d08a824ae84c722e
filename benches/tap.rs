//! What `infiniservice tap` takes from a flow at full rate: the release binary reads lines as fast as it can, by turns
//! with and without a look at them (`PAIRS=…` for another number of turns). Processor time for each line is judged, because
//! on a busy machine it is steadier than the clock. Exits 1 above the bound.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use support::Running;

/// The most that a look may take, percent of the lines a CPU second.
const BOUND: f64 = 2.0;
const PAIRS: usize = 15;
/// A tick of processor time is 0.5 % of it.
const WINDOW: Duration = Duration::from_secs(2);

const FLOW: &str = "[[read]]\nlines = { stdin = true }\n[[transform]]\nfilter = { field = \"status\", less = 500 }\n\
    [[transform]]\ntags = { site = \"lab\" }\n[write]\nnull = true\n";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let pairs = std::env::var("PAIRS").ok().and_then(|text| text.parse().ok()).unwrap_or(PAIRS);
    let folder = tempfile::tempdir().expect("a folder");
    let (agent, lines) = start(folder.path());
    println!("{pairs} pairs of {WINDOW:?} with and without; less with, median, %\n");
    println!("{:<26}{:>14}{:>14}{:>16}", "", "by CPU time", "by the clock", "lines/s without");
    let mut is_kept = true;
    for (name, stage, rate) in [
        ("tags, --rate 10", "tags", "10"),
        ("tags, --rate 1000", "tags", "1000"),
        ("serialize, --rate 1000", "serialize", "1000"),
    ] {
        let (mut by_cpu, mut by_clock, mut speeds) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..pairs {
            let plain = || window(&agent, &lines);
            let looked_at = || {
                let _look = look(folder.path(), stage, rate);
                window(&agent, &lines)
            };
            // By turns, so that a machine that becomes slower is no reason.
            let (without, with) = if pair % 2 == 0 {
                let without = plain();
                (without, looked_at())
            } else {
                let with = looked_at();
                (plain(), with)
            };
            by_cpu.push(100.0 * (1.0 - with.each_cpu_second / without.each_cpu_second));
            by_clock.push(100.0 * (1.0 - with.each_second / without.each_second));
            speeds.push(without.each_second);
        }
        let cost = median(by_cpu);
        is_kept &= cost < BOUND;
        println!("{name:<26}{cost:>14.2}{:>14.2}{:>16.0}", median(by_clock), median(speeds));
    }
    println!("\nbound: {BOUND} % by CPU time: {}", if is_kept { "kept" } else { "BROKEN" });
    if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Lines that went through.
#[derive(Clone, Copy)]
struct Speed {
    each_second: f64,
    each_cpu_second: f64,
}

/// The agent, and how many lines it was given: its own queues hold too few to count.
fn start(folder: &Path) -> (Running, Arc<AtomicU64>) {
    let flow = folder.join("lines.toml");
    fs::write(&flow, FLOW).expect("a file");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--pipelines"])
        .arg(&flow)
        .arg("--state")
        .arg(state(folder))
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent");
    let stdin = agent.stdin.take().expect("it is piped");
    let lines = Arc::<AtomicU64>::default();
    let given = Arc::clone(&lines);
    std::thread::spawn(move || feed(stdin, &given));
    while lines.load(Relaxed) == 0 || !state(folder).join("control.sock").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    (Running(agent), lines)
}

fn state(folder: &Path) -> std::path::PathBuf {
    folder.join("state")
}

/// Writes until the agent ends.
fn feed(mut stdin: ChildStdin, given: &AtomicU64) {
    let line = |number: u32| {
        let status = 200 + number % 3 * 100;
        format!(
            "{{\"path\":\"/articles/{number}\",\"status\":{status},\"bytes\":{}}}\n",
            number * 17
        )
    };
    let block: String = (0..1_000).map(line).collect();
    while stdin.write_all(block.as_bytes()).is_ok() {
        given.fetch_add(1_000, Relaxed);
    }
}

/// Looks at what a stage sends until it is dropped.
fn look(folder: &Path, stage: &str, rate: &str) -> Running {
    let mut tap = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["tap", stage, "--rate", rate, "--format", "json", "--state"])
        .arg(state(folder))
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a look");
    let mut said = BufReader::new(tap.stderr.take().expect("it is piped"));
    let mut first = String::new();
    said.read_line(&mut first).expect("it says what it looks at");
    assert!(first.contains("looking at"), "{first}");
    // What it says of skipped lines is read, so that it need not wait.
    std::thread::spawn(move || said.lines().for_each(drop));
    Running(tap)
}

fn window(agent: &Running, lines: &AtomicU64) -> Speed {
    let (begun, lines_before, ticks_before) = (Instant::now(), lines.load(Relaxed), agent.ticks());
    std::thread::sleep(WINDOW);
    let passed = (lines.load(Relaxed) - lines_before) as f64;
    let cpu_seconds = (agent.ticks() - ticks_before) as f64 / 100.0;
    Speed {
        each_second: passed / begun.elapsed().as_secs_f64(),
        each_cpu_second: passed / cpu_seconds,
    }
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
