//! Runners of each kind, programs with a mark that can be found in `/proc`, and bounds on every test.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use infiniservice::internals::commands::process::{Exit, Finished, Program, Runner, Settings};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longer than any test may take.
const TEST_MAX: Duration = Duration::from_secs(120);
/// Tests that measure this process are alone in it.
static PROCESS: RwLock<()> = RwLock::const_new(());

/// Runs a test beside others.
pub async fn beside(test: impl Future<Output = ()>) {
    let _shared = PROCESS.read().await;
    timeout(TEST_MAX, test).await.unwrap();
}

/// Runs a test while no other runs.
pub async fn alone(test: impl Future<Output = ()>) {
    let _whole = PROCESS.write().await;
    timeout(TEST_MAX, test).await.unwrap();
}

/// Set for a run of all tests without control groups.
pub const WITHOUT_GROUPS: &str = "EXECUTE_WITHOUT_GROUPS";

pub fn settings() -> Settings {
    let trampoline = Some(PathBuf::from(env!("CARGO_BIN_EXE_infiniservice")));
    let groups = std::env::var_os(WITHOUT_GROUPS).is_none();
    Settings { trampoline, groups, ..Settings::default() }
}

/// A runner as the agent has it. Without control groups it takes what is not its own for left behind,
/// so a test starts processes through it only, and all of one process are of one kind.
pub fn runner() -> Runner {
    Runner::with(settings(), CancellationToken::new())
}

pub fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

/// `sh -c TEXT` with ten seconds.
pub fn shell(text: &str) -> Program {
    Program::new("sh", ["-c", text], within(10_000))
}

pub async fn run(runner: &Runner, program: Program) -> Finished {
    runner.run(program).await.unwrap()
}

/// What a shell says, when all is well.
pub async fn said(runner: &Runner, text: &str) -> String {
    let finished = run(runner, shell(text)).await;
    assert_eq!((finished.exit, finished.stderr.text.as_str()), (Exit::Code(0), ""), "{text}");
    finished.stdout.text
}

pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root can do this");
    }
    root
}

/// A number of seconds that no other process sleeps.
pub struct Mark(String);

impl Mark {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("3600.{}{number:05}", std::process::id()))
    }

    /// Processes that have it as an argument.
    pub fn alive(&self) -> Vec<u32> {
        let pids = pids();
        let has = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|argument| argument == self.0.as_bytes())
        };
        pids.into_iter().filter(has).collect()
    }

    pub async fn appears(&self) {
        until("it starts", || !self.alive().is_empty()).await;
    }

    pub async fn goes(&self) {
        until("it is gone", || self.alive().is_empty()).await;
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

pub fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Waits for what another process brings about, for at most 10 s.
pub async fn until(what: &str, done: impl Fn() -> bool) {
    let end = within(10_000);
    while !done() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
