//! Decoding: verified messages become typed, checked requests. All arguments are checked here, so that later stages and
//! actions can rely on them.

pub(crate) mod ack_filter;

mod check;
mod error;

use std::time::Duration;

use serde_json::Number;
use tokio::time::Instant;

pub(crate) use error::DecodeError;

use crate::commands::actions::registry;
use crate::commands::argument::shown;
use crate::commands::request::{
    HostMessage, RAW_COMMAND, RawCommand, Refusal, Request, RequestKind, SCRIPT, Script,
};
use crate::commands::verify::Verified;
use crate::pipeline::{MemoryBudget, Output, SharedReservation, Transform};
#[cfg(doc)]
use crate::wire::inbound::SCRIPTS_TOLD_MAX;
use crate::wire::inbound::{
    self, Message, PendingScript, PendingScripts, SCRIPTS_MAX, SafeCommand, Unreadable,
    UnsafeCommand,
};

/// The error of a command without an action.
const SAFE_COMMAND: &str = "SafeCommand";

/// Variables that come with one command at most.
const VARIABLES_MAX: usize = 256;
/// The longest name of a variable.
const VARIABLE_NAME_MAX: usize = 256;
/// The longest path of a directory (`PATH_MAX` in linux/limits.h, which counts the NUL).
const DIRECTORY_MAX: usize = 4_095;

/// The shortest timeout of a request. The host writes whole seconds, so its 0 means that less than one is left.
pub(crate) const TIMEOUT_MIN: Duration = Duration::from_millis(500);
/// The longest timeout. The policy has the real ceiling; this bound keeps the arithmetic from overflowing.
pub(crate) const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The timeout of a command that has none: the host's default.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// The timeout of a script that has none: the host's default.
pub(crate) const SCRIPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// The error when the memory budget is exhausted.
pub(crate) const NO_MEMORY: &str =
    "too much waits already, and there is no memory for it; ask again when some of it is answered";

/// The approximate memory of a refusal, in bytes.
const REFUSAL_BYTES: usize = 384;

/// Decodes messages into requests.
///
/// # What it promises
/// A command with an id is never dropped: an unknown, unreadable or invalid one becomes an [`HostMessage::Refused`] with
/// the reason. So does a command older than its timeout, which does not run: the host may still wait for it if it is
/// wrong about this machine's clock. A message without an id is dropped as `unreadable`.
///
/// The memory budget is charged with the length of a message before it is decoded; if the budget is exhausted, the message
/// is refused. Of the scripts of one message the first [`SCRIPTS_MAX`] run, the next [`SCRIPTS_TOLD_MAX`] are refused one
/// by one, and the log counts the rest: more completions would crowd out other durable messages.
///
/// Pending scripts do not expire: the host has marked them as running and waits for each.
///
/// ```
/// use infiniservice::internals::commands::decode::Decode;
/// use infiniservice::internals::commands::request::HostMessage;
/// use infiniservice::internals::commands::verify::Verified;
/// use infiniservice::pipeline::{Output, Transform};
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// let payload = r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"Dance"},"timeout":30}"#;
/// let now = Instant::now();
/// let message = Verified { payload: payload.to_owned(), sent_ms: 0, age: Duration::ZERO, received: now };
/// let mut out = Output::default();
/// Decode::default().apply(now, &message, &mut out);
/// let Some(HostMessage::Refused(refusal)) = out.drain().next() else { panic!() };
/// assert_eq!(refusal.error, "the action \"Dance\" is not known to this agent");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Decode {
    budget: MemoryBudget,
}

impl Decode {
    /// Charges requests to `budget`; the default has no limit.
    pub fn within(budget: &MemoryBudget) -> Self {
        Self { budget: budget.clone() }
    }
}

impl Transform for Decode {
    type In = Verified;
    type Out = HostMessage;

    fn apply(&mut self, now: Instant, input: &Verified, out: &mut Output<HostMessage>) {
        let held = self.budget.try_reserve(input.payload.len()).map(SharedReservation::of);
        let scripts = if held.is_some() { SCRIPTS_MAX } else { 0 };
        let asked = match inbound::parse(&input.payload, scripts) {
            Ok(message) => {
                if matches!(&message, Message::PendingScripts(scripts) if scripts.understands) {
                    out.push(HostMessage::Understands);
                }
                asked(message, &Origin { message: input, held }, &self.budget, now)
            }
            Err(Unreadable { id: Some(id), kind, action, why }) => {
                let action = action.or(kind).unwrap_or_else(|| "unknown".to_owned());
                let error = format!("the message was not understood: {why}");
                HostMessage::Refused(Refusal {
                    id,
                    action: shown(&action),
                    error,
                    is_script: false,
                    held: SharedReservation::default(),
                })
            }
            Err(Unreadable { id: None, .. }) => return out.drop_items("unreadable", 1),
        };
        out.push(asked);
    }
}

/// What a request is made from, beside what it says.
struct Origin<'a> {
    message: &'a Verified,
    /// `None` if the memory budget is exhausted.
    held: Option<SharedReservation>,
}

impl Origin<'_> {
    fn held(&self) -> SharedReservation {
        self.held.clone().unwrap_or_default()
    }

    fn request(&self, id: String, kind: RequestKind, timeout: Duration) -> Request {
        let Verified { received, age, .. } = *self.message;
        Request { age, held: self.held(), ..Request::new(id, kind, timeout, received) }
    }
}

fn asked(
    message: Message<'_>,
    from: &Origin<'_>,
    budget: &MemoryBudget,
    now: Instant,
) -> HostMessage {
    let command = match message {
        Message::Safe(command) => safe(command, from),
        Message::Unsafe(command) => raw(command, from),
        Message::KeepAliveRequest(number) => return HostMessage::KeepAlive(number),
        Message::KeepAliveResponse(answer) => return HostMessage::KeepAliveAnswered(answer),
        Message::Metrics => return HostMessage::MetricsNow,
        Message::PendingScripts(scripts) => {
            return HostMessage::Scripts(all(scripts, from, budget));
        }
    };
    match command.and_then(|request| in_time(request, from.message, now)) {
        Ok(request) if from.held.is_some() => HostMessage::Request(request),
        Ok(Request { id, kind, .. }) => {
            let (action, error) = (kind.name().to_owned(), NO_MEMORY.to_owned());
            HostMessage::Refused(Refusal {
                id,
                action,
                error,
                is_script: false,
                held: <_>::default(),
            })
        }
        Err(refusal) => HostMessage::Refused(refusal),
    }
}

/// Those to run, and those that are refused because they are too many. These are charged, too; where there is no
/// room, they are only counted.
fn all(
    scripts: PendingScripts<'_>,
    from: &Origin<'_>,
    budget: &MemoryBudget,
) -> Vec<Result<Request, Refusal>> {
    let PendingScripts { scripts, mut too_many, mut more, .. } = scripts;
    let held = budget.try_reserve(too_many.len() * REFUSAL_BYTES).map(SharedReservation::of);
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

fn safe(command: SafeCommand<'_>, from: &Origin<'_>) -> Result<Request, Refusal> {
    let SafeCommand { id, action, arguments, timeout } = command;
    let name = action.unwrap_or_default();
    match registry::request(&name, arguments) {
        Ok(action) => {
            let kind = RequestKind::Action(action);
            let timeout = time(timeout, TIMEOUT_DEFAULT);
            Ok(from.request(id, kind, timeout))
        }
        Err(error) => {
            let name = if inbound::is_id(&name) { &name } else { SAFE_COMMAND };
            let (action, error) = (shown(name), error.to_string());
            Err(Refusal { id, action, error, is_script: false, held: from.held() })
        }
    }
}

fn raw(command: UnsafeCommand<'_>, from: &Origin<'_>) -> Result<Request, Refusal> {
    let UnsafeCommand { id, raw_command, shell, timeout, working_dir, env_vars, run_as } = command;
    let decoded = || {
        if raw_command.trim().is_empty() {
            return Err(DecodeError::NoCommandLine);
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
            Ok(from.request(id, RequestKind::Raw(raw), timeout))
        }
        Err(error) => {
            let (action, error) = (RAW_COMMAND.to_owned(), error.to_string());
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
    let decoded = || -> Result<Script, DecodeError> {
        Ok(Script {
            name: shown(&script.script_name.unwrap_or_default()),
            content: check::shell_text(script.script_content, "the script")?,
            shell: check::shell(script.shell.as_deref())?,
            inputs: check::variables(script.input_values)?,
            run_as: check::account(script.run_as)?,
        })
    };
    Some(match decoded() {
        Ok(decoded) => {
            let timeout = time(script.timeout_seconds, SCRIPT_TIMEOUT_DEFAULT);
            Ok(from.request(id, RequestKind::Script(decoded), timeout))
        }
        Err(error) => Err(refusal(id, error.to_string())),
    })
}

fn in_time(request: Request, from: &Verified, now: Instant) -> Result<Request, Refusal> {
    let age = from.age + now.saturating_duration_since(from.received);
    if age < request.timeout {
        return Ok(request);
    }
    let action = request.kind.name();
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
