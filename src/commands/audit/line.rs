//! One line of the audit as JSON, with nothing in it that may be a secret. Pure: writes no file.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::task::yield_now;

use crate::commands::actions::ActionRequest;
use crate::commands::actions::plan::{Argument, Value};
use crate::commands::outcome::Outcome;
use crate::commands::request::{Refusal, Request, RequestKind};
use crate::model::Iso8601;
use crate::redact::redact;
use crate::values::hex;
use crate::wire::shown_json;

/// What of a request may be written down: bounded, whatever the request holds.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Subject {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
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
/// So much of a text is hashed before other tasks have their turn.
const PIECE: usize = 128 * 1024;

impl Subject {
    /// Of a request that the rule at `rule` decided on; takes a text of mebibytes in turns with other tasks.
    pub(super) async fn of(request: &Request, rule: &str) -> Self {
        let digest = match text_of(&request.kind) {
            Some(text) => Some(digest_in_turns(text).await),
            None => None,
        };
        Self::with(request, rule, digest)
    }

    /// The same at once.
    pub(super) fn new(request: &Request, rule: &str) -> Self {
        Self::with(request, rule, text_of(&request.kind).map(digest))
    }

    fn with(request: &Request, rule: &str, command: Option<Digest>) -> Self {
        let mut arguments: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut user = "root".to_owned();
        let plan = match &request.kind {
            RequestKind::Action(order) => Some(order.plan()),
            _ => None,
        };
        let force = plan.as_ref().and_then(|plan| plan.force);
        let seen = plan.map_or_else(|| request.kind.arguments(), |plan| plan.arguments);
        for (argument, value) in seen.into_iter().take(MANY) {
            let text = match &value {
                Value::Is(text) => safe(text),
                Value::Everything => "*".to_owned(),
            };
            match argument {
                Argument::User => user = text,
                _ => arguments.entry(argument.name()).or_default().push(text),
            }
        }
        let none = BTreeMap::new();
        let (order, variables) = match &request.kind {
            RequestKind::Action(order) => (Some(order), &none),
            RequestKind::Raw(raw) => (None, &raw.environment),
            RequestKind::Script(script) => (None, &script.inputs),
        };
        if let Some(force) = force {
            arguments.insert("force", vec![force.to_string()]);
        }
        let variables = variables.iter().take(MANY).map(|(name, value)| (safe(name), value.len()));
        Self {
            becomes: order.and_then(ActionRequest::alias_of).map(safe),
            arguments,
            command,
            variables: variables.collect(),
            user: Some(user),
            timeout_ms: Some(millis(request.timeout)),
            rule: Some(safe(rule)),
            ..Self::named(&request.id, request.kind.name())
        }
    }

    /// Of a request of which no more is known.
    pub(super) fn named(id: &str, action: &str) -> Self {
        Self { id: safe(id), action: safe(action), ..Self::default() }
    }

    /// The line that says that `event` happened to it; where it ended, when it began and what came of it.
    pub(super) fn line(
        &self,
        event: &'static str,
        decision: &'static str,
        why: Option<&str>,
        ended: Option<(SystemTime, &Outcome)>,
    ) -> Vec<u8> {
        let why = why.map(safe);
        let ended = ended.map(|(began, outcome)| Ended {
            began: Iso8601::new(began).as_str().to_owned(),
            success: outcome.success,
            exit: outcome.exit_code,
            duration_ms: millis(outcome.took),
            // The true sizes where a program ran.
            stdout_bytes: outcome.output_size.stdout_bytes.max(outcome.stdout.len() as u64),
            stderr_bytes: outcome.output_size.stderr_bytes.max(outcome.stderr.len() as u64),
            truncated: outcome.output_size.truncated,
        });
        let time = Iso8601::new(SystemTime::now());
        json(&Line { time: time.as_str(), event, decision, subject: self, why, ended })
    }
}

/// The line that says that something was asked for that was not understood.
pub(super) fn unclear(refusal: &Refusal) -> Vec<u8> {
    let subject = Subject::named(&refusal.id, &refusal.action);
    subject.line("refused", "unclear", Some(&refusal.error), None)
}

/// The line that says that `count` lines are missing before it.
pub(super) fn gap(count: u64) -> Vec<u8> {
    let time = Iso8601::new(SystemTime::now());
    json(&serde_json::json!({ "time": time.as_str(), "event": "gap", "lines_lost": count }))
}

#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    event: &'static str,
    decision: &'static str,
    #[serde(flatten)]
    subject: &'a Subject,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(flatten)]
    ended: Option<Ended>,
}

#[derive(Serialize)]
struct Ended {
    began: String,
    success: bool,
    exit: Option<i32>,
    duration_ms: u64,
    stdout_bytes: u64,
    stderr_bytes: u64,
    truncated: bool,
}

fn json(line: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and maps of texts: nothing in it can fail.
    let line = serde_json::to_string(line).unwrap_or_default();
    (shown_json(&line) + "\n").into_bytes()
}

/// A text that may be written down: without what looks like a secret, not too long.
fn safe(text: &str) -> String {
    // Cut first to what can matter, so that a long text costs no more than a short one; between two words, so that no
    // half of a secret is left that looks like none.
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

/// What of a request is written down by its length and hash only.
fn text_of(what: &RequestKind) -> Option<&str> {
    match what {
        RequestKind::Action(_) => None,
        RequestKind::Raw(raw) => Some(&raw.command),
        RequestKind::Script(script) => Some(&script.content),
    }
}

fn digest(text: &str) -> Digest {
    digested(text, Sha256::new_with_prefix(text))
}

async fn digest_in_turns(text: &str) -> Digest {
    let mut hash = Sha256::new();
    for piece in text.as_bytes().chunks(PIECE) {
        hash.update(piece);
        if text.len() > PIECE {
            yield_now().await;
        }
    }
    digested(text, hash)
}

fn digested(text: &str, hash: Sha256) -> Digest {
    Digest { bytes: text.len(), sha256: hex(&hash.finalize()[..8]) }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
