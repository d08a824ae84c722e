//! The state that a command flow passes to its successor, so that no request runs twice or is forgotten.
//!
//! # One agent per state folder
//! Two agents that execute requests with the same state folder are a configuration error: each would know half of the
//! scripts that have run, and one spool would stay in memory. So the second does not start, or at a reload does not accept
//! commands, and reports whose folder it is. The lock of the request log decides. It ends with its process: after a
//! `kill -9` it is free, and a service manager restarts a service only when its processes are gone. Waiting for the lock
//! would not help, because an agent does not end by itself. An agent without a secret executes nothing and takes no lock,
//! so it can run beside a service for inspection.

use std::io;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use crate::agent::error::AgentError;
use crate::commands::audit::Audit;
use crate::commands::authorize::CurrentPolicy;
use crate::commands::execute::unit::Units;
use crate::commands::process::{Runner, Settings};
use crate::commands::request_log::{Owner, RequestLog};
use crate::commands::secret::Secret;
use crate::commands::verify::wall_clock_ms;
use crate::config::{self, CommandsFile};
use crate::files::{StateFolder, Untrusted};
use crate::machine_events;
use crate::pipeline::{ConcurrencyLimit, ConcurrencyLimits};
use crate::sinks::Rotation;

/// The state that outlives a command flow. A clone is the same state.
///
/// # Why permits are shared
/// A replaced flow still executes the requests that it has read. With permits of its own, each reload would allow as many
/// commands more as the policy permits. All flows share them; a smaller limit holds once enough commands have ended.
#[derive(Clone)]
pub(crate) struct CommandState {
    /// The request log; in memory without a secret.
    pub log: RequestLog,
    /// The audit file.
    pub audit: Audit,
    /// Starts programs. They end with the agent at the latest, not with a flow.
    pub runner: Runner,
    /// Runs commands in units of their own, where systemd runs the agent; they outlive it.
    pub units: Option<Units>,
    /// Limits the requests that run and wait.
    pub limit: ConcurrencyLimit,
    /// The policy for requests that start from now on.
    pub current_policy: CurrentPolicy,
    /// The last command flow with a secret, which verifies requests if its file is removed.
    pub last: Option<(config::Commands, Secret)>,
    /// The folder of the request log and the audit.
    state: StateFolder,
    runs: bool,
    stop: CancellationToken,
}

impl CommandState {
    /// The state of the first flow. A flow that does not execute (`runs` is false: it has no secret, or is only drawn) gets no
    /// control group, request log or audit. Blocks.
    ///
    /// # Errors
    /// Another agent executes requests with this state folder, or another user can change its files.
    pub(crate) fn begin(
        file: &CommandsFile,
        state: &StateFolder,
        runs: bool,
        stop: &CancellationToken,
    ) -> Result<Self, AgentError> {
        let log = if runs { request_log(&file.audit, state)? } else { RequestLog::in_memory() };
        Ok(Self {
            log,
            audit: audit(&file.audit, state, runs),
            runner: runner(file, runs, stop),
            units: if runs { Units::find(state) } else { None },
            limit: ConcurrencyLimit::new(limits(file)),
            current_policy: CurrentPolicy::default(),
            last: None,
            state: state.clone(),
            runs,
            stop: stop.clone(),
        })
    }

    /// The path of the state folder.
    pub(crate) fn state(&self) -> &std::path::Path {
        self.state.path()
    }

    /// The state for a flow with other settings. Blocks and fails as [`begin`](Self::begin) does. The concurrency limit is
    /// unchanged: [resize](ConcurrencyLimit::resize) it when the flow starts.
    pub(crate) fn under(&self, file: &CommandsFile, runs: bool) -> Result<Self, AgentError> {
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
            units: if is_first { Units::find(&self.state) } else { self.units.clone() },
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

/// The limits of `[execute]`.
pub(crate) fn limits(file: &CommandsFile) -> ConcurrencyLimits {
    ConcurrencyLimits {
        parallel: file.execute.parallel.items(),
        waiting: file.execute.waiting.items(),
    }
}

fn output_bytes(file: &CommandsFile) -> usize {
    usize::try_from(file.execute.output.bytes()).unwrap_or(usize::MAX)
}

/// The audit. With `now` it is opened, so that an error is logged before the first command.
fn audit(audit: &config::Audit, state: &StateFolder, now: bool) -> Audit {
    let file = Audit::new(audit.file(state.path()), rotation(audit), audit.required);
    if now && let Err(error) = file.open() {
        match audit.required {
            true => tracing::error!(%error, "no command runs until the audit file can be written"),
            false => {
                tracing::warn!(%error, "commands run without an audit: its file cannot be written")
            }
        }
    }
    file
}

fn rotation(audit: &config::Audit) -> Rotation {
    Rotation { max_bytes: audit.max_size.bytes(), keep: audit.keep.get() }
}

/// Opens the request log. If it cannot be written, requests that need it are refused, and the host gets the reason.
fn request_log(audit: &config::Audit, state: &StateFolder) -> Result<RequestLog, AgentError> {
    let audit = audit.file(state.path());
    let boot = crate::files::identity::of_this_machine(None).boot_id.unwrap_or_default();
    let owner = Owner { machine: machine_events::identity(Path::new("/")), boot };
    RequestLog::open(state, &audit, owner, wall_clock_ms()).map_err(|error| {
        match (error.kind(), Untrusted::of(&error)) {
            (io::ErrorKind::WouldBlock, _) => AgentError::StateInUse(state.path().to_owned()),
            (_, Some(untrusted)) => AgentError::State(untrusted.clone()),
            (_, None) => AgentError::RequestLog(error),
        }
    })
}
