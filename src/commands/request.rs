//! The messages of the host and the requests in them, typed and checked: what travels from decoding to execution.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::commands::actions::ActionRequest;
use crate::commands::actions::plan::{Argument, Value};
use crate::commands::argument::Account;
use crate::pipeline::{EventCount, SharedReservation};
use crate::wire::inbound::KeepAliveAnswer;

pub use crate::commands::actions::registry::{RAW_COMMAND, SCRIPT};
pub use crate::commands::process::{RawCommand, Script, Shell};

/// A decoded message of the host. One per message; [`Understands`](Self::Understands) may precede it.
#[derive(Debug, Clone, PartialEq)]
pub enum HostMessage {
    /// A request to run, and to reply to.
    Request(Request),
    /// A request that is refused; the refusal is the reply.
    Refused(Refusal),
    /// Reply at once with a `keep_alive` of the same number.
    KeepAlive(u64),
    /// The host acknowledges our `keep_alive` of this number, and everything before it.
    KeepAliveAnswered(KeepAliveAnswer),
    /// The host understands agent events and keep-alives that request an acknowledgement.
    Understands,
    /// Send metrics now.
    MetricsNow,
    /// Pending scripts to run and complete; empty if none are pending.
    Scripts(Vec<Result<Request, Refusal>>),
}

/// A request that is refused without being tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The id of the request, or of the script's execution.
    pub id: String,
    /// The requested action, if it could be read; otherwise the type of the message.
    pub action: String,
    /// The reason, as a sentence.
    pub error: String,
    /// Whether it is a pending script, whose reply is a completion.
    pub is_script: bool,
    /// Its memory reservation until it has a reply.
    pub held: SharedReservation,
}

impl EventCount for HostMessage {}

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
pub(crate) const DETACH: &str = "INFINISERVICE_DETACH";

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
    /// The name of the action that is asked for, as the request has it. Rules match it.
    pub fn name(&self) -> &str {
        match self {
            Self::Action(action) => action.name(),
            Self::Raw(_) => RAW_COMMAND,
            Self::Script(_) => SCRIPT,
        }
    }

    /// The action that this name is an alias of, if it is one. Rules match this name too.
    pub fn alias_of(&self) -> Option<&str> {
        match self {
            Self::Action(action) => action.alias_of(),
            Self::Raw(_) | Self::Script(_) => None,
        }
    }

    /// The arguments that rules can match. One with several values is listed several times; one that the action lacks is
    /// not listed.
    pub fn arguments(&self) -> Vec<(Argument, Value<'_>)> {
        let is = |text: &str| Value::Is(Cow::Owned(text.to_owned()));
        let user = |user: &Option<Account>| {
            (Argument::User, is(user.as_ref().map_or("root", |user| user.as_str())))
        };
        let shell = |shell: Shell| (Argument::Shell, is(shell.name()));
        match self {
            Self::Raw(raw) => {
                let path = raw.working_dir.as_deref().unwrap_or(Path::new("/"));
                vec![shell(raw.shell), (Argument::Path, Value::of_path(path)), user(&raw.run_as)]
            }
            Self::Script(script) => {
                vec![(Argument::Name, is(&script.name)), shell(script.shell), user(&script.run_as)]
            }
            Self::Action(action) => action.plan().arguments,
        }
    }

    /// Whether it may change the machine; false only for read-only actions.
    pub fn changes_machine(&self) -> bool {
        match self {
            Self::Action(action) => action.plan().changes,
            Self::Raw(_) | Self::Script(_) => true,
        }
    }
}
