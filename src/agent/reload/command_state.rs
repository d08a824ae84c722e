//! What outlives a command flow, so that nothing is done twice or forgotten when another takes its place.
//! Does not know the port.
//!
//! # One agent for a state folder
//! Two agents that do what a host asks and have one state folder are a mistake in the files: each would know half of
//! the scripts that have run, and the spool of one would be in memory for ever. So the second does not start (nor
//! take up commands at a reload), and says whose folder it is. It is known by the lock of the request log, which
//! goes with its process however that ends: who is started again after a `kill -9` finds it free, and a service is
//! started again when nothing of it is left. Waiting for it would be no help: an agent does not end by itself.
//! An agent without a secret does nothing for a host and takes no lock, so one can be run beside a service for a
//! look.

use std::io;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::commands::authorize::InForce;
use crate::commands::process::{Runner, Settings};
use crate::commands::request_log::audit::Audit;
use crate::commands::request_log::{Owner, RequestLog};
use crate::commands::verify::secret::Secret;
use crate::commands::verify::wall_clock_ms;
use crate::config::{self, CommandsFile};
use crate::files::{StateFolder, Untrusted};
use crate::machine_events;
use crate::pipeline::{ConcurrencyLimit, ConcurrencyLimits};
use crate::sinks::Rotation;

/// What a command flow hands on to the next. A copy is the same.
///
/// # Why the room is one
/// A flow that was replaced answers what it has taken, however long that takes. With places of its own each
/// reload would let as many commands more run as the policy allows; so all flows share the places and the
/// seats, and a smaller number holds once enough of those that run have ended.
#[derive(Clone)]
pub struct CommandState {
    /// What was asked for; in memory where nothing is signed.
    pub log: RequestLog,
    /// The audit file.
    pub audit: Audit,
    /// Starts programs; only the end of the agent ends them.
    pub runner: Runner,
    /// Places for what runs.
    pub room: ConcurrencyLimit,
    /// The policy that holds for what begins to run.
    pub in_force: InForce,
    /// The flow that was unlocked last: whose signature holds at its port if its file is removed.
    pub last: Option<(config::Commands, Secret)>,
    /// Where all of it is on disk.
    state: StateFolder,
    runs: bool,
    stop: CancellationToken,
}

impl CommandState {
    /// For the first flow. A flow that `runs` nothing (it is locked, or a picture) has no control group, no
    /// request log and no audit made for it. Blocks.
    ///
    /// # Errors
    /// Another agent that runs something has the state folder, or somebody else can change what is in it.
    pub fn begin(
        file: &CommandsFile,
        state: &StateFolder,
        runs: bool,
        stop: &CancellationToken,
    ) -> Result<Self, String> {
        let log = if runs { request_log(&file.audit, state)? } else { RequestLog::in_memory() };
        Ok(Self {
            log,
            audit: audit(&file.audit, state, runs),
            runner: runner(file, runs, stop),
            room: ConcurrencyLimit::new(places(file)),
            in_force: InForce::default(),
            last: None,
            state: state.clone(),
            runs,
            stop: stop.clone(),
        })
    }

    /// Where the state folder is.
    pub fn state(&self) -> &std::path::Path {
        self.state.path()
    }

    /// For a flow with other settings. Blocks, and fails, as above. The room is still as it was: [`ConcurrencyLimit::resize`] it when the
    /// flow begins.
    pub fn under(&self, file: &CommandsFile, runs: bool) -> Result<Self, String> {
        let is_first = runs && !self.runs;
        let audit = match audit(&file.audit, &self.state, false) {
            same if same.path() == self.audit.path() && !is_first => {
                self.audit.under(rotation(&file.audit), file.audit.required)
            }
            _ => audit(&file.audit, &self.state, runs),
        };
        let log = if is_first { request_log(&file.audit, &self.state)? } else { self.log.clone() };
        Ok(Self {
            log,
            audit,
            runner: match is_first {
                true => runner(file, runs, &self.stop),
                false => self.runner.keeping(output_bytes(file)),
            },
            runs: runs || self.runs,
            ..self.clone()
        })
    }
}

fn runner(file: &CommandsFile, runs: bool, stop: &CancellationToken) -> Runner {
    let settings = if runs { Settings::agent() } else { Settings::idle() };
    Runner::with(Settings { output_bytes: output_bytes(file), ..settings }, stop.clone())
}

/// How many at once, and how many may wait.
pub fn places(file: &CommandsFile) -> ConcurrencyLimits {
    ConcurrencyLimits {
        parallel: file.execute.parallel.items(),
        waiting: file.execute.waiting.items(),
    }
}

fn output_bytes(file: &CommandsFile) -> usize {
    usize::try_from(file.execute.output.bytes()).unwrap_or(usize::MAX)
}

/// The audit; `now` it is opened, so that what is wrong with it is told before the first command.
fn audit(audit: &config::Audit, state: &StateFolder, now: bool) -> Audit {
    let file = Audit::new(audit.file(state.path()), rotation(audit), audit.required);
    if now && let Err(error) = file.open() {
        match audit.required {
            true => tracing::error!(%error, "no command will run until it can be written down"),
            false => tracing::warn!(%error, "commands will run without being written down"),
        }
    }
    file
}

fn rotation(audit: &config::Audit) -> Rotation {
    Rotation { max_bytes: audit.max_size.bytes(), keep: audit.keep.get() }
}

/// What was asked for; where that cannot be written, nothing starts that it must be on the disk for, and the host is
/// told why.
fn request_log(audit: &config::Audit, state: &StateFolder) -> Result<RequestLog, String> {
    let audit = audit.file(state.path());
    let boot = crate::agent::identity::of_this_machine(None).boot_id.unwrap_or_default();
    let owner = Owner { machine: machine_events::identity(Path::new("/")), boot };
    RequestLog::open(state, &audit, owner, wall_clock_ms()).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => format!(
            "another agent runs with the state folder {}, and two would run a script twice; stop it, or give \
             this one a folder of its own (--state DIR, or in agent.toml: [state] folder = …)",
            state.path().display()
        ),
        _ if Untrusted::of(&error).is_some() => format!("cannot use the state folder: {error}"),
        _ => format!("cannot read what was asked for before: {error}"),
    })
}
