//! Messages of a guest, parsed as the Infinibay host does. Pure; trusts no content.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// One line of the guest.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// The whole message; null if it could not be parsed.
    pub body: Arc<Value>,
    /// The line as received, without its newline; empty if it was too long to keep.
    pub line: Bytes,
}

/// The kinds of lines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A reading of the machine.
    Metrics,
    /// The answer to the command of this id.
    Response(String),
    /// The end of the script run of this id.
    ScriptCompletion(String),
    /// This number, requested or not.
    KeepAlive(u64),
    /// The guest wants its scripts.
    RequestPendingScripts,
    /// Anything else, by its `type`.
    Other(String),
    /// No JSON object, or too long; why.
    Unreadable(String),
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The command's id.
    pub id: String,
    /// Whether it was done.
    pub success: bool,
    /// The exit code of the program, if one ran.
    pub exit_code: Option<i64>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, or the error.
    pub stderr: String,
    /// How long it took in the guest.
    pub execution_time_ms: Option<u64>,
    /// The name of the action, or the guest's own text.
    pub command_type: Option<String>,
    /// The result; null without one.
    pub data: Value,
    /// Why it was not done.
    pub error: Option<String>,
    /// The whole answer.
    pub body: Arc<Value>,
}

/// The end of a script run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScriptCompletion {
    /// Which run.
    pub execution_id: String,
    /// The script's exit code.
    pub exit_code: i64,
    /// Standard output.
    pub stdout: String,
    /// Standard error, or the error.
    pub stderr: String,
    /// Where the guest keeps more of it.
    pub log_file: Option<String>,
    /// The whole message.
    pub body: Arc<Value>,
}

impl Message {
    /// Reads a line. A line that is no JSON object is a message too.
    pub fn read(line: Bytes) -> Self {
        let (kind, body) = match serde_json::from_slice::<Value>(&line) {
            Ok(body) if body.is_object() => (kind(&body), body),
            Ok(_) => (Kind::Unreadable("a line is no JSON object".to_owned()), Value::Null),
            Err(error) => (Kind::Unreadable(format!("a line is no JSON: {error}")), Value::Null),
        };
        Self { kind, body: Arc::new(body), line }
    }

    /// A line that was not kept.
    pub(super) fn unreadable(why: String) -> Self {
        Self { kind: Kind::Unreadable(why), body: Arc::default(), line: Bytes::new() }
    }

    /// Its time as it is spelled; only a text is one.
    pub fn timestamp(&self) -> Option<&str> {
        self.body["timestamp"].as_str()
    }

    /// It as the answer to a command, if it is one.
    pub fn response(&self) -> Option<Response> {
        let Kind::Response(id) = &self.kind else { return None };
        let body = &self.body;
        Some(Response {
            id: id.clone(),
            success: body["success"] == true,
            exit_code: body["exit_code"].as_i64(),
            stdout: text(&body["stdout"]).unwrap_or_default(),
            stderr: text(&body["stderr"]).unwrap_or_default(),
            execution_time_ms: body["execution_time_ms"].as_u64(),
            command_type: text(&body["command_type"]),
            data: body["data"].clone(),
            error: text(&body["error"]),
            body: body.clone(),
        })
    }

    /// It as the end of a script run, if it is one.
    pub fn script_completion(&self) -> Option<ScriptCompletion> {
        let Kind::ScriptCompletion(id) = &self.kind else { return None };
        let body = &self.body;
        Some(ScriptCompletion {
            execution_id: id.clone(),
            exit_code: body["exit_code"].as_i64().unwrap_or(-1),
            stdout: text(&body["stdout"]).unwrap_or_default(),
            stderr: text(&body["stderr"]).unwrap_or_default(),
            log_file: text(&body["log_file"]),
            body: body.clone(),
        })
    }
}

impl Response {
    /// Its exit code for a shell: the program's own where it has one, else 0 when it was done and 1
    /// when not. Never 0 for what was not done.
    pub fn code(&self) -> u8 {
        match self.exit_code {
            Some(0) | None => u8::from(!self.success),
            Some(code) => low_byte(code),
        }
    }
}

impl ScriptCompletion {
    /// Its exit code for a shell.
    pub fn code(&self) -> u8 {
        if self.exit_code == 0 { 0 } else { low_byte(self.exit_code) }
    }
}

/// As `wait(2)` has it: the low eight bits; what would become 0 by that is 1.
fn low_byte(code: i64) -> u8 {
    match code.to_le_bytes()[0] {
        0 => 1,
        code => code,
    }
}

fn kind(body: &Value) -> Kind {
    let id = |key: &str| body[key].as_str().map(str::to_owned);
    let kind = match body["type"].as_str() {
        Some("metrics") => Some(Kind::Metrics),
        Some("response") => id("id").map(Kind::Response),
        Some("script_completion") => id("execution_id").map(Kind::ScriptCompletion),
        Some("keep_alive") => body["sequence_number"].as_u64().map(Kind::KeepAlive),
        Some("request_pending_scripts") => Some(Kind::RequestPendingScripts),
        // The first guests sent answers without a type, and today's host takes them.
        None if body["success"].is_boolean() => id("id").map(Kind::Response),
        _ => None,
    };
    kind.unwrap_or_else(|| Kind::Other(id("type").unwrap_or_default()))
}

/// A text as it is, nothing for null, anything else as JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &'static str) -> Message {
        Message::read(Bytes::from_static(line.as_bytes()))
    }

    #[test]
    fn an_answer_is_read_with_nulls_and_without_a_type() {
        let answer =
            read(r#"{"id":"a","success":false,"exit_code":null,"stdout":null,"error":"no"}"#);
        let answer = answer.response().unwrap();
        assert_eq!((answer.id.as_str(), answer.success, answer.exit_code), ("a", false, None));
        assert_eq!((answer.stdout.as_str(), answer.error.as_deref()), ("", Some("no")));
        assert_eq!(read(r#"{"id":"a"}"#).kind, Kind::Other(String::new()));
        assert_eq!(
            read(r#"{"type":"response","success":true}"#).kind,
            Kind::Other("response".into())
        );
    }

    #[test]
    fn an_exit_code_for_a_shell_is_the_programs_and_never_0_for_a_failure() {
        let code =
            |success, exit_code| Response { success, exit_code, ..Response::default() }.code();
        assert_eq!(code(true, None), 0);
        assert_eq!(code(true, Some(0)), 0);
        assert_eq!(code(true, Some(3)), 3);
        assert_eq!(code(false, None), 1);
        assert_eq!(code(false, Some(0)), 1);
        assert_eq!(code(false, Some(124)), 124);
        assert_eq!(code(false, Some(-1)), 255);
        assert_eq!(code(false, Some(256)), 1);
        assert_eq!(code(false, Some(i64::MAX)), 255);
    }

    #[test]
    fn an_unreadable_line_is_a_message_too() {
        assert!(matches!(read("{nonsense").kind, Kind::Unreadable(_)));
        assert!(matches!(read("[1]").kind, Kind::Unreadable(_)));
        let deep: String = "[".repeat(100_000);
        assert!(matches!(Message::read(deep.into()).kind, Kind::Unreadable(_)));
        assert_eq!(
            read(r#"{"type":"keep_alive","sequence_number":-1}"#).kind,
            Kind::Other("keep_alive".into())
        );
        assert_eq!(
            read(r#"{"type":"keep_alive","sequence_number":18446744073709551615}"#).kind,
            Kind::KeepAlive(u64::MAX)
        );
    }
}
