//! What the host says inside its envelopes, as typed data. Checks the shape of a message and not its
//! sense, and does not verify who sent it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

/// One message of the host.
pub enum Message {
    /// A known action.
    Safe(SafeCommand),
    /// A command line for a shell.
    Unsafe(UnsafeCommand),
    /// Asks for a sign of life with this number.
    KeepAliveRequest(u64),
    /// Tells that ours with this number was read.
    KeepAliveResponse(u64),
    /// Scripts to run, each by itself readable or not.
    PendingScripts {
        /// In the order in which they came.
        scripts: Vec<Result<PendingScript, Unreadable>>,
        /// Whether the host says that it understands [`AGENT_EVENT`].
        understands: bool,
    },
    /// Asks for metrics now.
    Metrics,
}

/// `SafeCommand`.
#[derive(Deserialize)]
pub struct SafeCommand {
    /// The host's name for it.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// The action and its arguments.
    pub command_type: Arguments,
    /// Always null from today's host; arguments for another.
    pub params: Option<Box<Arguments>>,
    /// Seconds; 0 where the host has less than one left.
    pub timeout: Option<Number>,
}

/// An action object. One that has its arguments in a `params` of its own, as `ServiceControl` has
/// them, is the same thing inside itself; what no known action needs is not kept. It is not to be shown: it may hold
/// the password of `JoinDomain`.
#[derive(Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are the host's words, and each means what it says")]
pub struct Arguments {
    pub action: Option<String>,
    pub params: Option<Box<Arguments>>,
    pub service: Option<String>,
    pub service_name: Option<String>,
    pub operation: Option<String>,
    pub package: Option<String>,
    pub query: Option<String>,
    pub limit: Option<u32>,
    pub sort_by: Option<String>,
    pub pid: Option<u32>,
    pub force: Option<bool>,
    pub warning_threshold: Option<f64>,
    pub critical_threshold: Option<f64>,
    pub check_name: Option<String>,
    pub targets: Option<Vec<String>>,
    pub app_id: Option<String>,
    pub app_name: Option<String>,
    pub domain: Option<String>,
    pub username: Option<String>,
    pub password: Option<Password>,
    pub ou: Option<String>,
    pub computer_name: Option<String>,
    pub restart_after: Option<bool>,
    pub cleanup_level: Option<String>,
    pub sanitize_user_data: Option<bool>,
    pub shutdown_after: Option<bool>,
}

/// A password, overwritten when it is dropped, and shown nowhere.
#[derive(Deserialize)]
#[serde(from = "Value")]
pub struct Password(pub zeroize::Zeroizing<String>);

/// What is no text is none, so that no error repeats it.
impl From<Value> for Password {
    fn from(value: Value) -> Self {
        Self(match value {
            Value::String(text) => text.into(),
            _ => String::new().into(),
        })
    }
}

/// `UnsafeCommand`.
#[derive(Deserialize)]
pub struct UnsafeCommand {
    /// The host's name for it.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// The command line.
    pub raw_command: String,
    /// Which shell, in any case.
    pub shell: Option<String>,
    /// Seconds; 0 where the host has less than one left.
    pub timeout: Option<Number>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Added to the environment.
    pub env_vars: Option<BTreeMap<String, Value>>,
    /// As whom.
    pub run_as: Option<String>,
}

/// One of the `scripts` of `pending_scripts_response`.
#[derive(Deserialize)]
pub struct PendingScript {
    /// The host's name for this run of it.
    #[serde(deserialize_with = "id")]
    pub execution_id: String,
    /// What it is called.
    pub script_name: Option<String>,
    /// Its text.
    pub script_content: String,
    /// Which shell, in any case.
    pub shell: Option<String>,
    /// Values for its variables.
    pub input_values: Option<BTreeMap<String, Value>>,
    /// Seconds.
    pub timeout_seconds: Option<Number>,
    /// As whom.
    pub run_as: Option<String>,
}

/// A message that was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id, where one can be made out: then it can be answered.
    pub id: Option<String>,
    /// Its type, where one can be made out.
    pub kind: Option<String>,
    /// The action that a `SafeCommand` asks for, where one can be made out.
    pub action: Option<String>,
    /// Why, as the end of a sentence. It does not repeat what the message says, which may be secret.
    pub why: String,
}

/// What a host that knows this agent's own messages says that it `understands`, beside the scripts that it hands out.
/// Today's host says nothing of the kind.
pub const AGENT_EVENT: &str = "agent_event";

/// The longest id that is taken; the host's have 36 bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Reads one message.
///
/// ```
/// use infiniservice::wire::inbound::{Message, parse};
///
/// let message = parse(r#"{"type":"keep_alive_request","sequence_number":7}"#);
/// assert!(matches!(message, Ok(Message::KeepAliveRequest(7))));
/// let unreadable = parse(r#"{"type":"SafeCommand","id":"a1","command_type":[["#).err().unwrap();
/// assert_eq!(unreadable.id.as_deref(), Some("a1"));
/// ```
///
/// # Errors
/// What was not understood; with its id whenever that can be made out, even from half a message.
pub fn parse(payload: &str) -> Result<Message, Unreadable> {
    let message = match typed::<Kind<'_>>(payload)?.kind.as_deref() {
        Some("SafeCommand") => Message::Safe(typed(payload)?),
        Some("UnsafeCommand") => Message::Unsafe(typed(payload)?),
        Some("keep_alive_request") => {
            Message::KeepAliveRequest(typed::<KeepAlive>(payload)?.sequence_number)
        }
        Some("keep_alive_response") => {
            Message::KeepAliveResponse(typed::<KeepAlive>(payload)?.sequence_number)
        }
        Some("pending_scripts_response") => {
            let PendingScripts { scripts, understands } = typed(payload)?;
            let scripts = scripts.unwrap_or_default();
            let understands = understands.iter().flatten().any(|what| what == AGENT_EVENT);
            Message::PendingScripts {
                scripts: scripts.into_iter().map(script).collect(),
                understands,
            }
        }
        Some("Metrics") => Message::Metrics,
        Some(_) => return Err(unreadable(payload, "its type is not known to this agent")),
        None => return Err(unreadable(payload, "it has no type")),
    };
    match &message {
        Message::Safe(SafeCommand { id, .. }) | Message::Unsafe(UnsafeCommand { id, .. })
            if !is_id(id) =>
        {
            Err(unreadable(payload, "its id is empty, too long, or not of printable characters"))
        }
        _ => Ok(message),
    }
}

/// An id as an answer carries it, where this is one. A number is taken for its text, because the `id` of an
/// answer is a text: 22 is answered as "22".
pub fn id_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Whether an answer can carry this id, and a journal keep it.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= ID_BYTES_MAX && !text.chars().any(char::is_control)
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct KeepAlive {
    sequence_number: u64,
}

#[derive(Deserialize)]
struct PendingScripts {
    scripts: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "list_or_none")]
    understands: Option<Vec<Value>>,
}

/// Whatever else stands there says nothing.
fn list_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<Value>>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::Array(list) => Some(list),
        _ => None,
    })
}

fn typed<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, Unreadable> {
    serde_json::from_str(payload).map_err(|error| unreadable(payload, &plain(&error)))
}

fn script(value: Value) -> Result<PendingScript, Unreadable> {
    let id = value.get("execution_id").and_then(id_of).filter(|id| is_id(id));
    let why = match PendingScript::deserialize(value) {
        Ok(script) if id.is_some() => return Ok(script),
        Ok(_) => "its execution id is empty, too long, or not of printable characters".to_owned(),
        Err(error) => plain(&error),
    };
    Err(Unreadable { id, kind: None, action: None, why })
}

fn unreadable(payload: &str, why: &str) -> Unreadable {
    let readable = |path: &[&str]| text_at(payload, path).filter(|text| is_id(text));
    let kind = readable(&["type"]);
    let is_safe = kind.as_deref() == Some("SafeCommand");
    let action = if is_safe { readable(&["command_type", "action"]) } else { None };
    Unreadable { id: readable(&["id"]), kind, action, why: why.to_owned() }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Value::deserialize(deserializer)?;
    id_of(&value).ok_or_else(|| D::Error::custom("an id is a text or a number"))
}

/// What is wrong, without the values in which serde would show it.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let is_ours = error.is_data()
        && ["missing field", "duplicate field"].iter().any(|known| text.starts_with(known));
    let what = match () {
        () if is_ours => text.split(" at line").next().unwrap_or_default(),
        () if error.is_data() => "a field is not of its kind",
        () if error.is_eof() => "it is cut short",
        () if text.starts_with("recursion") => "it is nested too deep",
        () => "it is not JSON",
    };
    match error.column() {
        0 => what.to_owned(),
        column => format!("{what} (at character {column})"),
    }
}

/// The text or number that `path` leads to, from object to object, in a message that may be broken
/// anywhere after it. The first one counts.
fn text_at(payload: &str, path: &[&str]) -> Option<String> {
    let (mut at, mut depth) = (0, 0_usize);
    // So many keys of the path lead to where we are.
    let mut followed = 0_usize;
    while let Some(found) = payload[at..].find(['"', '{', '[', '}', ']']) {
        at += found;
        match payload.as_bytes()[at] {
            b'"' => {}
            opens_or_closes => {
                depth = match opens_or_closes {
                    b'{' | b'[' => depth + 1,
                    _ => depth.checked_sub(1)?,
                };
                followed = followed.min(depth.saturating_sub(1));
                at += 1;
                continue;
            }
        }
        let (text, length) = scalar(&payload[at..])?;
        at += length;
        let Some(value) = payload[at..].trim_start().strip_prefix(':') else { continue };
        if depth != followed + 1 || path.get(followed) != Some(&text.as_str()) {
            continue;
        }
        let value = value.trim_start();
        if followed + 1 < path.len() {
            followed += usize::from(value.starts_with('{'));
        } else if let Some((text, length)) = scalar(value)
            // A number that the message ends with may have had more digits.
            && (value.starts_with('"') || length < value.len())
        {
            return Some(text);
        }
    }
    None
}

/// The text or number that `json` begins with, and how long it is there.
fn scalar(json: &str) -> Option<(String, usize)> {
    json.starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9')).then_some(())?;
    let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    let text = id_of(&values.next()?.ok()?)?;
    Some((text, values.byte_offset()))
}
