//! What the agent costs the machine it runs on: the release binary as a child, against a host at a Unix
//! socket, for a minute each (`SECONDS=…` for another time). Prints a table; judges nothing.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::Running;
use support::flows::{WHOLE, metrics};

/// The groups that are not in every line.
const BESIDE: &str = r#""processes", "ports", "host", "pressure", "agent""#;

fn main() {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let seconds = std::env::var("SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    let folder = tempfile::tempdir().expect("a folder");
    let everything = folder.path().join("everything.toml");
    let groups = format!("{WHOLE}, {BESIDE}");
    fs::write(&everything, metrics("1s", &groups)).expect("a file");
    let processes = entries(Path::new("/proc"))
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .count();
    println!("{processes} processes on this machine, {seconds} s each\n");
    println!("{:<34}{:>10}{:>12}{:>12}", "", "CPU, %", "RSS, MiB", "wake-ups/s");
    measure("as shipped, every 30 s", "built-in:metrics.toml", folder.path(), true, seconds);
    measure("as shipped, host absent", "built-in:metrics.toml", folder.path(), false, seconds);
    let everything = everything.to_str().expect("a name");
    measure("everything every second", everything, folder.path(), true, seconds);
}

fn measure(name: &str, pipelines: &str, folder: &Path, host: bool, seconds: u64) {
    let socket = folder.join("host.sock");
    let _ = fs::remove_file(&socket);
    let listener = host.then(|| UnixListener::bind(&socket).expect("a socket"));
    let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--pipelines", pipelines, "--port"])
        .arg(format!("unix:{}", socket.display()))
        .env_clear()
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent");
    let agent = Running(agent);
    if let Some(listener) = listener {
        let (mut host, _) = listener.accept().expect("the agent comes");
        std::thread::spawn(move || while matches!(host.read(&mut [0; 65_536]), Ok(1..)) {});
    }
    std::thread::sleep(Duration::from_secs(5)); // what starting costs is over
    let before = cost(&agent);
    std::thread::sleep(Duration::from_secs(seconds));
    let after = cost(&agent);
    let (cpu, wakeups) = (after.cpu_seconds - before.cpu_seconds, after.wakeups - before.wakeups);
    println!(
        "{name:<34}{:>10.3}{:>12.2}{:>12.2}",
        cpu * 100.0 / seconds as f64,
        after.rss_peak_kib as f64 / 1024.0,
        wakeups as f64 / seconds as f64,
    );
}

struct Cost {
    cpu_seconds: f64,
    rss_peak_kib: u64,
    wakeups: u64,
}

/// Processor time; peak memory; voluntary context switches of the main thread, which runs every task.
fn cost(agent: &Running) -> Cost {
    Cost {
        cpu_seconds: agent.ticks() as f64 / 100.0,
        rss_peak_kib: agent.status("VmHWM:"),
        wakeups: agent.status("voluntary_ctxt_switches:"),
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned())
}
