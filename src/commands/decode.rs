//! From verified messages to typed, checked requests. Decides nothing about whether they may run, and
//! runs nothing.

mod action;
mod check;

use std::time::Duration;

use serde_json::Number;
use tokio::time::Instant;

pub use action::why_not_built;

use super::policy;
use super::request::{Order, RawCommand, Request, Script, What};
use super::verify::Verified;
use crate::pipeline::{Emit, Transform, Weigh};
use crate::wire::inbound::{self, Message, PendingScript, SafeCommand, Unreadable, UnsafeCommand};

/// What the host asked for. One for each message; where that says what the host understands, that before it.
#[derive(Debug, Clone, PartialEq)]
pub enum Asked {
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The id of the request, or of the script's execution.
    pub id: String,
    /// The action that was asked for, as far as it was made out; else the type of the message.
    pub action: String,
    /// Why not, as a sentence.
    pub error: String,
    /// Whether it was a pending script, which is completed; else it is answered.
    pub is_script: bool,
}

/// The name that a command line for a shell goes by, where an action has its own.
pub const RAW_COMMAND: &str = "UnsafeCommand";
/// What is answered to a known action that was not named.
const SAFE_COMMAND: &str = "SafeCommand";
/// The name that a pending script goes by.
pub const SCRIPT: &str = "Script";

/// The least time a request gets. The host writes whole seconds, so its 0 means that less than one is
/// left to it; more than this would be spent on an answer that nobody waits for.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The most; `enforce` has the real ceilings, and this keeps a huge number from being one at all.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What a command without a time gets: the host's own default.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// What a script without a time gets: the host's own default.
pub const SCRIPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
/// How much older than its own time a command may seem before it is refused. The host stamps by our
/// clock as it learned it from lines of ours, and those may have waited; an error of its must not
/// refuse a command that is in time.
pub const STALE_SLACK: Duration = Duration::from_secs(2);

/// Reads messages and makes requests of them.
///
/// # What it promises
/// A command that bears an id is never dropped: what is unknown, unreadable or has a wrong argument
/// is an [`Asked::Answer`] that says why. So is one that is older than its own time: it is not
/// run. Today's host has given it up by then, and an answer costs it a warning; but where its idea of our clock
/// is wrong it still waits, and is told at once. A message that bears no id is lost as `unreadable`.
///
/// Pending scripts do not get stale: the host has them marked as running and waits for each.
///
/// ```
/// use infiniservice::commands::decode::{Asked, Decode};
/// use infiniservice::commands::verify::Verified;
/// use infiniservice::pipeline::{Emit, Transform};
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// let payload = r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"Dance"},"timeout":30}"#;
/// let now = Instant::now();
/// let message = Verified { payload: payload.to_owned(), sent_ms: 0, age: Duration::ZERO, received: now };
/// let mut out = Emit::default();
/// Decode.apply(now, &message, &mut out);
/// let Some(Asked::Answer(refusal)) = out.drain().next() else { panic!() };
/// assert_eq!(refusal.error, "the action \"Dance\" is not known to this agent");
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Decode;

impl Transform for Decode {
    type In = Verified;
    type Out = Asked;

    fn apply(&mut self, now: Instant, input: &Verified, out: &mut Emit<Asked>) {
        let asked = match inbound::parse(&input.payload) {
            Ok(message) => {
                if matches!(&message, Message::PendingScripts { understands: true, .. }) {
                    out.push(Asked::Understands);
                }
                asked(message, input, now)
            }
            Err(Unreadable { id: Some(id), kind, action, why }) => {
                let action = action.or(kind).unwrap_or_else(|| "unknown".to_owned());
                let error = format!("the message was not understood: {why}");
                Asked::Answer(Refusal {
                    id,
                    action: check::shown(&action),
                    error,
                    is_script: false,
                })
            }
            Err(Unreadable { id: None, .. }) => return out.lose("unreadable", 1),
        };
        out.push(asked);
    }
}

impl Weigh for Asked {}

fn asked(message: Message, from: &Verified, now: Instant) -> Asked {
    let command = match message {
        Message::Safe(command) => safe(command, from),
        Message::Unsafe(command) => raw(command, from),
        Message::KeepAliveRequest(number) => return Asked::KeepAlive(number),
        Message::KeepAliveResponse(number) => return Asked::KeepAliveAnswered(number),
        Message::Metrics => return Asked::MetricsNow,
        Message::PendingScripts { scripts, .. } => {
            return Asked::Scripts(
                scripts.into_iter().filter_map(|one| script(one, from)).collect(),
            );
        }
    };
    match command.and_then(|request| in_time(request, from, now)) {
        Ok(request) => Asked::Request(request),
        Err(refusal) => Asked::Answer(refusal),
    }
}

fn safe(command: SafeCommand, from: &Verified) -> Result<Request, Refusal> {
    let SafeCommand { id, command_type, params, timeout } = command;
    let arguments = command_type.with(params);
    let name = arguments.action.clone().unwrap_or_default();
    match action::decode(&name, arguments) {
        Ok(action) => {
            let what = What::Action(Order::new(&name, action));
            let timeout = time(timeout, TIMEOUT_DEFAULT);
            Ok(Request { id, what, timeout, received: from.received })
        }
        Err(error) => {
            let name = if name.is_empty() { SAFE_COMMAND } else { &name };
            Err(Refusal { id, action: check::shown(name), error, is_script: false })
        }
    }
}

fn raw(command: UnsafeCommand, from: &Verified) -> Result<Request, Refusal> {
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
            Ok(Request { id, what: What::Raw(raw), timeout, received: from.received })
        }
        Err(error) => Err(Refusal { id, action: RAW_COMMAND.to_owned(), error, is_script: false }),
    }
}

/// `None` for one that cannot even be named: there is nothing to complete.
fn script(
    script: Result<PendingScript, Unreadable>,
    from: &Verified,
) -> Option<Result<Request, Refusal>> {
    let refusal = |id, error| Refusal { id, action: SCRIPT.to_owned(), error, is_script: true };
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
            Ok(Request { id, what: What::Script(what), timeout, received: from.received })
        }
        Err(error) => Err(refusal(id, error)),
    })
}

fn in_time(request: Request, from: &Verified, now: Instant) -> Result<Request, Refusal> {
    let age = from.age + now.saturating_duration_since(from.received);
    if age <= request.timeout + STALE_SLACK {
        return Ok(request);
    }
    let action = policy::name(&request.what);
    let (age, timeout) = (age.as_secs(), request.timeout.as_secs());
    let error = format!(
        "stale: it came {age} s after it was sent and its time is {timeout} s, so it was not run"
    );
    Err(Refusal { action: action.to_owned(), id: request.id, error, is_script: false })
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
