//! What the agent costs the machine it runs on: the release binary as a child, against a host at a Unix
//! socket, for a minute each (`SECONDS=…` for another time); the last one beside sysstat's `sadc`, which collects about the
//! same into a file, where it is installed. Prints a table; judges nothing.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
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
    let folder = folder.path();
    let shipped = "built-in:metrics.toml";
    let (agent, host) = start(shipped, folder, true);
    measure(&[("as shipped, every 30 s", &agent)], seconds);
    drop((agent, host));
    let (agent, _) = start(shipped, folder, false);
    measure(&[("as shipped, host absent", &agent)], seconds);
    drop(agent);
    let (agent, _host) = start(everything.to_str().expect("a name"), folder, true);
    let ours = ("everything every second", &agent);
    // Not beside the agent's files, which it watches.
    let of_sadc = tempfile::tempdir().expect("a folder");
    match sadc(&of_sadc.path().join("data")) {
        Some(sadc) => {
            let cpu = measure(&[ours, ("sadc -S ALL 1", &sadc)], seconds);
            println!("\nThe agent takes {:.2} times the processor time of sadc.", cpu[0] / cpu[1]);
        }
        None => {
            measure(&[ours], seconds);
            println!("\nWithout sadc: Debian has it in sysstat.");
        }
    }
}

/// An agent with these pipelines, and its host, if there is one.
fn start(pipelines: &str, folder: &Path, has_host: bool) -> (Running, Option<JoinHandle<()>>) {
    let socket = folder.join("host.sock");
    let _ = fs::remove_file(&socket);
    let listener = has_host.then(|| UnixListener::bind(&socket).expect("a socket"));
    let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--pipelines", pipelines, "--port"])
        .arg(format!("unix:{}", socket.display()))
        .env_clear()
        .stderr(Stdio::null())
        .spawn()
        .expect("the agent");
    let host = listener.map(|listener| {
        let (mut host, _) = listener.accept().expect("the agent comes");
        std::thread::spawn(move || while matches!(host.read(&mut [0; 65_536]), Ok(1..)) {})
    });
    (Running(agent), host)
}

/// `sadc`, each second, where a distribution has it.
fn sadc(file: &Path) -> Option<Running> {
    let places = ["/usr/lib/sysstat/sadc", "/usr/lib64/sa/sadc", "/usr/lib/sa/sadc"];
    let program = places.iter().find(|place| Path::new(place).exists())?;
    let child = Command::new(program).args(["-S", "ALL", "1"]).arg(file).spawn();
    Some(Running(child.expect("sadc")))
}

/// Prints what each of them takes in the same time; returns their processor time, in percent of one processor.
fn measure(programs: &[(&str, &Running)], seconds: u64) -> Vec<f64> {
    std::thread::sleep(Duration::from_secs(5)); // what starting costs is over
    let costs = || programs.iter().map(|(_, program)| cost(program)).collect::<Vec<_>>();
    let before = costs();
    std::thread::sleep(Duration::from_secs(seconds));
    let mut shares = Vec::new();
    for (((name, _), before), after) in programs.iter().zip(before).zip(costs()) {
        let cpu = (after.cpu_seconds - before.cpu_seconds) * 100.0 / seconds as f64;
        let rss = after.rss_peak_kib as f64 / 1024.0;
        let wakeups = (after.wakeups - before.wakeups) as f64 / seconds as f64;
        println!("{name:<34}{cpu:>10.3}{rss:>12.2}{wakeups:>12.2}");
        shares.push(cpu);
    }
    shares
}

struct Cost {
    cpu_seconds: f64,
    rss_peak_kib: u64,
    wakeups: u64,
}

/// Processor time of all threads, ended ones too; peak memory; voluntary context switches of all threads that live.
fn cost(program: &Running) -> Cost {
    let pid = Pid::from_raw(program.0.id().cast_signed());
    let time = clock_getcpuclockid(pid).and_then(clock_gettime).expect("a clock of the process");
    let tasks = format!("/proc/{pid}/task");
    let switches = |thread: String| {
        let status = fs::read_to_string(format!("{tasks}/{thread}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    Cost {
        cpu_seconds: time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9,
        rss_peak_kib: program.status("VmHWM:"),
        wakeups: entries(Path::new(&tasks)).map(switches).sum(),
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned())
}
