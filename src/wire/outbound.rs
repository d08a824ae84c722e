//! What the guest says besides metrics, as ASCII JSON lines. Decides nothing, keeps nothing, reads no
//! clock.
//!
//! Every function appends one line with its newline, at most [`MAX_LINE`] long: texts are cut in
//! their middle to fit, with a note. NUL is left out of every text (the host's database refuses it), and
//! every time is an ISO-8601 text (the only kind from which the host learns our clock).

pub(crate) mod truncate;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use super::ascii::Json;
use super::json_lines::Capped;
use super::{Ascii, MAX_LINE};
use crate::model::Iso8601;
use truncate::{fit, spelled};

/// The longest `data` of an answer: the host keeps 512 KiB and throws a longer one away.
pub const DATA_BYTES_MAX: usize = 500 * 1024;
/// The longest error, name or other short text.
const SHORT_MAX: usize = 8 * 1024;
/// The longest message or context of an event.
const EVENT_MAX: usize = 128 * 1024;
/// The longest id.
const ID_MAX: usize = 1024;

/// The answer to a command.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// The id of the command.
    pub id: &'a str,
    /// Name of the action: what switches the host's own analysis of `data` on.
    pub command_type: &'a str,
    /// Whether it was done.
    pub success: bool,
    /// Exit code, where a program ran.
    pub exit_code: Option<i32>,
    /// What the program said.
    pub stdout: &'a str,
    /// What the program complained of.
    pub stderr: &'a str,
    /// The result.
    pub data: Option<&'a Value>,
    /// Why it was not done.
    pub error: Option<&'a str>,
    /// How long it took.
    pub took: Duration,
}

/// How a script ended.
#[derive(Debug, Clone, Copy)]
pub struct Completion<'a> {
    /// The host's name for this run of it.
    pub execution_id: &'a str,
    /// 0 is success to the host, all else failure.
    pub exit_code: i32,
    /// What it said.
    pub stdout: &'a str,
    /// What it complained of.
    pub stderr: &'a str,
}

/// Something a person at the host may want to know.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentEvent {
    /// How bad it is.
    pub severity: Severity,
    /// Which part of the agent; the host keeps 64 characters.
    pub source: &'static str,
    /// What happened.
    pub message: String,
    /// The script's execution it belongs to.
    pub execution_id: Option<String>,
    /// More, as JSON; left out where it is longer than 128 KiB.
    pub context: Option<Value>,
}

/// How bad an [`AgentEvent`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// For who looks for a fault.
    Debug,
    /// Good to know.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
}

/// The state of a breaker.
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// Whether calls pass.
    pub state: BreakerState,
    /// Failures in a row.
    pub failure_count: u64,
    /// When the last one was.
    pub last_failure: Option<SystemTime>,
    /// When it is tried again, in seconds.
    pub recovery_eta: Option<Duration>,
}

/// Whether calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// They do.
    Closed,
    /// They do not.
    Open,
    /// One is tried.
    HalfOpen,
}

/// A fault of the link or of the agent.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorReport {
    /// A class such as `BROKEN_PIPE`; the host sets its reconnect delay by some of them.
    pub error_type: String,
    /// How bad it is.
    pub gravity: Gravity,
    /// Which attempt this was.
    pub retry_attempt: u32,
    /// How many there will be.
    pub max_retries: u32,
    /// What could be done.
    pub recovery_suggestion: Option<String>,
    /// The machine.
    pub vm_id: String,
}

/// How bad an [`ErrorReport`] is. There is no word for `Fatal`: the host closes the link for good on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// It goes by itself.
    Temporary,
    /// It is tried again.
    Recoverable,
    /// It is not known.
    Unknown,
}

/// Appends the answer to a command.
///
/// - `error` is always there when `success` is false (made of `stderr` or the exit code where none
///   is given), and stands in `stderr` too where that is empty: some readers show one, some the other.
/// - A `data` longer than [`DATA_BYTES_MAX`] is left out, and so the answer is no success: a reader
///   would take a missing list for an empty one. The error says that the thing itself was done.
/// - `stdout` and `stderr` share what is left of the line.
pub fn response(answer: &Response<'_>, at: SystemTime, out: &mut Vec<u8>) {
    let start = out.len();
    let mut json = Json(out);
    json.raw(r#"{"type":"response","id":"#).text(&fit(answer.id, ID_MAX));
    json.raw(r#","command_type":"#).text(&fit(answer.command_type, ID_MAX));
    json.raw(r#","data":"#);
    let is_whole = value(answer.data, DATA_BYTES_MAX, json.0);
    let success = answer.success && is_whole;
    let error = (!success).then(|| if is_whole { why(answer) } else { too_much(answer) });
    json.raw(r#","success":"#).boolean(success);
    json.raw(r#","error":"#).maybe(error.as_deref());
    json.raw(r#","exit_code":"#).signed(answer.exit_code);
    let millis = u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX);
    json.raw(r#","execution_time_ms":"#).integer(millis);
    json.stamp(at);
    let stderr = match &error {
        Some(error) if answer.stderr.is_empty() => error,
        _ => answer.stderr,
    };
    json.streams(start, answer.stdout, stderr);
}

/// Appends how a script ended.
pub fn script_completion(completion: &Completion<'_>, at: SystemTime, out: &mut Vec<u8>) {
    let start = out.len();
    let mut json = Json(out);
    json.raw(r#"{"type":"script_completion","execution_id":"#);
    json.text(&fit(completion.execution_id, ID_MAX));
    json.raw(r#","exit_code":"#).signed(Some(completion.exit_code));
    json.stamp(at);
    json.streams(start, completion.stdout, completion.stderr);
}

/// Appends a sign of life: the echo of a request, or a barrier of our own.
pub fn keep_alive(number: u64, at: SystemTime, out: &mut Vec<u8>) {
    let mut json = Json(out);
    // As the host wrote it, even above what it can count without loss.
    json.raw(r#"{"type":"keep_alive","sequence_number":"#).raw(&number.to_string());
    json.stamp(at).raw("}\n");
}

/// Appends the question for pending scripts.
pub fn request_pending_scripts(vm_id: &str, at: SystemTime, out: &mut Vec<u8>) {
    let mut json = Json(out);
    json.raw(r#"{"type":"request_pending_scripts","vm_id":"#).text(&fit(vm_id, ID_MAX));
    json.raw(r#","request_timestamp":""#).raw(Iso8601::new(at).as_str()).raw("\"");
    json.stamp(at).raw("}\n");
}

/// Appends an event. The host's names for its fields are in camel case here, and only here.
pub fn agent_event(event: &AgentEvent, at: SystemTime, out: &mut Vec<u8>) {
    let severity = match event.severity {
        Severity::Debug => "debug",
        Severity::Info => "info",
        Severity::Warn => "warn",
        Severity::Error => "error",
    };
    let mut json = Json(out);
    json.raw(r#"{"type":"agent_event","severity":""#).raw(severity);
    json.raw(r#"","source":"#).text(&fit(event.source, SHORT_MAX));
    json.raw(r#","message":"#).text(&fit(&event.message, EVENT_MAX));
    json.raw(r#","executionId":"#).maybe(event.execution_id.as_deref());
    json.raw(r#","context":"#);
    value(event.context.as_ref(), EVENT_MAX, json.0);
    json.stamp(at).raw("}\n");
}

/// Appends the state of a breaker.
pub fn circuit_breaker_state(breaker: &Breaker, at: SystemTime, out: &mut Vec<u8>) {
    let state = match breaker.state {
        BreakerState::Closed => "Closed",
        BreakerState::Open => "Open",
        BreakerState::HalfOpen => "HalfOpen",
    };
    let mut json = Json(out);
    json.raw(r#"{"type":"circuit_breaker_state","state":""#).raw(state);
    json.raw(r#"","failure_count":"#).integer(breaker.failure_count);
    if let Some(last) = breaker.last_failure {
        json.raw(r#","last_failure_time":""#).raw(Iso8601::new(last).as_str()).raw("\"");
    }
    if let Some(eta) = breaker.recovery_eta {
        json.raw(r#","recovery_eta_seconds":"#).integer(eta.as_secs());
    }
    json.stamp(at).raw("}\n");
}

/// Appends a report of a fault.
pub fn error_report(report: &ErrorReport, at: SystemTime, out: &mut Vec<u8>) {
    let gravity = match report.gravity {
        Gravity::Temporary => "Temporary",
        Gravity::Recoverable => "Recoverable",
        Gravity::Unknown => "Unknown",
    };
    let mut json = Json(out);
    json.raw(r#"{"type":"error_report","error_type":"#).text(&fit(&report.error_type, SHORT_MAX));
    json.raw(r#","severity":""#).raw(gravity);
    json.raw(r#"","retry_attempt":"#).integer(report.retry_attempt.into());
    json.raw(r#","max_retries":"#).integer(report.max_retries.into());
    if let Some(suggestion) = &report.recovery_suggestion {
        json.raw(r#","recovery_suggestion":"#).text(&fit(suggestion, SHORT_MAX));
    }
    json.raw(r#","vm_id":"#).text(&fit(&report.vm_id, ID_MAX));
    json.stamp(at).raw("}\n");
}

/// What several messages have in common.
impl Json<'_> {
    fn stamp(&mut self, at: SystemTime) -> &mut Self {
        self.raw(r#","timestamp":""#).raw(Iso8601::new(at).as_str()).raw("\"")
    }

    fn signed(&mut self, number: Option<i32>) -> &mut Self {
        match number {
            Some(number) => self.raw(&number.to_string()),
            None => self.raw("null"),
        }
    }

    fn maybe(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(&fit(text, SHORT_MAX)),
            None => self.raw("null"),
        }
    }

    /// Ends the line that began at `start` with both streams, in whatever room is left: half of it
    /// for each, and what one does not need is the other's.
    fn streams(&mut self, start: usize, stdout: &str, stderr: &str) {
        let (before, between, after) = (r#","stdout":"#, r#","stderr":"#, "}\n");
        let frame = before.len() + between.len() + after.len() + 4;
        let room = MAX_LINE.saturating_sub(self.0.len() - start + frame);
        let (out_bytes, err_bytes) = (spelled(stdout), spelled(stderr));
        let out_room = room - err_bytes.min(room / 2);
        let err_room = room - out_bytes.min(out_room);
        self.raw(before).text(&fit(stdout, out_room));
        self.raw(between).text(&fit(stderr, err_room)).raw(after);
    }
}

/// Why a command failed, in words.
fn why<'a>(answer: &Response<'a>) -> Cow<'a, str> {
    let says = |text: &&str| !text.chars().all(|c| c.is_whitespace() || c == '\0');
    let complaint = || answer.stderr.lines().rev().map(str::trim).find(says);
    match (answer.error.filter(says).or_else(complaint), answer.exit_code) {
        (Some(error), _) => Cow::Borrowed(error),
        (None, Some(code)) => Cow::Owned(format!("the program ended with exit code {code}")),
        (None, None) => Cow::Borrowed("it failed and did not say why"),
    }
}

fn too_much<'a>(answer: &Response<'a>) -> Cow<'a, str> {
    let kib = DATA_BYTES_MAX / 1024;
    let left_out =
        format!("its result is longer than the {kib} KiB that can be sent, and was left out");
    Cow::Owned(match answer.success {
        true => format!("it was done, but {left_out}; ask for less"),
        false => format!("{}; {left_out}", why(answer)),
    })
}

/// Appends JSON in ASCII, or `null` where there is none or more than `max` bytes of it; whether it
/// is there as it was given.
fn value(value: Option<&Value>, max: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let capped = Capped { limit: start + max, out };
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(capped, Ascii));
    if written.is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
    written.is_ok()
}

#[cfg(test)]
mod tests;
