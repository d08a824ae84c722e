//! What the host says inside its envelopes, as typed data. Checks the shape of a message and not its
//! sense, and does not verify who sent it.
//!
//! # What a message may cost
//! It is looked through as text first (`Raw`), and what is built of it takes no more bytes than its text, however
//! many members, elements or levels that has: arguments of an action are cut off at [`ARGUMENTS_BYTES_MAX`], scripts
//! are counted before they are read, and variables are left as text for the reader to count.

mod arguments;
mod error;

use serde::Deserialize;
use serde_json::{Number, Value};

pub use arguments::Arguments;
pub use error::{MessageError, Place};

use super::raw::{self, Raw};

/// One message of the host.
pub enum Message<'a> {
    /// A known action.
    Safe(SafeCommand<'a>),
    /// A command line for a shell.
    Unsafe(UnsafeCommand<'a>),
    /// Asks for a sign of life with this number.
    KeepAliveRequest(u64),
    /// Tells that ours was read.
    KeepAliveResponse(KeepAliveAnswer),
    /// Scripts to run.
    PendingScripts(PendingScripts<'a>),
    /// Asks for metrics now.
    Metrics,
}

/// `keep_alive_response`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAliveAnswer {
    /// The number of what was read.
    pub number: u64,
    /// The number of the host's connection, if it gives them one.
    pub connection: Option<u64>,
}

/// `SafeCommand`.
pub struct SafeCommand<'a> {
    /// The host's name for it.
    pub id: String,
    /// The name of the action.
    pub action: Option<String>,
    /// Its arguments. The `params` of the command are always null from today's host; arguments for another.
    pub arguments: Arguments<'a>,
    /// Seconds; 0 where the host has less than one left.
    pub timeout: Option<Number>,
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
pub struct UnsafeCommand<'a> {
    /// The host's name for it.
    pub id: String,
    /// The command line.
    pub raw_command: String,
    /// Which shell, in any case.
    pub shell: Option<String>,
    /// Seconds; 0 where the host has less than one left.
    pub timeout: Option<Number>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// Added to the environment: an object.
    pub env_vars: Option<Raw<'a>>,
    /// As whom.
    pub run_as: Option<String>,
}

/// `pending_scripts_response`.
#[derive(Default)]
pub struct PendingScripts<'a> {
    /// Those that were read, in the order of the message, each by itself readable or not.
    pub scripts: Vec<Result<PendingScript<'a>, Unreadable>>,
    /// The ids of those after them, of which no more was read.
    pub too_many: Vec<String>,
    /// How many came that nothing was read of.
    pub more: u64,
    /// Whether the host says that it understands [`AGENT_EVENT`].
    pub understands: bool,
}

/// One of the `scripts` of `pending_scripts_response`.
pub struct PendingScript<'a> {
    /// The host's name for this run of it.
    pub execution_id: String,
    /// What it is called.
    pub script_name: Option<String>,
    /// Its text.
    pub script_content: String,
    /// Which shell, in any case.
    pub shell: Option<String>,
    /// Values for its variables: an object.
    pub input_values: Option<Raw<'a>>,
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
    /// Why.
    pub why: MessageError,
}

/// What a host that knows this agent's own messages says that it `understands`, beside the scripts that it hands out.
/// Today's host says nothing of the kind.
pub const AGENT_EVENT: &str = "agent_event";

/// The longest id that is taken; the host's have 36 bytes.
pub const ID_BYTES_MAX: usize = 128;

/// Scripts of one message that are read, to be run one after the other; the journal remembers more.
pub const SCRIPTS_MAX: usize = 256;

/// Scripts of one message beyond those that are distinguished, so that each can be refused by its id. The rest is
/// counted.
pub const SCRIPTS_TOLD_MAX: usize = 1_024;

/// The longest arguments of a known action that are read, as JSON.
pub const ARGUMENTS_BYTES_MAX: usize = 256 * 1024;

/// The longest text that names something (a shell, an account, a folder), as JSON.
const NAME_BYTES_MAX: usize = 16 * 1024;

/// Reads one message. Of scripts it reads as many as `scripts`; of the next [`SCRIPTS_TOLD_MAX`] only the ids.
///
/// ```
/// use infiniservice::wire::inbound::{Message, SCRIPTS_MAX, parse};
///
/// let message = parse(r#"{"type":"keep_alive_request","sequence_number":7}"#, SCRIPTS_MAX);
/// assert!(matches!(message, Ok(Message::KeepAliveRequest(7))));
/// let unreadable = parse(r#"{"type":"SafeCommand","id":"a1","command_type":[["#, SCRIPTS_MAX).err().unwrap();
/// assert_eq!(unreadable.id.as_deref(), Some("a1"));
/// ```
///
/// # Errors
/// What was not understood; with its id whenever that can be made out, even from half a message.
pub fn parse(payload: &str, scripts: usize) -> Result<Message<'_>, Unreadable> {
    message(payload, scripts).map_err(|why| unreadable(payload, why))
}

/// As [`parse`], without a look for the id of what is not understood.
fn message(payload: &str, scripts_read: usize) -> Result<Message<'_>, MessageError> {
    let body = Raw::parse(payload).map_err(|error| MessageError::of(&error, payload, 0))?;
    let fields = Fields { payload, body };
    let [kind] = fields.named(["type"])?;
    let Some(kind) = present(kind) else { return Err(MessageError::NoType) };
    let id = |value: Option<Raw<'_>>| match value {
        None => Err(MessageError::missing("id")),
        Some(value) if !is_scalar(value) => Err(fields.not_of_kind(value)),
        Some(value) => id_in(value).ok_or(MessageError::Id("id")),
    };
    Ok(match fields.name(kind)?.as_str() {
        "SafeCommand" => {
            let [id_, command_type, params, timeout] =
                fields.named(["id", "command_type", "params", "timeout"])?;
            let id = id(id_)?;
            let command_type = command_type.ok_or_else(|| MessageError::missing("command_type"))?;
            let (action, arguments) = Arguments::of(fields, command_type, params)?;
            let timeout = fields.number(timeout)?;
            Message::Safe(SafeCommand { id, action, arguments, timeout })
        }
        "UnsafeCommand" => {
            let [id_, raw_command, shell, timeout, working_dir, env_vars, run_as] =
                fields.named([
                    "id",
                    "raw_command",
                    "shell",
                    "timeout",
                    "working_dir",
                    "env_vars",
                    "run_as",
                ])?;
            Message::Unsafe(UnsafeCommand {
                id: id(id_)?,
                shell: fields.optional_name(shell)?,
                timeout: fields.number(timeout)?,
                working_dir: fields.optional_name(working_dir)?,
                env_vars: fields.object(env_vars)?,
                run_as: fields.optional_name(run_as)?,
                raw_command: fields.required(raw_command, "raw_command")?,
            })
        }
        "keep_alive_request" => Message::KeepAliveRequest(fields.sequence_number()?),
        "keep_alive_response" => {
            let [connection] = fields.named(["connection"])?;
            let connection = connection.and_then(Raw::number);
            let number = fields.sequence_number()?;
            Message::KeepAliveResponse(KeepAliveAnswer { number, connection })
        }
        "pending_scripts_response" => {
            let [list, understands] = fields.named(["scripts", "understands"])?;
            // Whatever else stands there says nothing.
            let mut understood = understands.and_then(Raw::elements).into_iter().flatten();
            let understands = understood.any(|what| what.spells(AGENT_EVENT));
            let Some(list) = present(list) else {
                let none = PendingScripts { understands, ..PendingScripts::default() };
                return Ok(Message::PendingScripts(none));
            };
            let mut elements = list.elements().ok_or_else(|| fields.not_of_kind(list))?;
            let scripts = elements.by_ref().take(scripts_read).map(script).collect();
            let id_of = |one: Raw<'_>| one.fields(["execution_id"]).ok()?[0].and_then(id_in);
            let too_many = elements.by_ref().take(SCRIPTS_TOLD_MAX).filter_map(id_of).collect();
            let more = elements.count() as u64;
            Message::PendingScripts(PendingScripts { scripts, too_many, more, understands })
        }
        "Metrics" => Message::Metrics,
        _ => return Err(MessageError::UnknownType),
    })
}

/// The members of one object of a message.
#[derive(Clone, Copy)]
struct Fields<'a> {
    payload: &'a str,
    body: Raw<'a>,
}

impl<'a> Fields<'a> {
    fn named<const N: usize>(
        self,
        names: [&'static str; N],
    ) -> Result<[Option<Raw<'a>>; N], MessageError> {
        self.body.fields(names).map_err(|twice| match twice {
            Some(name) => MessageError::Duplicate(name.to_owned(), Place::default()),
            None => self.not_of_kind(self.body),
        })
    }

    fn text(self, value: Raw<'a>) -> Result<String, MessageError> {
        value.text().ok_or_else(|| self.not_of_kind(value))
    }

    /// A text that must be there.
    fn required(self, value: Option<Raw<'a>>, field: &str) -> Result<String, MessageError> {
        self.text(value.ok_or_else(|| MessageError::missing(field))?)
    }

    /// A text that names something.
    fn name(self, value: Raw<'a>) -> Result<String, MessageError> {
        match value.as_str().len() {
            0..=NAME_BYTES_MAX => self.text(value),
            _ => Err(MessageError::NameTooLong),
        }
    }

    fn optional_name(self, value: Option<Raw<'a>>) -> Result<Option<String>, MessageError> {
        present(value).map(|value| self.name(value)).transpose()
    }

    fn number(self, value: Option<Raw<'a>>) -> Result<Option<Number>, MessageError> {
        present(value)
            .map(|value| value.number().ok_or_else(|| self.not_of_kind(value)))
            .transpose()
    }

    fn object(self, value: Option<Raw<'a>>) -> Result<Option<Raw<'a>>, MessageError> {
        match present(value) {
            Some(value) if !value.as_str().starts_with('{') => Err(self.not_of_kind(value)),
            value => Ok(value),
        }
    }

    fn sequence_number(self) -> Result<u64, MessageError> {
        let [number] = self.named(["sequence_number"])?;
        let number = number.ok_or_else(|| MessageError::missing("sequence_number"))?;
        number.number().ok_or_else(|| self.not_of_kind(number))
    }

    fn not_of_kind(self, value: Raw<'a>) -> MessageError {
        let end = place(self.payload, value) + value.as_str().len();
        MessageError::WrongType(Place(Some(end)))
    }
}

/// Where `value` begins in the message.
fn place(payload: &str, value: Raw<'_>) -> usize {
    value.as_str().as_ptr().addr().saturating_sub(payload.as_ptr().addr())
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

/// `null` is as good as missing, where a field need not be there.
fn present(value: Option<Raw<'_>>) -> Option<Raw<'_>> {
    value.filter(|value| !value.is_null())
}

/// Whether an id can be made of it at all.
fn is_scalar(value: Raw<'_>) -> bool {
    value.as_str().starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9'))
}

/// The id that it is, where an answer can carry it.
fn id_in(value: Raw<'_>) -> Option<String> {
    // The longest spelling of a byte takes six.
    if value.as_str().len() > 6 * ID_BYTES_MAX + 2 {
        return None;
    }
    let number = || value.number::<Number>().map(|number| number.to_string());
    value.text().or_else(number).filter(|id| is_id(id))
}

fn script(value: Raw<'_>) -> Result<PendingScript<'_>, Unreadable> {
    let fields = Fields { payload: value.as_str(), body: value };
    let mut id = None;
    let mut read = || {
        let [execution_id, script_name, script_content, shell, input_values, timeout, run_as] =
            fields.named([
                "execution_id",
                "script_name",
                "script_content",
                "shell",
                "input_values",
                "timeout_seconds",
                "run_as",
            ])?;
        let execution_id = execution_id.ok_or_else(|| MessageError::missing("execution_id"))?;
        id = id_in(execution_id);
        Ok(PendingScript {
            execution_id: id.clone().ok_or(MessageError::Id("execution id"))?,
            script_name: fields.optional_name(script_name)?,
            shell: fields.optional_name(shell)?,
            input_values: fields.object(input_values)?,
            timeout_seconds: fields.number(timeout)?,
            run_as: fields.optional_name(run_as)?,
            script_content: fields.required(script_content, "script_content")?,
        })
    };
    read().map_err(|why| Unreadable { id, kind: None, action: None, why })
}

fn unreadable(payload: &str, why: MessageError) -> Unreadable {
    let readable = |path: &[&str]| text_at(payload, path).filter(|text| is_id(text));
    let kind = readable(&["type"]);
    let is_safe = kind.as_deref() == Some("SafeCommand");
    let action = if is_safe { readable(&["command_type", "action"]) } else { None };
    Unreadable { id: readable(&["id"]), kind, action, why }
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

/// The text or number that `json` begins with, where it is short enough for one that is looked for, and how long it
/// is there. One that is not whole is none.
fn scalar(json: &str) -> Option<(String, usize)> {
    let length = match json.as_bytes().first()? {
        b'"' => raw::string(json)?,
        b'-' | b'0'..=b'9' => json
            .find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'))
            .unwrap_or(json.len()),
        _ => return None,
    };
    let text = match length {
        0..=SHORT_MAX => id_of(&serde_json::from_str(&json[..length]).ok()?)?,
        _ => String::new(),
    };
    Some((text, length))
}

/// The longest text that is looked for in what is not understood, as JSON.
const SHORT_MAX: usize = 6 * ID_BYTES_MAX + 2;
