//! How long a command takes, what a thousand at once cost, and a start with a full request log: the release binary as
//! a child, held by a host at a Unix socket. Prints tables and exits 1 where a bound is broken, which the times of a
//! machine that is busy with something else will; `ROUNDS=…` for another number of round trips.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

#[path = "../tests/doubles/mod.rs"]
mod doubles;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use infiniservice::host::Secret;
use infiniservice::host::{Host, Kind, Listener, Response, Settings, action};
use infiniservice::internals::commands::actions::system::SystemInfo;
use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::reply::Outbound;
use infiniservice::internals::commands::request::{Request, RequestKind};
use infiniservice::internals::commands::request_log::{self, NAMES, Owner, RequestLog};
use infiniservice::internals::record_file::Storage;
use serde_json::Value;
use support::flows::{COMMANDS, SECRET, WHOLE, metrics};
use support::{Running, raw};
use tempfile::TempDir;

use doubles::faulty_disk::FaultyDisk;

/// The bounds, as the project states them.
const IDLE_P99: Duration = Duration::from_millis(5);
const BUSY_P99: Duration = Duration::from_millis(20);
const GROWTH_KIB: u64 = 16 * 1024;
const LEFT_KIB: u64 = 2 * 1024;

const START_MAX: Duration = Duration::from_millis(50);

const MIB: f64 = 1024.0 * 1024.0;
const AT_ONCE: usize = 1_000;
const PATIENCE: Duration = Duration::from_secs(60);
/// Threads of the blocking pool end after ten seconds without work; what they held goes with them.
const AFTERWARDS: Duration = Duration::from_secs(15);

/// What is asked for at once, of a file that allows all.
const PLACES: &str = "[execute]\nparallel = 5\nwaiting = 64\n";

/// Long lines, as fast as they can be asked for: four of these files at once, which is more than two processors have
/// time for.
fn flood() -> String {
    metrics("10ms", &format!("{WHOLE}, {{ processes = {{ keep = 1000, by = \"memory\" }} }}"))
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return ExitCode::SUCCESS;
    }
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000);
    let load = fs::read_to_string("/proc/loadavg").expect("a line");
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{processors} processors, load {}\n", load.split(' ').next().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let kept = runtime.block_on(async {
        let info = crowd("SystemInfo", &[Ask::Action("SystemInfo")]);
        [starts().await, trips(rounds).await, info.await, crowd("of ten kinds", &MIXED).await]
    });
    if kept == [true; 4] { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Opens a request log that is as long as one can be, as a start does; each time the same one.
async fn starts() -> bool {
    let owner = || Owner { machine: "m".to_owned(), boot: "b".to_owned() };
    let disk = FaultyDisk::new(1);
    let log = RequestLog::begin(Box::new(disk.clone()), owner(), 0);
    let mut number = 0;
    while disk.clone().length().expect("a length") < request_log::SIZE - 1_000 {
        number += 1;
        let (now, id) = (tokio::time::Instant::now(), format!("{number:036}"));
        let request = Request::new(id, RequestKind::Action(SystemInfo.into()), PATIENCE, now);
        let _ = log.envelope((now, number), number, &request.id, false);
        log.claim(&request);
        log.start(&request.id, false).await.expect("it waits for no disk");
        let (id, action) = (request.id, "SystemInfo".to_owned());
        log.finish(&mut Outbound::Response { id, action, outcome: Outcome::text("") });
    }
    let bytes = disk.bytes();
    let mut times: Vec<_> = (0..100)
        .map(|_| {
            let folder = TempDir::new().expect("a folder");
            fs::write(folder.path().join(NAMES.name), &bytes).expect("a file");
            let begun = Instant::now();
            let audit = folder.path().join("audit.jsonl");
            let log = RequestLog::open(folder.path(), &audit, owner(), number).expect("a log");
            let took = begun.elapsed();
            assert!(!log.is_copy());
            took
        })
        .collect();
    times.sort_unstable();
    let name = format!("a request log of {:.1} MiB, read at a start, ms", bytes.len() as f64 / MIB);
    println!("{name:<44}{:>9}{:>9}{:>9}", "p50", "p99", "max");
    tell("", &times, START_MAX)
}

/// Round trips of `SystemInfo`, one after the other.
async fn trips(rounds: usize) -> bool {
    println!("{:<44}{:>9}{:>9}{:>9}", "SystemInfo, there and back, ms", "p50", "p99", "max");
    let lab = Lab::start(None).await;
    let idle = time(&lab.host, rounds).await;
    let kept = tell("idle", &idle, IDLE_P99);

    let lab = Lab::start(Some(&flood())).await;
    let others = async {
        let slow = raw("while :; do echo still here; sleep 0.05; done");
        join_all((0..4).map(|_| lab.host.exec(&slow, PATIENCE * 10))).await
    };
    let (lines, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let reading = async {
        while let Ok(message) = lab.host.next().await {
            if message.kind == Kind::Metrics {
                lines.fetch_add(1, Ordering::Relaxed);
                bytes.fetch_add(message.line.len(), Ordering::Relaxed);
            }
        }
    };
    let timed = async {
        tokio::time::sleep(Duration::from_secs(1)).await; // until all four run
        let count = || (lines.load(Ordering::Relaxed), bytes.load(Ordering::Relaxed));
        let (begun, before) = (Instant::now(), count());
        let mut times = Vec::new();
        // As long as it takes for a flood to be one.
        while begun.elapsed() < Duration::from_secs(10) || times.len() < rounds / 5 {
            times.extend(time(&lab.host, 20).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        times.sort_unstable();
        let (seconds, after) = (begun.elapsed().as_secs_f64(), count());
        let per_second = |before: usize, after: usize| (after - before) as f64 / seconds;
        let lines = per_second(before.0, after.0);
        println!("{lines:.0} metrics lines/s, {:.1} MB/s", per_second(before.1, after.1) / 1e6);
        times
    };
    let busy = tokio::select! {
        busy = timed => busy,
        ended = others => panic!("commands that go on ended: {ended:?}"),
        () = reading => panic!("the agent has gone"),
    };
    tell("with these, and four commands that run", &busy, BUSY_P99) && kept
}

/// A thousand commands at once, of which one in ten is each of `asked`.
async fn crowd(name: &str, asked: &[Ask]) -> bool {
    let lab = Lab::start(None).await;
    time(&lab.host, 200).await; // what is read once is there
    for ask in asked {
        answer(&lab.host, ask).await;
    }
    tokio::time::sleep(AFTERWARDS).await;
    lab.agent.forget_peak();
    let before = lab.agent.status("VmRSS:");
    let begun = Instant::now();
    let all = (0..AT_ONCE).map(|number| answer(&lab.host, &asked[number % asked.len()]));
    let answers = join_all(all).await;
    let took = begun.elapsed();
    let refused = answers.iter().filter(|answer| {
        answer.error.as_ref().is_some_and(|why| why.contains("too many commands wait"))
    });
    let refused = refused.count();
    let failed = answers.iter().filter(|answer| !answer.success && answer.error.is_none()).count();
    let (at_once, peak) = (lab.agent.status("VmRSS:"), lab.agent.status("VmHWM:"));
    tokio::time::sleep(AFTERWARDS).await;
    let after = lab.agent.status("VmRSS:");
    let mib = |kib: u64| kib as f64 / 1024.0;
    let done = AT_ONCE - refused;
    println!(
        "\n{AT_ONCE} at once, {name}: {done} done, {refused} refused with a reason, in {took:.1?}"
    );
    println!("{:<44}{:>9}{:>9}{:>9}{:>9}", "RSS, MiB", "before", "peak", "at end", "15 s on");
    let (rest, grown) = (after.saturating_sub(before), peak.saturating_sub(before));
    let columns = [before, peak, at_once, after].map(|kib| format!("{:>9.2}", mib(kib)));
    println!("{:<44}{}", "", columns.concat());
    let all = verdict(failed == 0, "every one is answered, or refused with a reason");
    let bounded = verdict(grown <= GROWTH_KIB, "grows by at most 16 MiB");
    verdict(rest <= LEFT_KIB, "is back within 2 MiB") && all && bounded
}

/// Something to ask for.
enum Ask {
    Action(&'static str),
    Line(&'static str),
}

/// Answers of all sizes, up to the longest list and the most output that is kept.
const MIXED: [Ask; 10] = [
    Ask::Action("SystemInfo"),
    Ask::Action("PackageList"),
    Ask::Action("ProcessList"),
    Ask::Action("OsInfo"),
    Ask::Line("head -c 1000000 /dev/zero | tr '\\0' x"),
    Ask::Action("GetInstalledApplicationsWMI"),
    Ask::Action("UserList"),
    Ask::Action("CheckDiskSpace"),
    Ask::Action("ServiceList"),
    Ask::Line("echo a few words"),
];

async fn answer(host: &Host, ask: &Ask) -> Response {
    let answer = match ask {
        Ask::Action(name) => host.command(&action(name, &[]).expect("an action"), PATIENCE).await,
        Ask::Line(line) => host.exec(&raw(line), PATIENCE).await,
    };
    answer.expect("an answer")
}

fn verdict(kept: bool, bound: &str) -> bool {
    println!("{} {bound}", if kept { "kept:  " } else { "BROKEN:" });
    kept
}

fn tell(name: &str, sorted: &[Duration], p99_max: Duration) -> bool {
    let at = |share: usize| sorted[(sorted.len() * share / 100).min(sorted.len() - 1)];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (p99, most) = (at(99), ms(at(100)));
    println!("{name:<44}{:>9.2}{:>9.2}{most:>9.2}", ms(at(50)), ms(p99));
    verdict(p99 <= p99_max, &format!("p99 is at most {p99_max:?}"))
}

/// Times, sorted.
async fn time(host: &Host, rounds: usize) -> Vec<Duration> {
    let asked = action("SystemInfo", &[]).expect("an action");
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begun = Instant::now();
        let answer = host.command(&asked, PATIENCE).await.expect("an answer");
        times.push(begun.elapsed());
        assert!(answer.success && answer.data["hostname"] != Value::Null, "{answer:?}");
    }
    times.sort_unstable();
    times
}

/// An agent that takes commands, and its host.
struct Lab {
    host: Host,
    agent: Running,
    _folder: TempDir,
}

impl Lab {
    async fn start(metrics: Option<&str>) -> Self {
        let folder = TempDir::new().expect("a folder");
        let pipelines = folder.path().join("pipelines");
        fs::create_dir(&pipelines).expect("a folder");
        let state = folder.path().join("state").display().to_string();
        let agent = format!("[state]\nfolder = {state:?}\n[log]\nlevel = \"warn\"\n");
        let commands = format!("{COMMANDS}{PLACES}");
        let shipped = include_str!("../pipelines/metrics.toml");
        let mut files = vec![("commands", commands.as_str()), ("agent", &agent)];
        match metrics {
            Some(text) => files.extend(["one", "two", "three", "four"].map(|name| (name, text))),
            None => files.push(("metrics", shipped)),
        }
        for (name, text) in files {
            fs::write(pipelines.join(name).with_extension("toml"), text).expect("a file");
        }
        let socket = folder.path().join("host.sock");
        let listener = Listener::bind(&socket).await.expect("a socket");
        let agent = spawn(&socket, &pipelines);
        let secret = Secret::new(SECRET.as_bytes().to_vec());
        let host = listener.accept(Settings { secret, keep_alive: None }).await.expect("a guest");
        let lab = Self { host, agent, _folder: folder };
        time(&lab.host, 50).await;
        lab
    }
}

fn spawn(socket: &Path, pipelines: &Path) -> Running {
    let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--port", &format!("unix:{}", socket.display()), "--pipelines"])
        .arg(pipelines)
        .env_clear()
        .env("INFINISERVICE_SHARED_SECRET", SECRET)
        .stdin(Stdio::null())
        .spawn();
    Running(agent.expect("the agent"))
}
