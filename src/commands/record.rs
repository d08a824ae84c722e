//! One line of the audit as JSON, with nothing in it that may be a secret. Pure: writes no file.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::catalogue::Argument;
use super::decode::Refusal;
use super::outcome::Outcome;
use super::policy::{self, Value};
use super::redact::redact;
use super::request::{Action, Order, Request, What};
use super::unended::Unended;
use crate::model::Iso8601;

/// How a request ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// Whether it was done.
    pub success: bool,
    /// Exit code of the program, where one ran.
    pub exit: Option<i32>,
    /// How long it took.
    pub took: Duration,
    /// What the program wrote to standard output, in bytes.
    pub stdout_bytes: u64,
    /// What it wrote to standard error, in bytes.
    pub stderr_bytes: u64,
    /// Whether the host got less than that.
    pub truncated: bool,
}

/// With the true sizes where a program ran, else by what is in the outcome.
impl From<&Outcome> for Ended {
    fn from(outcome: &Outcome) -> Self {
        Self {
            success: outcome.success,
            exit: outcome.exit_code,
            took: outcome.took,
            stdout_bytes: outcome.said.stdout_bytes.max(outcome.stdout.len() as u64),
            stderr_bytes: outcome.said.stderr_bytes.max(outcome.stderr.len() as u64),
            truncated: outcome.said.truncated,
        }
    }
}

/// What happened to a request.
pub(super) enum Event<'a> {
    Begin,
    End(&'a Ended),
    Refused { allowed: bool, why: &'a str },
}

/// What of a request may be written down: bounded, whatever the request holds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Record {
    #[serde(skip)]
    since: SystemTime,
    id: String,
    action: String,
    /// The name of what is done, where it was asked for by another.
    #[serde(skip_serializing_if = "Option::is_none")]
    becomes: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    arguments: BTreeMap<&'static str, Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Digest>,
    /// Names of variables and inputs, with the lengths of their values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    variables: BTreeMap<String, usize>,
    user: String,
    timeout_ms: u64,
    rule: String,
}

/// A text that is not written down.
#[derive(Debug, Clone, Serialize)]
struct Digest {
    bytes: usize,
    /// The first 16 digits.
    sha256: String,
}

/// The most characters of one text, and the most of several.
const TEXT: usize = 256;
const MANY: usize = 32;

impl Record {
    /// The record of a request that the rule at `rule` decided on.
    pub(super) fn new(now: SystemTime, request: &Request, rule: &str) -> Self {
        let mut arguments: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut user = "root".to_owned();
        for (argument, value) in policy::arguments(&request.what).into_iter().take(MANY) {
            let text = match &value {
                Value::Is(text) => safe(text),
                Value::Everything => "*".to_owned(),
            };
            match argument {
                Argument::User => user = text,
                _ => arguments.entry(argument.name()).or_default().push(text),
            }
        }
        let order = match &request.what {
            What::Action(order) => Some(order),
            What::Raw(_) | What::Script(_) => None,
        };
        if let Some(Action::ProcessKill { force, .. } | Action::RebootSystem { force }) =
            order.map(|order| &order.action)
        {
            arguments.insert("force", vec![force.to_string()]);
        }
        let none = BTreeMap::new();
        let (command, variables) = match &request.what {
            What::Action(_) => (None, &none),
            What::Raw(raw) => (Some(&raw.command), &raw.environment),
            What::Script(script) => (Some(&script.content), &script.inputs),
        };
        let variables = variables.iter().take(MANY).map(|(name, value)| (safe(name), value.len()));
        Self {
            since: now,
            id: safe(&request.id),
            action: safe(policy::name(&request.what)),
            becomes: order.and_then(Order::becomes).map(safe),
            arguments,
            command: command.map(|text| digest(text)),
            variables: variables.collect(),
            user,
            timeout_ms: millis(request.timeout),
            rule: safe(rule),
        }
    }

    /// The line that says that `event` happened.
    pub(super) fn line(&self, now: SystemTime, event: &Event<'_>) -> Vec<u8> {
        let (time, since) = (Iso8601::new(now), Iso8601::new(self.since));
        let ended = match event {
            Event::End(ended) => Some(Result {
                began: since.as_str(),
                success: ended.success,
                exit: ended.exit,
                duration_ms: millis(ended.took),
                stdout_bytes: ended.stdout_bytes,
                stderr_bytes: ended.stderr_bytes,
                truncated: ended.truncated,
            }),
            _ => None,
        };
        let (event, allowed, why) = match event {
            Event::Begin => ("begin", true, None),
            Event::End(_) => ("end", true, None),
            Event::Refused { allowed, why } => ("refused", *allowed, Some(safe(why))),
        };
        let decision = if allowed { "allowed" } else { "denied" };
        json(&Line { time: time.as_str(), event, decision, request: self, why, ended })
    }

    /// The line that says that something was asked for that was not understood.
    pub(super) fn unclear(now: SystemTime, refusal: &Refusal) -> Vec<u8> {
        let why = Some(safe(&refusal.error));
        let (id, action) = (safe(&refusal.id), safe(&refusal.action));
        let (time, event, decision) = (Iso8601::new(now), "refused", "unclear");
        json(&Short { time: time.as_str(), event, decision, id, action, began: None, why })
    }

    /// The line that says that nobody knows how a request ended.
    pub(super) fn lost(now: SystemTime, unended: &Unended, why: &str) -> Vec<u8> {
        let (id, action) = (unended.id.clone(), unended.action.clone());
        let (time, began) = (Iso8601::new(now), Some(unended.began.as_str()));
        let (time, event, decision) = (time.as_str(), "lost", "allowed");
        json(&Short { time, event, decision, id, action, began, why: Some(safe(why)) })
    }

    /// The line that says that an answer went to nobody.
    pub(super) fn undelivered(now: SystemTime, id: &str, action: &str, why: &str) -> Vec<u8> {
        let (time, event, decision) = (Iso8601::new(now), "undelivered", "allowed");
        let (time, id, action) = (time.as_str(), safe(id), safe(action));
        json(&Short { time, event, decision, id, action, began: None, why: Some(safe(why)) })
    }

    /// The line that says that `count` lines are missing before it.
    pub(super) fn gap(now: SystemTime, count: u64) -> Vec<u8> {
        json(&Gap { time: Iso8601::new(now).as_str(), event: "gap", lines_lost: count })
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    event: &'static str,
    decision: &'static str,
    #[serde(flatten)]
    request: &'a Record,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(flatten)]
    ended: Option<Result<'a>>,
}

/// Of a request of which no more is known.
#[derive(Serialize)]
struct Short<'a> {
    time: &'a str,
    event: &'static str,
    decision: &'static str,
    id: String,
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    began: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Serialize)]
struct Result<'a> {
    began: &'a str,
    success: bool,
    exit: Option<i32>,
    duration_ms: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    truncated: bool,
}

#[derive(Serialize)]
struct Gap<'a> {
    time: &'a str,
    event: &'static str,
    lines_lost: u64,
}

fn json(line: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and maps of texts: nothing in it can fail.
    let mut line = serde_json::to_vec(line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// A text that may be written down: without what looks like a secret, not too long.
fn safe(text: &str) -> String {
    // Cut first to what can matter, so that a long text costs no more than a short one; between two
    // words, so that no half of a secret is left that looks like none.
    let text = match text.floor_char_boundary(8 * TEXT) {
        most if most < text.len() => {
            text[..most].rsplit_once(char::is_whitespace).map_or("", |cut| cut.0)
        }
        _ => text,
    };
    let text = redact(text);
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

fn digest(text: &str) -> Digest {
    let hash = Sha256::digest(text);
    let sha256 = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Digest { bytes: text.len(), sha256 }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;
    use tokio::time::Instant;

    use super::super::request::{Order, ServiceOperation};
    use super::super::words::ServiceName;
    use super::*;

    #[test]
    fn what_was_asked_for_by_another_name_is_written_down_by_both() {
        let service = ServiceName::new("ssh").expect("a name of a service");
        let action = Action::ServiceControl { service, operation: ServiceOperation::Restart };
        let line = |order: Order| -> Json {
            let (id, timeout) = ("1".to_owned(), Duration::from_secs(1));
            let request = Request::new(id, What::Action(order), timeout, Instant::now());
            let line = Record::new(SystemTime::UNIX_EPOCH, &request, "commands.toml:3")
                .line(SystemTime::UNIX_EPOCH, &Event::Begin);
            serde_json::from_slice(&line).expect("a line is JSON")
        };
        let asked = line(Order::new("RestartServices", action.clone()));
        assert_eq!(
            (&asked["action"], &asked["becomes"]),
            (&"RestartServices".into(), &"ServiceControl".into())
        );
        assert_eq!(asked["arguments"]["operation"][0], "restart");
        let own = line(action.into());
        assert!(own["action"] == "ServiceControl" && own.get("becomes").is_none());
    }
}
