//! The typed requests of the host.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::commands::actions::ActionRequest;
use crate::commands::argument::Account;
use crate::pipeline::SharedReservation;

/// One request of the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The id that the host gave it; the reply carries the same.
    pub id: String,
    /// What to run.
    pub kind: RequestKind,
    /// The timeout, counted from when the host sent it. Never zero.
    pub timeout: Duration,
    /// When its line was complete.
    pub received: Instant,
    /// Its age at that time.
    pub age: Duration,
    /// Its memory reservation while it waits and runs.
    pub held: SharedReservation,
}

/// The program of a request is terminated when this fraction of its timeout is left …
const LEAD: u32 = 20;
/// … but at most this much before the deadline.
const LEAD_MAX: Duration = Duration::from_millis(500);

impl Request {
    /// A request that was received as soon as it was sent.
    pub fn new(id: String, kind: RequestKind, timeout: Duration, received: Instant) -> Self {
        Self {
            id,
            kind,
            timeout,
            received,
            age: Duration::ZERO,
            held: SharedReservation::default(),
        }
    }

    /// When the host stops waiting: a later reply is lost.
    pub fn deadline(&self) -> Instant {
        self.received + self.timeout.saturating_sub(self.age)
    }

    /// When its program is terminated, so that the reply with the output so far arrives before the
    /// [deadline](Self::deadline): 5 % of the timeout before it, half a second at most.
    pub fn ends_by(&self) -> Instant {
        self.deadline() - self.lead()
    }

    /// When the reply is due at the latest: a quarter of that margin before the [deadline](Self::deadline), which leaves
    /// time to log and send it.
    pub fn answered_by(&self) -> Instant {
        self.deadline() - self.lead() / 4
    }

    fn lead(&self) -> Duration {
        (self.timeout.saturating_sub(self.age) / LEAD).min(LEAD_MAX)
    }
}

/// The variable by which a command line or script requests that its background processes keep running. The wire has no
/// field for it.
pub const DETACH: &str = "INFINISERVICE_DETACH";

impl RequestKind {
    /// Whether its background processes keep running after it ends: [`DETACH`] is set to anything but `0`, `false`, `no` or
    /// an empty value.
    pub fn detach(&self) -> bool {
        let variables = match self {
            Self::Action(_) => return false,
            Self::Raw(raw) => &raw.environment,
            Self::Script(script) => &script.inputs,
        };
        let off = ["", "0", "false", "no"];
        let is_on = |value: &String| !off.iter().any(|off| value.trim().eq_ignore_ascii_case(off));
        variables.get(DETACH).is_some_and(is_on)
    }
}

/// The kinds of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestKind {
    /// One of the known actions (`SafeCommand`).
    Action(ActionRequest),
    /// A command line for a shell (`UnsafeCommand`).
    Raw(RawCommand),
    /// A script that the host had pending.
    Script(Script),
}

impl RequestKind {
    /// Whether it may change the machine; false only for read-only actions.
    pub fn changes_machine(&self) -> bool {
        match self {
            Self::Action(action) => action.plan().changes,
            Self::Raw(_) | Self::Script(_) => true,
        }
    }
}

/// A command line for a shell.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawCommand {
    /// The command line; may hold secrets, so it is never in a log.
    pub command: String,
    /// Which shell.
    pub shell: Shell,
    /// Where it starts; must exist.
    pub working_dir: Option<PathBuf>,
    /// Added to the clean environment; may hold secrets.
    pub environment: BTreeMap<String, String>,
    /// As whom; root where absent.
    pub run_as: Option<Account>,
}

/// A pending script. Its [`Request::id`] is the execution id.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Its name, for the log.
    pub name: String,
    /// Its text; may hold secrets.
    pub content: String,
    /// Which shell.
    pub shell: Shell,
    /// Values for its variables; may hold secrets.
    pub inputs: BTreeMap<String, String>,
    /// As whom; root where absent.
    pub run_as: Option<Account>,
}

/// A shell by the names the host uses, in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shell {
    /// `sh`: also where none is named.
    #[default]
    Sh,
    /// `bash`.
    Bash,
    /// `cmd`: not on Linux.
    Cmd,
    /// `powershell` or `pwsh`.
    PowerShell,
}

impl std::fmt::Debug for RawCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawCommand").field("shell", &self.shell).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}
