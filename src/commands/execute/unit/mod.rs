//! A unit of its own for each command, where systemd runs the agent: outside the agent's sandbox, with limits, and not
//! ended with the agent.
//!
//! ```text
//!  agent ── StartTransientUnit, with a socket and a file ──▶ systemd ──▶ infiniservice-run-KEY.service
//!    │                                                                     │ this binary: [`supervisor`]
//!    └─ order, decisions ──▶ [ socket ] ◀─ side effects, output, end ────┤
//!                                                  STATE/runs/KEY ◀─ end ─┘
//! ```
//! The whole request runs in the unit, not only its programs: an action that writes files itself is outside the sandbox
//! too, and one of several steps goes on to its end while the agent is replaced. When the agent stops, it leaves what
//! runs, and the next one reads the end from the file and answers ([`Continued`]).
//!
//! What only reads, or only asks systemd, stays in the agent ([`Action::IN_AGENT`](crate::commands::actions::Action)).
//!
//! # Why not the unit's properties
//! Arguments, variables and texts of a unit can be read by every user over the bus. So the unit is told nothing but the
//! program; the order goes through the socket.

mod manager;
mod message;
pub(crate) mod supervisor;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use self::manager::Service;
use self::message::{FromUnit, Order, Portable, ToUnit, line, monotonic_us, next_of_unit};
use super::machine::{Judge, Machine};
use crate::commands::actions::ActionOutcome;
use crate::commands::outcome::Outcome;
use crate::commands::process::ProgramOutput;
use crate::commands::request::RequestKind;
use crate::commands::request_log::{Continued, EarlierRun};
use crate::commands::systemd;
use crate::files::StateFolder;
use crate::tasks::spawn_blocking;

/// How long an agent that stops waits for what ends at this moment, as where the machine goes down.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long systemd may take to start a unit, and at most half of the time of what is to run there: a busy machine takes
/// seconds.
const START_MAX: Duration = Duration::from_secs(20);
/// After the deadline: until systemd ends a unit that does not end by itself.
const OVERTIME: Duration = Duration::from_secs(30);
/// Processes of one unit, the agent's own there among them.
const TASKS_MAX: u64 = 1_024;
/// Of the machine's memory, what one unit may use: the rest is for the agent and what the machine is there for.
const MEMORY_PERCENT: u32 = 80;
/// Its share where processors are short; a service has 100.
const CPU_WEIGHT: u64 = 50;

/// Makes units.
#[derive(Debug, Clone)]
pub(crate) struct Units {
    continued: Continued,
}

/// Why a request does not run in a unit.
enum NotStarted {
    /// It runs there already.
    Runs,
    /// There is no unit.
    Failed(String),
}

impl Units {
    /// `None` unless this process is a service of the systemd that runs the machine, as root.
    pub(crate) fn find(state: &StateFolder) -> Option<Self> {
        let is_service = std::env::var_os("NOTIFY_SOCKET").is_some_and(|name| !name.is_empty());
        let is_root = rustix::process::geteuid().is_root();
        (is_service && is_root && systemd::is_running())
            .then(|| Self { continued: Continued::of(state) })
    }

    /// Runs a request in a unit of its own, or here where it is one of the agent or systemd starts no unit. `None`: the
    /// agent stops, and the request goes on. `output` has what it wrote, in both cases.
    pub(super) async fn run(
        &self,
        id: &str,
        request: RequestKind,
        deadline: Instant,
        output: &ProgramOutput,
        machine: &Machine,
        judge: Option<Judge<'_>>,
    ) -> Option<ActionOutcome> {
        let Some(portable) = Portable::of(&request) else {
            return Some(machine.run(request, deadline, output, judge).await);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let order = line(&Order {
            request: portable,
            deadline_us: monotonic_us()
                .saturating_add(u64::try_from(left.as_micros()).unwrap_or(u64::MAX)),
            output_bytes: machine.runner.output_bytes(),
            state: machine.state.clone(),
            command_line: machine.command_line,
            is_limited: judge.is_some(),
        });
        match self.start(id, &order, left).await {
            Ok(unit) => unit.attend(output, machine, judge).await,
            Err(NotStarted::Runs) => Some(
                Outcome::refused("it runs already, begun by an earlier run of the agent").into(),
            ),
            Err(NotStarted::Failed(why)) => {
                tracing::warn!(
                    why,
                    "systemd started no unit for a command; it runs within the agent's sandbox"
                );
                let mut done = machine.run(request, deadline, output, judge).await;
                let note = format!(
                    "systemd started no unit for it, so it ran within the agent's sandbox: {why}"
                );
                done.outcome.note([note]);
                Some(done)
            }
        }
    }

    async fn start(&self, id: &str, order: &[u8], left: Duration) -> Result<Unit, NotStarted> {
        let patience = (left / 2).min(START_MAX);
        let (unit, socket, end) = self.prepare(id).await?;
        let name = unit.name.clone();
        let started = spawn_blocking(move || {
            let service = Service {
                name: &name,
                program: &program(),
                arguments: &["infiniservice", supervisor::WORD],
                input: socket.as_fd(),
                output: end.as_fd(),
                runtime_max: left + OVERTIME,
                tasks_max: TASKS_MAX,
                memory_percent: MEMORY_PERCENT,
                cpu_weight: CPU_WEIGHT,
            };
            service.start(patience)
        });
        started.await.map_err(NotStarted::because)?.map_err(NotStarted::because)?;
        unit.begin(order, patience).await
    }

    /// The agent's end of a unit, and what its process gets: the other end of the socket, and the file for the end.
    async fn prepare(&self, id: &str) -> Result<(Unit, StdStream, File), NotStarted> {
        let key = Continued::key(id);
        let (continued, of) = (self.continued.clone(), key.clone());
        let prepared = spawn_blocking(move || {
            let end = continued.create(&of)?;
            let (own, other) = StdStream::pair()?;
            own.set_nonblocking(true)?;
            Ok::<_, io::Error>((own, other, end))
        });
        let (own, other, end) = match prepared.await.map_err(NotStarted::because)? {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(NotStarted::Runs);
            }
            prepared => prepared.map_err(NotStarted::because)?,
        };
        let (lines, out) = UnixStream::from_std(own).map_err(NotStarted::because)?.into_split();
        let unit = Unit {
            name: format!("infiniservice-run-{key}.service"),
            key,
            continued: self.continued.clone(),
            lines: BufReader::new(lines),
            out,
            is_over: false,
        };
        Ok((unit, other, end))
    }
}

impl NotStarted {
    fn because(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Where systemd finds this program, the one that runs, also where its file was replaced since.
fn program() -> PathBuf {
    let own = "/proc/self/exe";
    let same = |path: &PathBuf| {
        let (named, running) = (rustix::fs::stat(path), rustix::fs::stat(own));
        matches!((named, running), (Ok(named), Ok(running))
            if (named.st_dev, named.st_ino) == (running.st_dev, running.st_ino))
    };
    let path = std::fs::read_link(own).ok().filter(same);
    path.unwrap_or_else(|| format!("/proc/{}/exe", std::process::id()).into())
}

/// A request that runs in a unit. Dropping it ends it, unless it is over or left to the next agent.
struct Unit {
    name: String,
    key: String,
    continued: Continued,
    lines: BufReader<OwnedReadHalf>,
    out: OwnedWriteHalf,
    is_over: bool,
}

impl Unit {
    /// Sends the order once the process is there: what was not told what to run has run nothing, and ends by itself.
    async fn begin(mut self, order: &[u8], patience: Duration) -> Result<Self, NotStarted> {
        let none = ProgramOutput::default();
        let said = next_of_unit(&mut self.lines, &none, 0);
        let Ok(Ok(FromUnit::Ready)) = timeout(patience, said).await else {
            let why = format!("its process did not start (journalctl -u {})", self.name);
            return Err(NotStarted::Failed(why));
        };
        self.out.write_all(order).await.map_err(NotStarted::because)?;
        Ok(self)
    }

    async fn attend(
        mut self,
        output: &ProgramOutput,
        machine: &Machine,
        mut judge: Option<Judge<'_>>,
    ) -> Option<ActionOutcome> {
        let most = machine.runner.output_bytes();
        output.begin(most);
        let mut stops = std::pin::pin!(async {
            machine.runner.stopping().await;
            sleep(LAST_WORDS).await;
        });
        loop {
            let said = tokio::select! {
                biased;
                said = next_of_unit(&mut self.lines, output, most) => said,
                () = &mut stops => {
                    self.is_over = true;
                    tracing::info!(unit = self.name, "a command keeps running while the agent stops; the next agent answers it");
                    return None;
                }
            };
            match said {
                Ok(FromUnit::Effects(effects)) => {
                    let why = match judge.take() {
                        Some(judge) => judge(effects).await,
                        None => None,
                    };
                    // Where that does not arrive, the end of the unit is next.
                    let _ = self.out.write_all(&line(&ToUnit::Decided(why))).await;
                }
                Ok(FromUnit::Done(done)) => return Some(self.over(*done).await),
                Ok(FromUnit::Ready | FromUnit::Output { .. }) | Err(_) => {
                    let done = self.lost(output).await;
                    return Some(self.over(done).await);
                }
            }
        }
    }

    /// The end of a unit that went away without saying it: what it wrote to the file, or that it is not known.
    async fn lost(&self, output: &ProgramOutput) -> ActionOutcome {
        let (continued, key) = (self.continued.clone(), self.key.clone());
        match spawn_blocking(move || continued.look(&key)).await {
            Ok(EarlierRun::Ended(done)) => *done,
            _ => {
                let why = format!(
                    "the process that ran it was ended; whether it was done is not known (journalctl -u {})",
                    self.name
                );
                Outcome::lost(why, output).into()
            }
        }
    }

    async fn over(mut self, done: ActionOutcome) -> ActionOutcome {
        self.is_over = true;
        let (continued, key) = (self.continued.clone(), self.key.clone());
        let _ = spawn_blocking(move || continued.remove(&key)).await;
        done
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.out.try_write(&line(&ToUnit::End));
            if let Ok(runtime) = Handle::try_current() {
                let (continued, key) = (self.continued.clone(), std::mem::take(&mut self.key));
                runtime.spawn_blocking(move || continued.remove(&key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::pin::pin;

    use tokio::task::JoinHandle;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::commands::process::{OutputStream, Runner, Settings};
    use crate::commands::request::{RawCommand, Shell};
    use crate::metrics::collect::CommandLine;
    use crate::metrics::latest::Latest;

    const SOON: Duration = Duration::from_secs(60);

    /// Units without a systemd, and what runs beside them.
    struct Lab {
        units: Units,
        machine: Machine,
        _folder: tempfile::TempDir,
    }

    impl Lab {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let units = Units { continued: Continued::of(&StateFolder::at(folder.path())) };
            let runner = Runner::with(Settings::idle(), CancellationToken::new());
            let (latest, command_line) = (Latest::default(), CommandLine::default());
            let state = folder.path().into();
            let machine = Machine { runner, latest, state, command_line, agent: None };
            Self { units, machine, _folder: folder }
        }

        fn order(&self, command: &str) -> zeroize::Zeroizing<Vec<u8>> {
            line(&Order {
                request: Portable::Raw(RawCommand {
                    command: command.to_owned(),
                    shell: Shell::Sh,
                    working_dir: None,
                    environment: Default::default(),
                    run_as: None,
                }),
                deadline_us: monotonic_us() + 1_000_000_000,
                output_bytes: self.machine.runner.output_bytes(),
                state: self.machine.state.clone(),
                command_line: self.machine.command_line,
                is_limited: false,
            })
        }

        /// A unit that runs a command line, and its process, which is a task here.
        async fn run(&self, command: &str) -> (Unit, JoinHandle<io::Result<()>>) {
            let Ok((unit, socket, end)) = self.units.prepare("a").await else { panic!() };
            socket.set_nonblocking(true).unwrap();
            let process = tokio::spawn(supervisor::run(socket, end, Settings::default()));
            let Ok(unit) = unit.begin(&self.order(command), SOON).await else { panic!() };
            (unit, process)
        }

        fn end(&self) -> EarlierRun {
            self.units.continued.look(&Continued::key("a"))
        }
    }

    #[tokio::test]
    async fn an_agent_that_waits_no_longer_has_the_output_so_far_and_the_program_is_ended() {
        let lab = Lab::new();
        let (unit, process) = lab.run("echo begun; echo so >&2; exec sleep 1000").await;
        let output = ProgramOutput::default();
        {
            let mut attended = pin!(unit.attend(&output, &lab.machine, None));
            let has = |stream| output.since(stream, 0).is_some();
            while !(has(OutputStream::Stdout) && has(OutputStream::Stderr)) {
                tokio::select! {
                    _ = &mut attended => panic!("it has ended"),
                    () = output.grown() => {}
                }
            }
        }
        let late = Outcome::late(&output);
        assert_eq!((late.stdout.as_str(), late.stderr.as_str()), ("begun\n", "so\n"));
        assert_eq!(late.exit_code, Some(124));
        process.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn the_end_that_the_unit_says_counts_and_is_in_the_file_for_an_agent_that_is_gone() {
        let lab = Lab::new();
        let (unit, process) = lab.run("head -c 1000000 /dev/zero | tr '\\0' x; exit 3").await;
        let done = unit.attend(&ProgramOutput::default(), &lab.machine, None).await.unwrap();
        let outcome = done.outcome;
        assert_eq!((outcome.exit_code, outcome.output_size.stdout_bytes), (Some(3), 1_000_000));
        assert!(outcome.output_size.truncated && outcome.stdout.contains("left out"));
        process.await.unwrap().unwrap();
        assert!(matches!(lab.end(), EarlierRun::Nothing), "it was answered");

        let (mut unit, process) = lab.run("echo told").await;
        unit.is_over = true;
        drop(unit);
        process.await.unwrap().unwrap();
        let EarlierRun::Ended(done) = lab.end() else { panic!("it has ended") };
        assert_eq!((done.outcome.stdout.as_str(), done.outcome.exit_code), ("told\n", Some(0)));
    }

    #[tokio::test]
    async fn a_process_that_goes_away_has_run_nothing_or_its_end_is_looked_for() {
        let lab = Lab::new();
        let Ok((unit, socket, end)) = lab.units.prepare("a").await else { panic!() };
        drop((socket, end));
        let Err(NotStarted::Failed(why)) = unit.begin(b"", SOON).await else { panic!() };
        assert!(why.starts_with("its process did not start (journalctl -u infiniservice-run-"));

        for end in [None, Some(ActionOutcome::from(Outcome::text("all of it")))] {
            let Ok((unit, mut socket, mut file)) = lab.units.prepare("b").await else { panic!() };
            socket.write_all(&line(&FromUnit::Ready)).unwrap();
            let Ok(unit) = unit.begin(b"", SOON).await else { panic!() };
            let (stream, skipped, bytes) = (OutputStream::Stdout, 0, 5);
            socket.write_all(&line(&FromUnit::Output { stream, skipped, bytes })).unwrap();
            socket.write_all(b"begun").unwrap();
            if let Some(end) = &end {
                file.write_all(&serde_json::to_vec(end).unwrap()).unwrap();
            }
            drop((file, socket));
            let done = unit.attend(&ProgramOutput::default(), &lab.machine, None).await.unwrap();
            match end {
                Some(end) => assert_eq!(done, end),
                None => {
                    assert!(!done.outcome.success && done.outcome.exit_code.is_none());
                    assert_eq!(done.outcome.stdout, "begun");
                    assert!(
                        done.outcome.error.unwrap().contains("whether it was done is not known")
                    );
                }
            }
        }
    }
}
