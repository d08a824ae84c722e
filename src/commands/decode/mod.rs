//! From verified messages to typed, checked requests. Decides nothing about whether they may run, and
//! runs nothing.

pub mod ack_filter;
pub mod argument;
pub mod request;

mod action;
mod check;

use std::time::Duration;

use serde_json::Number;
use tokio::time::Instant;

pub use action::why_not_built;

use crate::commands::authorize::policy;
use crate::commands::decode::request::{ActionRequest, RawCommand, Request, Script, What};
use crate::commands::verify::Verified;
use crate::pipeline::{EventCount, MemoryBudget, Output, Reservation, Transform};
#[cfg(doc)]
use crate::wire::inbound::SCRIPTS_TOLD_MAX;
use crate::wire::inbound::{
    self, Message, PendingScript, PendingScripts, SCRIPTS_MAX, SafeCommand, Unreadable,
    UnsafeCommand,
};

/// What the host asked for. One for each message; where that says what the host understands, that before it.
#[derive(Debug, Clone, PartialEq)]
pub enum HostMessage {
    /// Do this, and answer.
    Request(Request),
    /// Cannot be done, and that is the answer.
    Answer(Refusal),
    /// Answer with a `keep_alive` of the same number, at once.
    KeepAlive(u64),
    /// Our `keep_alive` of this number was read, and everything before it.
    KeepAliveAnswered(u64),
    /// The host understands agent events, and may be asked at any time how far it has read.
    Understands,
    /// Send metrics now.
    MetricsNow,
    /// Run these, and complete each; none where nothing is pending.
    Scripts(Vec<Result<Request, Refusal>>),
}

/// What is answered without being tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// The id of the request, or of the script's execution.
    pub id: String,
    /// The action that was asked for, as far as it was made out; else the type of the message.
    pub action: String,
    /// Why not, as a sentence.
    pub error: String,
    /// Whether it was a pending script, which is completed; else it is answered.
    pub is_script: bool,
    /// What it is charged until it is answered.
    pub held: Reservation,
}

/// The name that a command line for a shell goes by, where an action has its own.
pub const RAW_COMMAND: &str = "UnsafeCommand";
/// What is answered to a known action that was not named.
const SAFE_COMMAND: &str = "SafeCommand";
/// The name that a pending script goes by.
pub const SCRIPT: &str = "Script";

/// The least time a request gets. The host writes whole seconds, so its 0 means that less than one is
/// left to it: 500 ms, as a rule, of which more would be spent on an answer that nobody waits for.
pub const TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// The most; `enforce` has the real ceilings, and this keeps a huge number from being one at all.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What a command without a time gets: the host's own default.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// What a script without a time gets: the host's own default.
pub const SCRIPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// What is answered where the memory budget is spent.
pub const NO_MEMORY: &str =
    "too much waits already, and there is no memory for it; ask again when some of it is answered";

/// About what a refusal takes until it is answered.
const REFUSAL_BYTES: usize = 384;

/// Reads messages and makes requests of them.
///
/// # What it promises
/// A command that bears an id is never dropped: what is unknown, unreadable or has a wrong argument
/// is an [`HostMessage::Answer`] that says why. So is one that is older than its own time: it is not
/// run. Today's host has given it up by then, and an answer costs it a warning; but where its idea of our clock
/// is wrong it still waits, and is told at once. A message that bears no id is lost as `unreadable`.
///
/// What is made of a message is charged to the ledger before it is built, as long as its text. Where there is no room it is
/// refused. Of more scripts than [`SCRIPTS_MAX`] the first are run, the next [`SCRIPTS_TOLD_MAX`] are refused one by
/// one, and the rest is told in the log: so many completions would crowd out all else that must reach the host.
///
/// Pending scripts do not get stale: the host has them marked as running and waits for each.
///
/// ```
/// use infiniservice::commands::decode::{HostMessage, Decode};
/// use infiniservice::commands::verify::Verified;
/// use infiniservice::pipeline::{Output, Transform};
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// let payload = r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"Dance"},"timeout":30}"#;
/// let now = Instant::now();
/// let message = Verified { payload: payload.to_owned(), sent_ms: 0, age: Duration::ZERO, received: now };
/// let mut out = Output::default();
/// Decode::default().apply(now, &message, &mut out);
/// let Some(HostMessage::Answer(refusal)) = out.drain().next() else { panic!() };
/// assert_eq!(refusal.error, "the action \"Dance\" is not known to this agent");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Decode {
    ledger: MemoryBudget,
}

impl Decode {
    /// Charges what it makes to `ledger`; the default has no ceiling.
    pub fn within(ledger: &MemoryBudget) -> Self {
        Self { ledger: ledger.clone() }
    }
}

impl Transform for Decode {
    type In = Verified;
    type Out = HostMessage;

    fn apply(&mut self, now: Instant, input: &Verified, out: &mut Output<HostMessage>) {
        let held = self.ledger.try_charge(input.payload.len()).map(Reservation::of);
        let scripts = if held.is_some() { SCRIPTS_MAX } else { 0 };
        let asked = match inbound::parse(&input.payload, scripts) {
            Ok(message) => {
                if matches!(&message, Message::PendingScripts(scripts) if scripts.understands) {
                    out.push(HostMessage::Understands);
                }
                asked(message, &Origin { message: input, held }, &self.ledger, now)
            }
            Err(Unreadable { id: Some(id), kind, action, why }) => {
                let action = action.or(kind).unwrap_or_else(|| "unknown".to_owned());
                let error = format!("the message was not understood: {why}");
                HostMessage::Answer(Refusal {
                    id,
                    action: check::shown(&action),
                    error,
                    is_script: false,
                    held: Reservation::default(),
                })
            }
            Err(Unreadable { id: None, .. }) => return out.drop_items("unreadable", 1),
        };
        out.push(asked);
    }
}

impl EventCount for HostMessage {}

/// What a request is made from, beside what it says.
struct Origin<'a> {
    message: &'a Verified,
    /// `None` where there is no memory for it.
    held: Option<Reservation>,
}

impl Origin<'_> {
    fn held(&self) -> Reservation {
        self.held.clone().unwrap_or_default()
    }

    fn request(&self, id: String, what: What, timeout: Duration) -> Request {
        let Verified { received, age, .. } = *self.message;
        Request { age, held: self.held(), ..Request::new(id, what, timeout, received) }
    }
}

fn asked(
    message: Message<'_>,
    from: &Origin<'_>,
    ledger: &MemoryBudget,
    now: Instant,
) -> HostMessage {
    let command = match message {
        Message::Safe(command) => safe(*command, from),
        Message::Unsafe(command) => raw(command, from),
        Message::KeepAliveRequest(number) => return HostMessage::KeepAlive(number),
        Message::KeepAliveResponse(number) => return HostMessage::KeepAliveAnswered(number),
        Message::Metrics => return HostMessage::MetricsNow,
        Message::PendingScripts(scripts) => {
            return HostMessage::Scripts(all(scripts, from, ledger));
        }
    };
    match command.and_then(|request| in_time(request, from.message, now)) {
        Ok(request) if from.held.is_some() => HostMessage::Request(request),
        Ok(Request { id, what, .. }) => {
            let (action, error) = (policy::name(&what).to_owned(), NO_MEMORY.to_owned());
            HostMessage::Answer(Refusal {
                id,
                action,
                error,
                is_script: false,
                held: <_>::default(),
            })
        }
        Err(refusal) => HostMessage::Answer(refusal),
    }
}

/// Those to run, and those that are refused because they are too many. These are charged, too; where there is no
/// room, they are only counted.
fn all(
    scripts: PendingScripts<'_>,
    from: &Origin<'_>,
    ledger: &MemoryBudget,
) -> Vec<Result<Request, Refusal>> {
    let PendingScripts { scripts, mut too_many, mut more, .. } = scripts;
    let held = ledger.try_charge(too_many.len() * REFUSAL_BYTES).map(Reservation::of);
    if held.is_none() {
        more += std::mem::take(&mut too_many).len() as u64;
    }
    if !too_many.is_empty() || more > 0 {
        tracing::warn!(
            taken = scripts.len(),
            refused = too_many.len(),
            dropped = more,
            "more scripts came at once than are run; the host is told of those that are refused"
        );
    }
    let error = match from.held {
        Some(_) => {
            format!("no more than {SCRIPTS_MAX} scripts of one message are run; offer it again")
        }
        None => NO_MEMORY.to_owned(),
    };
    let held = held.unwrap_or_default();
    let refused = |id| {
        let (action, error, held) = (SCRIPT.to_owned(), error.clone(), held.clone());
        Err(Refusal { id, action, error, is_script: true, held })
    };
    let read = scripts.into_iter().filter_map(|one| script(one, from));
    read.chain(too_many.into_iter().map(refused)).collect()
}

fn safe(command: SafeCommand, from: &Origin<'_>) -> Result<Request, Refusal> {
    let SafeCommand { id, command_type, params, timeout } = command;
    let arguments = command_type.with(params);
    let name = arguments.action.clone().unwrap_or_default();
    match action::decode(&name, arguments) {
        Ok(action) => {
            let what = What::Action(ActionRequest::new(&name, action));
            let timeout = time(timeout, TIMEOUT_DEFAULT);
            Ok(from.request(id, what, timeout))
        }
        Err(error) => {
            let name = if name.is_empty() { SAFE_COMMAND } else { &name };
            let action = check::shown(name);
            Err(Refusal { id, action, error, is_script: false, held: from.held() })
        }
    }
}

fn raw(command: UnsafeCommand<'_>, from: &Origin<'_>) -> Result<Request, Refusal> {
    let UnsafeCommand { id, raw_command, shell, timeout, working_dir, env_vars, run_as } = command;
    let decoded = || {
        if raw_command.trim().is_empty() {
            return Err("there is no command line to run".to_owned());
        }
        Ok(RawCommand {
            command: check::shell_text(raw_command, "the command line")?,
            shell: check::shell(shell.as_deref())?,
            working_dir: check::directory(working_dir)?,
            environment: check::variables(env_vars)?,
            run_as: check::account(run_as)?,
        })
    };
    match decoded() {
        Ok(raw) => {
            let timeout = time(timeout, TIMEOUT_DEFAULT);
            Ok(from.request(id, What::Raw(raw), timeout))
        }
        Err(error) => {
            let action = RAW_COMMAND.to_owned();
            Err(Refusal { id, action, error, is_script: false, held: from.held() })
        }
    }
}

/// `None` for one that cannot even be named: there is nothing to complete.
fn script(
    script: Result<PendingScript<'_>, Unreadable>,
    from: &Origin<'_>,
) -> Option<Result<Request, Refusal>> {
    let refusal = |id, error| {
        let action = SCRIPT.to_owned();
        Refusal { id, action, error, is_script: true, held: from.held() }
    };
    let script = match script {
        Ok(script) => script,
        Err(Unreadable { id, why, .. }) => {
            return id.map(|id| Err(refusal(id, format!("the script was not understood: {why}"))));
        }
    };
    let id = script.execution_id;
    let decoded = || {
        Ok(Script {
            name: check::shown(&script.script_name.unwrap_or_default()),
            content: check::shell_text(script.script_content, "the script")?,
            shell: check::shell(script.shell.as_deref())?,
            inputs: check::variables(script.input_values)?,
            run_as: check::account(script.run_as)?,
        })
    };
    Some(match decoded() {
        Ok(what) => {
            let timeout = time(script.timeout_seconds, SCRIPT_TIMEOUT_DEFAULT);
            Ok(from.request(id, What::Script(what), timeout))
        }
        Err(error) => Err(refusal(id, error)),
    })
}

fn in_time(request: Request, from: &Verified, now: Instant) -> Result<Request, Refusal> {
    let age = from.age + now.saturating_duration_since(from.received);
    if age < request.timeout {
        return Ok(request);
    }
    let action = policy::name(&request.what);
    let (age, timeout) = (age.as_secs(), request.timeout.as_secs());
    let error = format!(
        "stale: it came {age} s after it was sent and its time is {timeout} s, so it was not run"
    );
    let held = request.held.clone();
    Err(Refusal { action: action.to_owned(), id: request.id, error, is_script: false, held })
}

/// Any number of seconds that can be written, within the bounds.
fn time(seconds: Option<Number>, default: Duration) -> Duration {
    let seconds = seconds
        .and_then(|number| number.as_f64())
        .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, TIMEOUT_MAX.as_secs_f64())));
    seconds.unwrap_or(default).max(TIMEOUT_MIN)
}

#[cfg(test)]
mod tests;
