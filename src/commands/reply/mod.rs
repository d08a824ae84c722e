//! Replies: outbound messages become frames, the last step of the command flow. [`sink`] hands them to the port.

pub(crate) mod sink;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use crate::commands::outcome::Outcome;
use crate::commands::request::{RAW_COMMAND, Refusal};
use crate::model::Frame;
use crate::pipeline::{EventCount, MemoryBudget, Output, Transform};
use crate::spool::MessageKind;
use crate::wire::outbound::{self, AgentEvent, Breaker, Completion, ErrorReport, Response};

/// A message to the host, periodic metrics aside.
#[derive(Debug, Clone, PartialEq)]
pub enum Outbound {
    /// The reply to a command.
    Response {
        /// Its id.
        id: String,
        /// The name of its action; [`RAW_COMMAND`] for a command line.
        action: String,
        /// Its outcome.
        outcome: Outcome,
    },
    /// The completion of a script.
    ScriptCompletion {
        /// The id of its execution.
        execution_id: String,
        /// Its outcome.
        outcome: Outcome,
    },
    /// A keep-alive with this number.
    KeepAlive(u64),
    /// An encoded metrics line that the host requested.
    Metrics(Bytes),
    /// Requests the pending scripts.
    RequestPendingScripts {
        /// The id of this machine.
        vm_id: String,
    },
    /// An event for the operator.
    Event(AgentEvent),
    /// The state of a circuit breaker.
    BreakerState(Breaker),
    /// An error report.
    ErrorReport(ErrorReport),
}

/// The value of `command_type` in a reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandType {
    /// The name of the action, by which the host analyses the result.
    #[default]
    Action,
    /// `safe` or `unsafe`, as the first guests sent.
    Safe,
}

/// Encodes each message as one line in a frame of its own, so that no reply waits for another.
///
/// # Counters
/// The unit of a [`Frame`] is the reading. A reply counts as one reading, so that the counters of the port add up.
///
/// ```
/// use infiniservice::internals::commands::reply::{CommandType, Reply, Outbound};
/// use infiniservice::pipeline::{Output, Transform};
/// use std::time::SystemTime;
/// use tokio::time::Instant;
///
/// let mut out = Output::default();
/// let mut reply = Reply::new(CommandType::Action).with_clock(|| SystemTime::UNIX_EPOCH);
/// reply.apply(Instant::now(), &Outbound::KeepAlive(7), &mut out);
/// let expected = r#"{"type":"keep_alive","sequence_number":7,"timestamp":"1970-01-01T00:00:00.000Z"}"#;
/// assert_eq!(out.drain().next().unwrap().frame.bytes, format!("{expected}\n"));
/// ```
#[derive(Debug)]
pub struct Reply {
    command_type: CommandType,
    clock: fn() -> SystemTime,
    line: Vec<u8>,
    memory_budget: MemoryBudget,
}

/// An encoded message, and whether it is durable.
#[derive(Debug, Clone)]
pub struct OutboundFrame {
    /// The line.
    pub frame: Frame,
    /// The kind of a durable message; `None` if it is best-effort, for the connected host only.
    pub durable: Option<MessageKind>,
    /// The number in the request log of the request that it replies to; 0 if there is none.
    pub request: u32,
}

impl EventCount for OutboundFrame {
    fn weight(&self) -> u64 {
        self.frame.weight()
    }
}

/// Bytes of capacity that the line buffer keeps between replies.
const KEPT: usize = 16 * 1024;
/// Exit code of a script that did not run, or that has no exit code of its own.
const EXIT_NONE: i32 = -1;

impl Reply {
    /// Encodes `command_type` this way.
    pub fn new(command_type: CommandType) -> Self {
        let memory_budget = MemoryBudget::default();
        Self { command_type, clock: SystemTime::now, line: Vec::new(), memory_budget }
    }

    /// Charges each line to `memory_budget`.
    pub fn charged_to(mut self, memory_budget: &MemoryBudget) -> Self {
        self.memory_budget = memory_budget.clone();
        self
    }

    /// Uses another wall clock, for a test.
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }
}

impl Transform for Reply {
    type In = Outbound;
    type Out = OutboundFrame;

    fn apply(&mut self, now: Instant, input: &Outbound, out: &mut Output<OutboundFrame>) {
        self.line.clear();
        encode(input, self.command_type, (self.clock)(), &mut self.line);
        let bytes = self.memory_budget.hold(Bytes::copy_from_slice(&self.line));
        let frame = Frame::new(bytes, 1, input.requested_at().unwrap_or(now));
        out.push(OutboundFrame { frame, durable: input.durable_kind(), request: input.request() });
        self.line.clear();
        self.line.shrink_to(KEPT);
    }
}

impl EventCount for Outbound {}

impl Outbound {
    /// Sets when the request was received, which ties the reply to the host connected then.
    pub fn received_at(mut self, received: Instant) -> Self {
        if let Some((_, outcome)) = self.answer() {
            outcome.requested_at = Some(received);
        }
        self
    }

    /// The id and the outcome of the command or script that it replies to.
    pub(super) fn answer(&mut self) -> Option<(&str, &mut Outcome)> {
        match self {
            Self::Response { id, outcome, .. }
            | Self::ScriptCompletion { execution_id: id, outcome } => Some((id, outcome)),
            _ => None,
        }
    }

    fn requested_at(&self) -> Option<Instant> {
        match self {
            Self::Response { outcome, .. } | Self::ScriptCompletion { outcome, .. } => {
                outcome.requested_at
            }
            _ => None,
        }
    }

    /// The number in the request log of the request that it replies to; 0 if there is none.
    fn request(&self) -> u32 {
        match self {
            Self::Response { outcome, .. } | Self::ScriptCompletion { outcome, .. } => {
                outcome.request
            }
            _ => 0,
        }
    }

    /// The kind of a durable message: some host must acknowledge it, if not this one.
    fn durable_kind(&self) -> Option<MessageKind> {
        match self {
            Self::Response { outcome, .. } if outcome.refused => Some(MessageKind::Refusal),
            Self::Response { .. } => Some(MessageKind::Response),
            Self::ScriptCompletion { .. } => Some(MessageKind::Completion),
            Self::Event(_) => Some(MessageKind::Event),
            Self::KeepAlive(_)
            | Self::Metrics(_)
            | Self::RequestPendingScripts { .. }
            | Self::BreakerState(_)
            | Self::ErrorReport(_) => None,
        }
    }
}

impl From<Refusal> for Outbound {
    /// A refusal is a failed reply.
    fn from(refusal: Refusal) -> Self {
        let Refusal { id, action, error, is_script, .. } = refusal;
        let outcome = Outcome::refused(error);
        match is_script {
            true => Self::ScriptCompletion { execution_id: id, outcome },
            false => Self::Response { id, action, outcome },
        }
    }
}

/// The tombstone of an evicted reply: its id, that the command ran, and whether it succeeded. `None` if `answer_line` is
/// no reply.
///
/// # Why
/// A host that gets no reply sends the request again, and it runs twice; with the tombstone it can check first. The
/// tombstone is a reply itself, because the host looks for the id in replies; the event about drops
/// ([`drop_report`](crate::commands::notify::drop_report)) has counts only and is for people.
pub(crate) fn lost(answer_line: &[u8], at: SystemTime) -> Option<Vec<u8>> {
    let AnswerHeader { id, command_type, success, exit_code } =
        serde_json::from_slice(answer_line).ok()?;
    let error = match success {
        true => "its result is lost, because the spool was full; the command ran, and was done",
        false => "its result is lost, because the spool was full; the command ran, and failed",
    };
    let answer = Response {
        id: &id,
        command_type: &command_type,
        success: false,
        exit_code,
        stdout: "",
        stderr: "",
        data: None,
        error: Some(error),
        took: Duration::ZERO,
    };
    let mut line = Vec::new();
    outbound::response(&answer, at, &mut line);
    Some(line)
}

/// The id and the action of an encoded reply; `None` if the line is no reply.
pub(crate) fn id_and_action(line: &[u8]) -> Option<(String, String)> {
    let AnswerHeader { id, command_type, .. } = serde_json::from_slice(line).ok()?;
    Some((id.into_owned(), command_type.into_owned()))
}

/// The fields of an encoded reply that its tombstone repeats.
#[derive(Deserialize)]
struct AnswerHeader<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    command_type: Cow<'a, str>,
    success: bool,
    exit_code: Option<i32>,
}

fn encode(message: &Outbound, command_type: CommandType, at: SystemTime, out: &mut Vec<u8>) {
    match message {
        Outbound::Response { id, action, outcome } => {
            let command_type = match command_type {
                CommandType::Action => action,
                CommandType::Safe if action == RAW_COMMAND => "unsafe",
                CommandType::Safe => "safe",
            };
            outbound::response(&outcome.response(id, command_type), at, out);
        }
        Outbound::ScriptCompletion { execution_id, outcome } => {
            complete(execution_id, outcome, at, out)
        }
        Outbound::KeepAlive(number) => outbound::keep_alive(*number, at, out),
        Outbound::Metrics(line) => out.extend_from_slice(line),
        Outbound::RequestPendingScripts { vm_id } => {
            outbound::request_pending_scripts(vm_id, at, out)
        }
        Outbound::Event(event) => outbound::agent_event(event, at, out),
        Outbound::BreakerState(breaker) => outbound::circuit_breaker_state(breaker, at, out),
        Outbound::ErrorReport(report) => outbound::error_report(report, at, out),
    }
}

/// Encodes a completion. The host sees success by the exit code alone, and there is no field for an error: a failure
/// therefore never has exit code 0, and its error is appended to `stderr`.
fn complete(execution_id: &str, outcome: &Outcome, at: SystemTime, out: &mut Vec<u8>) {
    let exit_code = match (outcome.success, outcome.exit_code) {
        (true, code) => code.unwrap_or(0),
        (false, None | Some(0)) => EXIT_NONE,
        (false, Some(code)) => code,
    };
    let mut stderr = Cow::Borrowed(outcome.stderr.as_str());
    if let Some(error) = outcome.error.as_deref().filter(|_| !outcome.success)
        && !stderr.contains(error)
    {
        let stderr = stderr.to_mut();
        if !stderr.is_empty() && !stderr.ends_with('\n') {
            stderr.push('\n');
        }
        stderr.push_str(error);
    }
    let completion =
        Completion { execution_id, exit_code, stdout: &outcome.stdout, stderr: &stderr };
    outbound::script_completion(&completion, at, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line(message: impl Into<Outbound>, command_type: CommandType) -> Value {
        let (mut out, now) = (Output::default(), Instant::now());
        let mut reply = Reply::new(command_type).with_clock(|| SystemTime::UNIX_EPOCH);
        reply.apply(now, &message.into(), &mut out);
        let frames: Vec<_> = out.drain().map(|spoken| spoken.frame).collect();
        assert_eq!((frames.len(), frames[0].weight(), frames[0].oldest), (1, 1, now));
        assert!(frames[0].bytes.is_ascii());
        serde_json::from_slice(&frames[0].bytes).unwrap()
    }

    fn response(action: &str) -> Outbound {
        let took = Duration::from_millis(1_500);
        let outcome = Outcome { exit_code: Some(0), took, ..Outcome::text("hi") };
        Outbound::Response { id: "a1".to_owned(), action: action.to_owned(), outcome }
    }

    fn completed(outcome: Outcome) -> (Value, Value) {
        let message = Outbound::ScriptCompletion { execution_id: "e1".to_owned(), outcome };
        let line = line(message, CommandType::Action);
        (line["exit_code"].clone(), line["stderr"].clone())
    }

    #[test]
    fn the_command_type_is_the_action_or_the_word_of_the_first_guests() {
        for (kind, action, word) in [
            (CommandType::Action, "OsInfo", "OsInfo"),
            (CommandType::Action, RAW_COMMAND, RAW_COMMAND),
            (CommandType::Safe, "OsInfo", "safe"),
            (CommandType::Safe, RAW_COMMAND, "unsafe"),
        ] {
            let line = line(response(action), kind);
            assert_eq!(line["command_type"], word);
            assert_eq!((&line["id"], &line["success"]), (&json!("a1"), &json!(true)));
            assert_eq!((&line["execution_time_ms"], &line["stdout"]), (&json!(1500), &json!("hi")));
        }
    }

    #[test]
    fn a_refusal_is_an_answer_and_that_of_a_script_a_completion() {
        let refusal = |is_script| Refusal {
            id: "a1".to_owned(),
            action: "Script".to_owned(),
            error: "no such thing".to_owned(),
            is_script,
            held: <_>::default(),
        };
        let answer = line(refusal(false), CommandType::Action);
        assert_eq!((&answer["type"], &answer["success"]), (&json!("response"), &json!(false)));
        assert_eq!(
            (&answer["error"], &answer["stderr"]),
            (&json!("no such thing"), &json!("no such thing"))
        );
        let script = line(refusal(true), CommandType::Action);
        assert_eq!(
            (&script["type"], &script["exit_code"]),
            (&json!("script_completion"), &json!(-1))
        );
    }

    #[test]
    fn of_an_answer_that_is_lost_its_id_and_its_end_stay() {
        let mut out = Output::default();
        let mut reply = Reply::new(CommandType::Action).with_clock(|| SystemTime::UNIX_EPOCH);
        reply.apply(Instant::now(), &response("OsInfo"), &mut out);
        let spoken = out.drain().next().unwrap();
        assert_eq!(spoken.durable, Some(MessageKind::Response));
        let word = lost(&spoken.frame.bytes, SystemTime::UNIX_EPOCH).unwrap();
        assert!(word.ends_with(b"\n") && word.len() < crate::spool::TOMBSTONE_MAX);
        let word: Value = serde_json::from_slice(&word).unwrap();
        assert_eq!((&word["id"], &word["command_type"]), (&json!("a1"), &json!("OsInfo")));
        assert_eq!((&word["success"], &word["exit_code"]), (&json!(false), &json!(0)));
        assert!(word["error"].as_str().unwrap().ends_with("the command ran, and was done"));
        assert_eq!(lost(b"{\"type\":\"script_completion\"}\n", SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_refusal_is_known_from_an_answer_of_something_that_ran() {
        let durable = |outcome| {
            Outbound::Response { id: "a1".to_owned(), action: "OsInfo".to_owned(), outcome }
                .durable_kind()
        };
        assert_eq!(durable(Outcome::refused("no")), Some(MessageKind::Refusal));
        assert_eq!(durable(Outcome::failed("no")), Some(MessageKind::Response));
    }

    #[test]
    fn a_script_that_failed_never_ends_with_0_and_says_why() {
        assert_eq!(completed(Outcome::text("x")), (json!(0), json!("")));
        assert_eq!(completed(Outcome::failed("denied")), (json!(-1), json!("denied")));
        let failed = Outcome {
            exit_code: Some(0),
            stderr: "half way".to_owned(),
            ..Outcome::failed("its time was over")
        };
        assert_eq!(completed(failed.clone()), (json!(-1), json!("half way\nits time was over")));
        let late =
            Outcome { exit_code: Some(124), stderr: "its time was over\n".to_owned(), ..failed };
        assert_eq!(completed(late), (json!(124), json!("its time was over\n")));
    }

    #[test]
    fn a_long_reply_leaves_no_long_buffer() {
        let mut reply = Reply::new(CommandType::Action);
        let outcome = Outcome::text("x".repeat(1 << 20));
        let message = Outbound::Response { id: "a".to_owned(), action: "A".to_owned(), outcome };
        let mut out = Output::default();
        reply.apply(Instant::now(), &message, &mut out);
        let bytes = out.drain().next().unwrap().frame.bytes.len();
        assert!((crate::wire::MAX_LINE - 64..=crate::wire::MAX_LINE).contains(&bytes), "{bytes}");
        assert!(reply.line.capacity() <= KEPT);
    }
}
