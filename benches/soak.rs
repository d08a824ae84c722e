//! What the agent holds when its host does not read, and when it comes and goes: the release binary as a
//! child, at a Unix socket, ten minutes of each (`MINUTES=…` for another time). Prints a table, and exits 1 where
//! a bound is broken.
//!
//! - **Stalled**: a host that is connected and reads nothing, under a hundred times the metrics that are
//!   shipped and long lines a hundred times a second beside them. Memory stays under the ceiling and 8 MiB, and
//!   comes back when the host reads.
//! - **Churn**: rounds of a host that comes, asks for commands, pushes scripts, and crashes, sometimes without reading; a
//!   file that changes, sometimes into a wrong one. Memory, descriptors and threads are as they were.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use infiniservice::host::Secret;
use infiniservice::host::{Listener, Settings, action};
use support::Running;
use support::flows::{SECRET, WHOLE, metrics};
use tempfile::TempDir;

const CEILING_KIB: u64 = 16 * 1024;
const ABOVE_KIB: u64 = 8 * 1024;
const LEFT_KIB: u64 = 2 * 1024;
const DESCRIPTORS_LEFT: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(30);

/// What is shipped, a hundred times as often.
fn hundredfold() -> String {
    let lists = r#"{ processes = { keep = 20, by = "cpu" } }, "ports""#;
    metrics("300ms", &format!("{WHOLE}, {lists}"))
}

/// Long lines, and many of them kept.
fn long() -> String {
    let list = r#"{ processes = { keep = 1000, by = "memory" } }"#;
    metrics("10ms", &format!("{WHOLE}, {list}")) + "keep = 4096\n"
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let minutes = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(10.0);
    let time = Duration::from_secs_f64(60.0 * minutes);
    println!("{minutes} min of each\n");
    println!("{:<34}{:>10}{:>8}{:>9}", "", "RSS, MiB", "files", "threads");
    let stalled = stalled(time);
    let churned = tokio::runtime::Runtime::new().expect("a runtime").block_on(churn(time));
    if stalled && churned { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn stalled(time: Duration) -> bool {
    let lab = Lab::new(&[("hundredfold", &hundredfold()), ("long", &long())]);
    let listener = std::os::unix::net::UnixListener::bind(&lab.socket).expect("a socket");
    let agent = lab.start();
    let (mut host, _) = listener.accept().expect("the agent comes");
    let read = |host: &mut std::os::unix::net::UnixStream, until: Instant| {
        let mut bytes = 0;
        while Instant::now() < until {
            bytes += host.read(&mut [0; 65_536]).expect("the agent lives");
        }
        bytes
    };
    read(&mut host, Instant::now() + Duration::from_secs(10));
    let before = look(&agent, "before, host reads");
    agent.forget_peak();
    std::thread::sleep(time);
    look(&agent, "host has not read");
    let peak = agent.status("VmHWM:");
    read(&mut host, Instant::now() + Duration::from_secs(20));
    let after = look(&agent, "20 s after it reads again");
    let bounded = verdict(
        peak <= CEILING_KIB + ABOVE_KIB,
        &format!("at most {:.2} MiB, ceiling and 8 MiB is 24", peak as f64 / 1024.0),
    );
    let back = after.rss_kib <= before.rss_kib + LEFT_KIB;
    verdict(back, "comes back within 2 MiB") && bounded
}

async fn churn(time: Duration) -> bool {
    let good = hundredfold();
    let lab = Lab::new(&[("hundredfold", &good), ("commands", COMMANDS)]);
    let listener = Listener::bind(&lab.socket).await.expect("a socket");
    let agent = lab.start();
    let changing = lab.pipelines.join("hundredfold.toml");
    let (begun, mut rounds, mut answers) = (Instant::now(), 0_u64, 0_u64);
    let mut before = None;
    while begun.elapsed() < time || rounds < 40 {
        rounds += 1;
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let settings = Settings { secret, keep_alive: Some(Duration::from_millis(500)) };
        let host = listener.accept(settings).await.expect("a guest");
        let asked = action("SystemInfo", &[]).expect("an action");
        for _ in 0..rounds % 7 {
            let answer = host.command(&asked, PATIENCE).await.expect("an answer");
            assert!(answer.success, "{answer:?}");
            answers += 1;
        }
        if rounds.is_multiple_of(5) {
            let text = if rounds.is_multiple_of(25) { "[[collect]" } else { &good };
            fs::write(&changing, format!("{text}\n# round {rounds}\n")).expect("a file");
        }
        // Sometimes it goes in the middle of an answer, and the next one must come all the same.
        if rounds.is_multiple_of(3) {
            let _ = tokio::time::timeout(Duration::from_millis(1), host.command(&asked, PATIENCE))
                .await;
        }
        drop(host);
        if rounds == 40 {
            before = Some(look(&agent, "after 40 rounds"));
        }
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    let after = look(&agent, &format!("after {rounds} rounds"));
    println!("{answers} commands answered");
    let before = before.expect("forty rounds at least");
    let memory = after.rss_kib <= before.rss_kib + LEFT_KIB;
    let files = after.files <= before.files + DESCRIPTORS_LEFT;
    let threads = after.threads <= before.threads + DESCRIPTORS_LEFT;
    let memory = verdict(memory, "memory is within 2 MiB of what it was after 40 rounds");
    verdict(files && threads, "descriptors and threads are what they were") && memory
}

const COMMANDS: &str = include_str!("../pipelines/commands.toml");

fn verdict(kept: bool, bound: &str) -> bool {
    println!("{} {bound}", if kept { "kept:  " } else { "BROKEN:" });
    kept
}

struct Lab {
    _folder: TempDir,
    socket: PathBuf,
    pipelines: PathBuf,
}

impl Lab {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let pipelines = folder.path().join("pipelines");
        fs::create_dir(&pipelines).expect("a folder");
        let state = folder.path().join("state").display().to_string();
        let agent = format!("[state]\nfolder = {state:?}\n[log]\nlevel = \"error\"\n");
        for (name, text) in files.iter().copied().chain([("agent", agent.as_str())]) {
            fs::write(pipelines.join(name).with_extension("toml"), text).expect("a file");
        }
        Self { socket: folder.path().join("host.sock"), pipelines, _folder: folder }
    }

    fn start(&self) -> Running {
        let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
            .args(["run", "--port", &format!("unix:{}", self.socket.display()), "--pipelines"])
            .arg(&self.pipelines)
            .env_clear()
            .env("INFINISERVICE_SHARED_SECRET", SECRET)
            .stdin(Stdio::null())
            .spawn();
        Running(agent.expect("the agent"))
    }
}

struct Look {
    rss_kib: u64,
    files: u64,
    threads: u64,
}

fn look(agent: &Running, when: &str) -> Look {
    let (rss_kib, threads) = (agent.status("VmRSS:"), agent.status("Threads:"));
    let look = Look { rss_kib, files: agent.descriptors(), threads };
    let mib = look.rss_kib as f64 / 1024.0;
    println!("{when:<34}{mib:>10.2}{:>8}{:>9}", look.files, look.threads);
    look
}
