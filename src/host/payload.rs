//! Payloads for a guest, as the Infinibay host writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::shell::Shell;
use crate::wire::inbound::AGENT_EVENT;

/// An action with its parameters, as [`action`](super::action()) builds it.
pub fn safe_command(id: &str, action: &Value, timeout: Duration) -> String {
    #[derive(Serialize)]
    struct SafeCommand<'a> {
        r#type: &'static str,
        id: &'a str,
        command_type: &'a Value,
        params: (),
        timeout: u64,
    }
    let timeout = timeout.as_secs();
    json(&SafeCommand { r#type: "SafeCommand", id, command_type: action, params: (), timeout })
}

/// A command line for a shell of the guest. A field that is `None` or empty is left out, as the Infinibay host does.
#[derive(Debug, Clone, Serialize)]
pub struct RawCommand {
    /// The command line; [`Shell::quote`] makes one of words.
    pub raw_command: String,
    /// Which shell; the guest's default where absent.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "shell")]
    pub shell: Option<Shell>,
    /// Where it starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Added to its environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env_vars: BTreeMap<String, String>,
    /// As whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
}

/// A command line for a shell.
pub fn unsafe_command(id: &str, command: &RawCommand, timeout: Duration) -> String {
    #[derive(Serialize)]
    struct UnsafeCommand<'a> {
        r#type: &'static str,
        id: &'a str,
        #[serde(flatten)]
        command: &'a RawCommand,
        timeout: u64,
    }
    json(&UnsafeCommand { r#type: "UnsafeCommand", id, command, timeout: timeout.as_secs() })
}

/// A script for the guest to run once.
#[derive(Debug, Clone, Serialize)]
pub struct Script {
    /// Which run of the script this is; its completion carries the same.
    pub execution_id: String,
    /// Which script.
    pub script_id: String,
    /// Its name.
    pub script_name: String,
    /// Its text.
    pub script_content: String,
    /// Which shell.
    #[serde(serialize_with = "shell_name")]
    pub shell: Shell,
    /// `FIRST_BOOT`, `ON_DEMAND` or `SCHEDULED`.
    pub execution_type: String,
    /// Values for its variables.
    pub input_values: BTreeMap<String, String>,
    /// The time limit; the Infinibay host uses 600.
    pub timeout_seconds: u64,
    /// As whom.
    pub run_as: Option<String>,
}

/// Scripts to run, requested or not.
pub fn pending_scripts(scripts: &[Script], timestamp: &str) -> String {
    #[derive(Serialize)]
    struct PendingScripts<'a> {
        r#type: &'static str,
        timestamp: &'a str,
        scripts: &'a [Script],
    }
    json(&PendingScripts { r#type: "pending_scripts_response", timestamp, scripts })
}

/// The answer of a host that declares that it understands agent events: scripts to run.
pub(crate) fn hand_out(scripts: &[Script], timestamp: &str) -> String {
    #[derive(Serialize)]
    struct HandOut<'a> {
        r#type: &'static str,
        timestamp: &'a str,
        scripts: &'a [Script],
        understands: [&'static str; 1],
    }
    let (r#type, understands) = ("pending_scripts_response", [AGENT_EVENT]);
    json(&HandOut { r#type, timestamp, scripts, understands })
}

/// A keep-alive with `number`, which the guest echoes.
pub fn keep_alive_request(number: u64, timestamp: &str) -> String {
    let (r#type, connection) = ("keep_alive_request", None);
    json(&KeepAlive { r#type, sequence_number: number, timestamp, connection })
}

/// Acknowledges the guest's `keep_alive`: everything before it was read on this `connection`. A host that gives each of its
/// connections a number of its own, from [`connection_number`](super::connection_number), tells the guest when another took over so soon that the port
/// showed no gap; today's Infinibay host gives none.
pub fn keep_alive_response(number: u64, timestamp: &str, connection: Option<u64>) -> String {
    let r#type = "keep_alive_response";
    json(&KeepAlive { r#type, sequence_number: number, timestamp, connection })
}

#[derive(Serialize)]
struct KeepAlive<'a> {
    r#type: &'static str,
    sequence_number: u64,
    timestamp: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u64>,
}

/// Texts, numbers and maps with text for keys: writing them as JSON cannot fail.
fn json(message: &impl Serialize) -> String {
    serde_json::to_string(message).unwrap_or_default()
}

fn shell<S: serde::Serializer>(shell: &Option<Shell>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_some(&shell.map(Shell::name))
}

fn shell_name<S: serde::Serializer>(shell: &Shell, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(shell.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_spelled_as_todays_host_spells_them() {
        let action = serde_json::json!({ "action": "SystemInfo" });
        assert_eq!(
            safe_command("a1", &action, Duration::from_millis(1999)),
            r#"{"type":"SafeCommand","id":"a1","command_type":{"action":"SystemInfo"},"params":null,"timeout":1}"#
        );
        let mut command = RawCommand {
            raw_command: "id".to_owned(),
            shell: None,
            working_dir: None,
            env_vars: BTreeMap::new(),
            run_as: None,
        };
        assert_eq!(
            unsafe_command("b2", &command, Duration::from_secs(30)),
            r#"{"type":"UnsafeCommand","id":"b2","raw_command":"id","timeout":30}"#
        );
        command.shell = Some(Shell::Bash);
        command.env_vars.insert("K".to_owned(), "é".to_owned());
        command.run_as = Some("ann".to_owned());
        assert_eq!(
            unsafe_command("b2", &command, Duration::ZERO),
            r#"{"type":"UnsafeCommand","id":"b2","raw_command":"id","shell":"BASH","env_vars":{"K":"é"},"run_as":"ann","timeout":0}"#
        );
    }

    #[test]
    fn a_script_is_spelled_as_todays_host_spells_it() {
        let script = Script {
            execution_id: "e".to_owned(),
            script_id: "s".to_owned(),
            script_name: "n".to_owned(),
            script_content: "echo \"hi\"\n".to_owned(),
            shell: Shell::Sh,
            execution_type: "ON_DEMAND".to_owned(),
            input_values: BTreeMap::new(),
            timeout_seconds: 600,
            run_as: None,
        };
        assert_eq!(
            pending_scripts(&[script], "2026-07-14T10:00:00.000Z"),
            r#"{"type":"pending_scripts_response","timestamp":"2026-07-14T10:00:00.000Z","scripts":[{"execution_id":"e","script_id":"s","script_name":"n","script_content":"echo \"hi\"\n","shell":"SH","execution_type":"ON_DEMAND","input_values":{},"timeout_seconds":600,"run_as":null}]}"#
        );
    }
}
