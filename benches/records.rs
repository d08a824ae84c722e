//! Records from file to file: the agent as a child beside plain loops that do the same with `sonic-rs`, in one run. Prints
//! a table; judges nothing. `TMPDIR` should name a file system in memory.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use infiniservice_loops::{Step, filter_and_rename, tag};
use rustix::time::{ClockId, clock_gettime};

/// About 530 MB of lines.
const LINES: u64 = 2_000_000;

/// What the agent does, and the loop that does the same.
struct Workload {
    name: &'static str,
    stages: &'static str,
    step: Step,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "two tags",
        stages: "[[transform]]\ntags = { site = \"lab-1\", env = \"prod\" }\n",
        step: tag,
    },
    Workload {
        name: "filter on a field, rename",
        stages: "[[transform]]\nfilter = { field = \"level\", not_equals = \"debug\" }\n\
                 [[transform]]\nrename = { msg = \"message\" }\n",
        step: filter_and_rename,
    },
    Workload {
        name: "anchored regex, three groups",
        stages: "[[transform]]\nparse = { field = \"msg\", regex = \"^(?<what>[a-z ]+) path=(?<path>[^ ]+) \
                 status=(?<code>[0-9]+)$\" }\n",
        step: tag,
    },
];

fn main() {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("lines");
    write_lines(&lines).expect("lines");
    let count = LINES;
    println!("{count} lines, best of {rounds} rounds; thousands of lines a CPU second\n");
    println!("{:<32}{:>10}{:>10}{:>8}{:>16}", "", "agent", "sonic-rs", "times", "peak RSS, MiB");
    for Workload { name, stages, step } in WORKLOADS {
        let (mut agent, mut plain, mut rss) = (0.0_f64, 0.0_f64, 0.0_f64);
        for _ in 0..rounds {
            let (seconds, mib) = run_agent(stages, &lines, folder.path());
            (agent, rss) = (agent.max(count as f64 / seconds), rss.max(mib));
            let (out, before) = (folder.path().join("loop"), own_seconds());
            infiniservice_loops::run(&lines, &out, step).expect("the loop");
            plain = plain.max(count as f64 / (own_seconds() - before));
            fs::remove_file(out).expect("a file");
        }
        let times = agent / plain;
        let [agent, plain] = [agent, plain].map(|lines| lines / 1e3);
        println!("{name:<32}{agent:>10.0}{plain:>10.0}{times:>8.2}{rss:>16.1}");
    }
}

/// Writes lines of an application's log, 266 bytes on average; the same ones each time.
fn write_lines(to: &Path) -> io::Result<()> {
    let (mut to, mut random) = (BufWriter::new(File::create(to)?), fastrand::Rng::with_seed(1));
    for nth in 0..LINES {
        let (minute, second, ms) = (nth / 60 % 60, nth % 60, random.u16(0..1000));
        let level = random.choice(["debug", "info", "info", "warn", "error"]).unwrap_or_default();
        let status = random.choice([200, 201, 404, 500]).unwrap_or_default();
        let (host, order, user) =
            (random.u8(0..9), random.u32(0..100_000), random.u32(0..1_000_000));
        writeln!(
            to,
            r#"{{"ts":"2026-11-28T12:{minute:02}:{second:02}.{ms:03}Z","level":"{level}","service":"checkout","host":"web-{host}","msg":"request handled path=/api/v1/orders/{order} status={status}","trace_id":"{:032x}","dur_ms":{ms}.{host},"bytes":{user},"user":{{"id":{user},"plan":"pro"}},"ok":{}}}"#,
            random.u128(..),
            status < 400,
        )?;
    }
    to.flush()
}

/// Runs the agent from file to file; returns its seconds on processors, its start included, and its peak memory in MiB.
fn run_agent(stages: &str, lines: &Path, folder: &Path) -> (f64, f64) {
    let (flow, out) = (folder.join("records.toml"), folder.join("out"));
    let text = format!(
        "[[read]]\nlines = {{ file = {lines:?}, until_end = true, keep_position = false }}\n{stages}\
         [serialize]\nformat = \"json-lines\"\n[[write]]\nfile = {{ path = {out:?}, max_size = \"16MiB\", keep = 1 }}\n"
    );
    fs::write(&flow, text).expect("a file");
    let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--pipelines"])
        .arg(&flow)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent");
    let (before, mut agent, mut kib) = (ended_ticks(), agent, 0);
    while agent.try_wait().expect("a child").is_none() {
        kib = kib.max(peak_kib(agent.id()).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(agent.wait().expect("a child").success(), "the agent has refused {flow:?}");
    fs::remove_file(out).expect("an output");
    ((ended_ticks() - before) as f64 / 100.0, kib as f64 / 1024.0)
}

/// The most memory that was resident, in KiB; nothing once it has ended.
fn peak_kib(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Seconds of this process on processors.
fn own_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Processor time of children that have ended, in ticks of 10 ms: `cutime` and `cstime` of proc(5).
fn ended_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
