//! From outcomes to frames: the last step of the command flow. Decides nothing, and does not see
//! that each id is answered once: whoever dispatches does.

pub mod sink;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;

use crate::commands::decode::{RAW_COMMAND, Refusal};
use crate::commands::execute::outcome::Outcome;
use crate::model::Frame;
use crate::pipeline::{EventCount, MemoryBudget, Output, Transform};
use crate::spool::Kind;
use crate::wire::outbound::{self, AgentEvent, Breaker, Completion, ErrorReport, Response};

/// What the agent says to the host, metrics aside.
#[derive(Debug, Clone, PartialEq)]
pub enum Outbound {
    /// The answer to a command.
    Response {
        /// Its id.
        id: String,
        /// The name of its action; [`RAW_COMMAND`] for a command line.
        action: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// How a script ended.
    Completed {
        /// The id of its execution.
        execution_id: String,
        /// What came of it.
        outcome: Outcome,
    },
    /// A sign of life with this number.
    KeepAlive(u64),
    /// A metrics line as it goes, because the host asked for one now.
    Metrics(Bytes),
    /// Which scripts are pending?
    ScriptsPlease {
        /// Of this machine.
        vm_id: String,
    },
    /// Something a person may want to know.
    Event(AgentEvent),
    /// The state of a breaker.
    Breaker(Breaker),
    /// A fault.
    Report(ErrorReport),
}

/// What `command_type` of an answer says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandType {
    /// The name of the action: switches on the host's own analysis of what comes back.
    #[default]
    Action,
    /// `safe` or `unsafe`, as the first guests said.
    Safe,
}

/// Spells what is told, a line each, in a frame of its own: an answer waits for no other.
///
/// # The books
/// The unit of a [`Frame`] is the reading. A reply counts as one, so that what the port takes,
/// writes and loses of them adds up; it is a frame of weight 1.
///
/// ```
/// use infiniservice::commands::reply::{CommandType, Reply, Outbound};
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
    ledger: MemoryBudget,
}

/// A line for the host, and whether it must be read.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// The line.
    pub frame: Frame,
    /// What it says, where it must be read by some host; else it is for the host that is there now.
    pub must: Option<Kind>,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
}

impl EventCount for Spoken {
    fn weight(&self) -> u64 {
        self.frame.weight()
    }
}

/// What the line buffer keeps between replies.
const KEPT: usize = 16 * 1024;
/// Exit code of a script that did not run or ended by no exit code of its own.
const EXIT_NONE: i32 = -1;

impl Reply {
    /// With this kind of `command_type`.
    pub fn new(command_type: CommandType) -> Self {
        let ledger = MemoryBudget::default();
        Self { command_type, clock: SystemTime::now, line: Vec::new(), ledger }
    }

    /// Charges each line to `ledger`.
    pub fn charging(mut self, ledger: &MemoryBudget) -> Self {
        self.ledger = ledger.clone();
        self
    }

    /// With another wall clock: for a test.
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }
}

impl Transform for Reply {
    type In = Outbound;
    type Out = Spoken;

    fn apply(&mut self, now: Instant, input: &Outbound, out: &mut Output<Spoken>) {
        self.line.clear();
        encode(input, self.command_type, (self.clock)(), &mut self.line);
        let bytes = self.ledger.hold(Bytes::copy_from_slice(&self.line));
        let frame = Frame { bytes, readings: 1, oldest: input.asked().unwrap_or(now) };
        out.push(Spoken { frame, must: input.must(), request: input.request() });
        self.line.clear();
        self.line.shrink_to(KEPT);
    }
}

impl EventCount for Outbound {}

impl Outbound {
    /// The same, as the answer to what was asked at that time: it is for the host that asked.
    pub fn asked_at(mut self, received: Instant) -> Self {
        if let Some((_, outcome)) = self.answer() {
            outcome.asked = Some(received);
        }
        self
    }

    /// The id of the command or script that it answers, and what came of that.
    pub(super) fn answer(&mut self) -> Option<(&str, &mut Outcome)> {
        match self {
            Self::Response { id, outcome, .. } | Self::Completed { execution_id: id, outcome } => {
                Some((id, outcome))
            }
            _ => None,
        }
    }

    fn asked(&self) -> Option<Instant> {
        match self {
            Self::Response { outcome, .. } | Self::Completed { outcome, .. } => outcome.asked,
            _ => None,
        }
    }

    /// The request that it answers, as the request log numbers them; 0 where none.
    fn request(&self) -> u32 {
        match self {
            Self::Response { outcome, .. } | Self::Completed { outcome, .. } => outcome.request,
            _ => 0,
        }
    }

    /// What must be read by some host, if not by this one.
    fn must(&self) -> Option<Kind> {
        match self {
            Self::Response { outcome, .. } if outcome.refused => Some(Kind::Refusal),
            Self::Response { .. } => Some(Kind::Response),
            Self::Completed { .. } => Some(Kind::Completion),
            Self::Event(_) => Some(Kind::Event),
            Self::KeepAlive(_)
            | Self::Metrics(_)
            | Self::ScriptsPlease { .. }
            | Self::Breaker(_)
            | Self::Report(_) => None,
        }
    }
}

impl From<Refusal> for Outbound {
    /// What was refused is answered like anything that failed.
    fn from(refusal: Refusal) -> Self {
        let Refusal { id, action, error, is_script, .. } = refusal;
        let outcome = Outcome::refused(error);
        match is_script {
            true => Self::Completed { execution_id: id, outcome },
            false => Self::Response { id, action, outcome },
        }
    }
}

/// What stays of an answer that is given up before a host has read it: whose it was, that the command ran, and
/// how it ended. `None` where `line` is no answer.
///
/// # Why
/// A host that gets no answer asks again, and what it asked for is done twice; one that is told so can look first.
/// It has to be an answer: who asked looks for the id in answers, and the event that tells of losses
/// ([`losses`](crate::commands::notify::drop_report)) is read by people, and knows counts.
pub fn lost(line: &[u8], at: SystemTime) -> Option<Vec<u8>> {
    let Said { id, command_type, success, exit_code } = serde_json::from_slice(line).ok()?;
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
    let mut word = Vec::new();
    outbound::response(&answer, at, &mut word);
    Some(word)
}

/// The id and the action of an answer, as far as its line says so.
pub(crate) fn whose(line: &[u8]) -> Option<(String, String)> {
    let Said { id, command_type, .. } = serde_json::from_slice(line).ok()?;
    Some((id.into_owned(), command_type.into_owned()))
}

/// What of an answer is still known when it is given up.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    command_type: Cow<'a, str>,
    success: bool,
    exit_code: Option<i32>,
}

fn encode(told: &Outbound, command_type: CommandType, at: SystemTime, out: &mut Vec<u8>) {
    match told {
        Outbound::Response { id, action, outcome } => {
            let command_type = match command_type {
                CommandType::Action => action,
                CommandType::Safe if action == RAW_COMMAND => "unsafe",
                CommandType::Safe => "safe",
            };
            let answer = Response {
                id,
                command_type,
                success: outcome.success,
                exit_code: outcome.exit_code,
                stdout: &outcome.stdout,
                stderr: &outcome.stderr,
                data: outcome.data.as_ref(),
                error: outcome.error.as_deref(),
                took: outcome.took,
            };
            outbound::response(&answer, at, out);
        }
        Outbound::Completed { execution_id, outcome } => complete(execution_id, outcome, at, out),
        Outbound::KeepAlive(number) => outbound::keep_alive(*number, at, out),
        Outbound::Metrics(line) => out.extend_from_slice(line),
        Outbound::ScriptsPlease { vm_id } => outbound::request_pending_scripts(vm_id, at, out),
        Outbound::Event(event) => outbound::agent_event(event, at, out),
        Outbound::Breaker(breaker) => outbound::circuit_breaker_state(breaker, at, out),
        Outbound::Report(report) => outbound::error_report(report, at, out),
    }
}

/// The exit code is all by which the host tells success, and there is no field for an error: so a failure
/// never goes out with 0, and its error goes out at the end of `stderr`.
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

    fn line(told: impl Into<Outbound>, command_type: CommandType) -> Value {
        let (mut out, now) = (Output::default(), Instant::now());
        let mut reply = Reply::new(command_type).with_clock(|| SystemTime::UNIX_EPOCH);
        reply.apply(now, &told.into(), &mut out);
        let frames: Vec<_> = out.drain().map(|spoken| spoken.frame).collect();
        assert_eq!((frames.len(), frames[0].weight(), frames[0].oldest), (1, 1, now));
        assert!(frames[0].bytes.is_ascii());
        serde_json::from_slice(&frames[0].bytes).unwrap()
    }

    fn response(action: &str) -> Outbound {
        let took = Duration::from_millis(1_500);
        let outcome = Outcome { exit_code: Some(0), took, ..Outcome::said("hi") };
        Outbound::Response { id: "a1".to_owned(), action: action.to_owned(), outcome }
    }

    fn completed(outcome: Outcome) -> (Value, Value) {
        let told = Outbound::Completed { execution_id: "e1".to_owned(), outcome };
        let line = line(told, CommandType::Action);
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
        assert_eq!(spoken.must, Some(Kind::Response));
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
        let must = |outcome| {
            Outbound::Response { id: "a1".to_owned(), action: "OsInfo".to_owned(), outcome }.must()
        };
        assert_eq!(must(Outcome::refused("no")), Some(Kind::Refusal));
        assert_eq!(must(Outcome::failed("no")), Some(Kind::Response));
    }

    #[test]
    fn a_script_that_failed_never_ends_with_0_and_says_why() {
        assert_eq!(completed(Outcome::said("x")), (json!(0), json!("")));
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
        let outcome = Outcome::said("x".repeat(1 << 20));
        let told = Outbound::Response { id: "a".to_owned(), action: "A".to_owned(), outcome };
        let mut out = Output::default();
        reply.apply(Instant::now(), &told, &mut out);
        let bytes = out.drain().next().unwrap().frame.bytes.len();
        assert!((crate::wire::MAX_LINE - 64..=crate::wire::MAX_LINE).contains(&bytes), "{bytes}");
        assert!(reply.line.capacity() <= KEPT);
    }
}
