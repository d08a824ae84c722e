//! A command-flow file as a type: receive → verify → enforce → execute → reply, and the audit beside it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::Deserializer;

use super::Env;
use super::check::{Broken, Check, Step};
use super::rule::{self, rules};
use super::table::{some_table, table};
use super::units::{Count, Period, Size};
use super::value::{Problem, text, text_or_none};
use super::write::{Delivery, port_name};
use crate::commands::authorize::policy::Policy;
use crate::commands::authorize::rule::{Rule, Rules, Switch};
use crate::commands::reply::CommandType;
use crate::commands::secret::{Secret, SecretError, SecretSource};
use crate::metrics::collect::CommandLine;

/// One command-flow file. An action that it does not mention is denied.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandsFile {
    /// What the flow is for, for people.
    #[serde(default, deserialize_with = "text_or_none")]
    pub about: Option<String>,
    /// Where requests come from. Always there: it is what makes a file a command flow.
    #[serde(default, deserialize_with = "some_table")]
    pub(super) receive: Option<Receive>,
    /// How requests are authenticated.
    #[serde(default, deserialize_with = "table")]
    pub verify: Verify,
    /// Which actions are allowed.
    #[serde(default, deserialize_with = "table")]
    pub enforce: Enforce,
    /// The limits of execution.
    #[serde(default, deserialize_with = "table")]
    pub execute: Execute,
    /// The form of replies.
    #[serde(default, deserialize_with = "table")]
    pub reply: Reply,
    /// The audit.
    #[serde(default, deserialize_with = "table")]
    pub audit: Audit,
}

impl CommandsFile {
    /// Where requests come from.
    pub fn receive(&self) -> Receive {
        self.receive.clone().unwrap_or_default()
    }

    /// Loads the shared secret from the place that the file names; `None` without one. Blocks on files.
    ///
    /// # Errors
    /// It cannot be had; the text never contains it.
    pub fn secret(&self) -> Result<Option<Secret>, SecretError> {
        Ok(self.verify.secret.as_ref().map(Secret::load).transpose()?.flatten())
    }

    /// The source of the secret: `secret from variable NAME`, or `locked: …` with the reason. Files and credentials are not
    /// read.
    pub fn lock(&self, env: &Env<'_>) -> String {
        let there = |name: &str| env(name).is_some_and(|value| !value.is_empty());
        match &self.verify.secret {
            None => "locked: no secret is named".to_owned(),
            Some(SecretSource::Env(name)) if !there(name) => {
                format!("locked: the variable {name} is not set")
            }
            Some(source) => format!("secret from {source}"),
        }
    }
}

/// `[receive]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Receive {
    /// The port that requests come from and answers go to, as `[write] port` has it.
    #[serde(deserialize_with = "port_name")]
    pub port: String,
    /// The longest line that is read; at most 64 MiB.
    #[serde(deserialize_with = "line_size")]
    pub max_line: Size,
}

impl Default for Receive {
    fn default() -> Self {
        Self { port: "org.infinibay.agent".to_owned(), max_line: Size::kib(8 * 1024) }
    }
}

/// `[verify]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verify {
    /// Where the shared secret is found; without one the flow is locked.
    pub secret: Option<SecretSource>,
    /// How far the time of a request may be from the machine's, either way; at most five minutes.
    #[serde(deserialize_with = "window")]
    pub window: Period,
}

impl Default for Verify {
    fn default() -> Self {
        Self { secret: None, window: Period::millis(300_000) }
    }
}

/// `[enforce]`. Deny wins over allow, and what nothing allows is denied.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enforce {
    /// The actions that are allowed.
    #[serde(deserialize_with = "rules")]
    pub allow: Vec<Rule>,
    /// Exceptions from `allow`.
    #[serde(deserialize_with = "rules")]
    pub deny: Vec<Rule>,
    /// Enables shell commands; a rule has to allow them, too.
    pub raw_shell: Switch,
    /// Enables pending scripts; a rule has to allow them, too.
    pub scripts: Switch,
    /// Lets either leave processes running.
    pub detach: Switch,
}

/// `[execute]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Execute {
    /// Requests that run at once; at most 64.
    #[serde(deserialize_with = "parallel")]
    pub parallel: Count,
    /// Requests that may wait; further ones are refused.
    pub waiting: Count,
    /// The upper limit of a request's own timeout.
    pub timeout: Period,
    /// The bytes of each output stream that are kept, head and tail; at most 256 KiB.
    #[serde(deserialize_with = "output")]
    pub output: Size,
    /// How much of a process's command line `ProcessList` and `ProcessTop` return.
    pub command_line: CommandLine,
}

impl Default for Execute {
    fn default() -> Self {
        Self {
            parallel: Count::fixed(5),
            waiting: Count::fixed(64),
            timeout: Period::millis(30 * 60 * 1000),
            output: Size::kib(256),
            command_line: CommandLine::default(),
        }
    }
}

/// `[reply]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The command type in a reply.
    pub command_type: CommandType,
    /// Whether replies and events are durable.
    pub delivery: Delivery,
}

impl Default for Reply {
    fn default() -> Self {
        Self { command_type: CommandType::default(), delivery: Delivery::Durable }
    }
}

/// `[audit]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// The file; `audit.jsonl` in the state folder of `agent.toml` where it is not given.
    #[serde(deserialize_with = "audit_path")]
    pub path: Option<PathBuf>,
    /// A new file is begun before the old one would grow past this.
    pub max_size: Size,
    /// How many full files are kept beside the one that grows.
    pub keep: Count,
    /// Whether a request is refused when it cannot be written down.
    pub required: bool,
}

impl Default for Audit {
    fn default() -> Self {
        Self { path: None, max_size: Size::kib(4 * 1024), keep: Count::fixed(3), required: true }
    }
}

impl Audit {
    /// The file, where `state` is the state folder.
    pub fn file(&self, state: &Path) -> PathBuf {
        self.path.clone().unwrap_or_else(|| state.join("audit.jsonl"))
    }
}

impl Check for CommandsFile {
    fn check(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        if self.receive.is_none() {
            let help = "add a section, as in [receive] port = \"org.infinibay.agent\"";
            let message = "nothing says where requests come from";
            broken.push(Broken::new(&[], message, help).missing());
        }
        broken.extend(rule::check(&["enforce", "allow"], &self.enforce.allow));
        broken.extend(rule::check(&["enforce", "deny"], &self.enforce.deny));
        let Enforce { raw_shell, scripts, detach, .. } = &self.enforce;
        for (name, switch) in [("raw_shell", raw_shell), ("scripts", scripts), ("detach", detach)] {
            if switch.on && self.enforce.allow.is_empty() {
                let help = "add allow = [\"*\"], or the names of what may be asked for";
                let path = [Step::Key("enforce"), Step::Key(name)];
                let message = "this is on, and no rule allows anything";
                broken.push(Broken::new(&path, message, help).missing());
            }
        }
        broken
    }

    fn find(&mut self, source: &str) {
        let Enforce { allow, deny, raw_shell, scripts, detach } = &mut self.enforce;
        rule::find_all([allow, deny], [raw_shell, scripts, detach], source);
    }
}

/// A file's command flow, and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Commands {
    /// The file as it was given, or `built-in:NAME`.
    pub origin: String,
    /// Its content.
    pub file: CommandsFile,
}

impl Commands {
    /// What it allows, and for how long.
    pub fn policy(&self) -> Policy {
        let Enforce { allow, deny, raw_shell, scripts, detach } = self.file.enforce.clone();
        let rules = Rules { allow, deny, raw_shell, scripts, detach };
        Policy::new(self.origin.clone(), rules, self.file.execute.timeout.get())
    }
}

/// `port org.infinibay.agent, 5 at once, 64 waiting, 1 rule allows, 0 deny`.
impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandsFile { execute, enforce, .. } = &self.file;
        let (allow, deny) = (enforce.allow.len(), enforce.deny.len());
        let (s, verb) = if allow == 1 { ("", "allows") } else { ("s", "allow") };
        write!(
            f,
            "port {}, {} at once, {} waiting, {allow} rule{s} {verb}, {deny} deny",
            self.file.receive().port,
            execute.parallel,
            execute.waiting,
        )
    }
}

fn line_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    Size::within(deserializer, 1..=64 << 20, "is too long for a line", "the most is \"64MiB\"")
}

fn output<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    // The host keeps 256 KiB of a stream and throws the rest away.
    let too_much = "is more than the host keeps";
    Size::within(deserializer, 1..=256 << 10, too_much, "the most is \"256KiB\"")
}

fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    let bounds = "the shortest is \"10ms\", the longest \"5m\"";
    Period::at_most(deserializer, Duration::from_secs(300), bounds)
}

fn parallel<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
    Count::at_most(deserializer, 64)
}

fn audit_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = text(deserializer)?;
    let wrong = match path.as_str() {
        path if !path.starts_with('/') => "is not an absolute path",
        path if path.ends_with('/') => "is a folder, not a file",
        _ => return Ok(Some(path.into())),
    };
    Err(Problem::new(wrong, "write one, as in \"/var/log/infiniservice/audit.jsonl\"").pack())
}
