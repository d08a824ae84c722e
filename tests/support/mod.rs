//! What the tests and benches of the whole daemon share: the program as a child, its files and what it uses, and
//! a host at a Unix socket.
#![allow(dead_code)] // each user takes what it needs
#![allow(clippy::unwrap_used)] // what cannot go on has failed

pub mod flows;
pub mod nats;
pub mod prometheus;
mod usage;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use infiniservice::host::{RawCommand, Shell};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

/// No test waits longer for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What `call` gives as soon as it gives something.
pub async fn soon<T, E, F: Future<Output = Result<T, E>>>(what: &str, call: impl Fn() -> F) -> T {
    within(PATIENCE, what, call).await
}

/// The same where it may take longer.
pub async fn within<T, E, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    what: &str,
    call: impl Fn() -> F,
) -> T {
    let late = Instant::now() + limit;
    loop {
        if let Ok(value) = call().await {
            return value;
        }
        assert!(Instant::now() < late, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A socket that nobody listens at. One that was bound and closed might be open for a moment more in a program that
/// another test is starting.
pub fn leave_socket(path: impl AsRef<Path>) {
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, path.as_ref(), FileType::Socket, mode, 0).unwrap();
}

/// Whether `tool` is there, with a line that says so where not. Where everything must run (`CI`, `INFINISERVICE_REQUIRE_VM`), a
/// missing one fails.
pub fn has(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").output().is_ok();
    let is_set =
        |name| std::env::var(name).is_ok_and(|value| !["", "0", "false"].contains(&&*value));
    let must = is_set("CI") || is_set("INFINISERVICE_REQUIRE_VM");
    assert!(there || !must, "{tool} is missing");
    if !there {
        eprintln!("NOT RUN: {tool} is missing");
    }
    there
}

/// A folder for one test, with a host's socket in it.
pub struct Place {
    pub folder: TempDir,
    pub listener: UnixListener,
}

impl Place {
    pub fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("host.sock")).unwrap();
        Self { folder, listener }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("host.sock")
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, running `pipelines` against this host.
    pub fn run(&self, pipelines: &Path, more: &[(&str, &str)]) -> Running {
        let port = format!("unix:{}", self.socket().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        command.args(["run", "--port", &port, "--pipelines"]).arg(pipelines);
        command.env_clear().envs(more.iter().copied());
        Running(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The next agent that connects.
    pub fn host(&self) -> BufReader<UnixStream> {
        self.listener.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    return BufReader::new(stream);
                }
                Err(_) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
                Err(error) => panic!("no agent came: {error}"),
            }
        }
    }
}

/// The program; killed when dropped.
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn log(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.0.stderr.take().unwrap())
    }

    /// Its exit code, or none where a signal ended it; and what it said.
    pub fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut log).unwrap();
        }
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The next line that is not blank.
pub fn line(host: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        assert!(host.read_line(&mut line).unwrap() > 0, "the agent has gone");
        if line != "\n" {
            return line;
        }
    }
}

/// A command line for `sh`.
pub fn raw(line: &str) -> RawCommand {
    RawCommand {
        raw_command: line.to_owned(),
        shell: Some(Shell::Sh),
        working_dir: None,
        env_vars: BTreeMap::new(),
        run_as: None,
    }
}
