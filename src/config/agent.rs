//! `agent.toml`: the settings of the whole agent, all optional.

use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::check::{Broken, Check};
use super::table::table;
use super::units::{Count, Period, Size};
use super::value::{Problem, text, text_or_none};
use crate::spool;

/// The whole of `agent.toml`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSettings {
    /// The kind of host at the ports.
    pub host: HostKind,
    /// The async runtime.
    #[serde(deserialize_with = "table")]
    pub runtime: Runtime,
    /// The identity that readings carry.
    #[serde(deserialize_with = "table")]
    pub identity: IdentitySettings,
    /// How it ends.
    #[serde(deserialize_with = "table")]
    pub shutdown: Shutdown,
    /// What it says of itself.
    #[serde(deserialize_with = "table")]
    pub log: Log,
    /// How a failed stage is run again.
    #[serde(deserialize_with = "table")]
    pub restart: Restart,
    /// How much it may hold.
    #[serde(deserialize_with = "table")]
    pub memory: Memory,
    /// Where it keeps things over a restart.
    #[serde(deserialize_with = "table")]
    pub state: StateSettings,
    /// What is kept for a host that is away.
    #[serde(deserialize_with = "table")]
    pub spool: SpoolSettings,
    /// When the files are read again.
    #[serde(deserialize_with = "table")]
    pub reload: ReloadSettings,
}

impl AgentSettings {
    /// The keys and sections in which `other` differs, of those that are read once, at the start.
    pub fn differs_for_good(&self, other: &Self) -> Vec<&'static str> {
        let sections = [
            ("host", self.host != other.host),
            ("[runtime]", self.runtime != other.runtime),
            ("[identity]", self.identity != other.identity),
            ("[log]", self.log != other.log),
            ("[state]", self.state != other.state),
            ("[spool]", self.spool != other.spool),
        ];
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// The sections in which `other` differs, of those that hold as soon as they are read.
    pub fn differs_at_once(&self, other: &Self) -> Vec<&'static str> {
        let sections = [
            ("[shutdown]", self.shutdown != other.shutdown),
            ("[restart]", self.restart != other.restart),
            ("[memory]", self.memory != other.memory),
            ("[reload]", self.reload != other.reload),
        ];
        sections.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// The kind of host at the ports, for hosts that do not declare one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    /// The Infinibay host. It gets no agent events and no session line, because it logs a warning for each; a keep-alive only
    /// on request; and no reply to a command of an earlier connection. A host that declares that it understands agent events,
    /// as `infiniservice-host` does, is treated as [`HostKind::Own`].
    #[default]
    Infinibay,
    /// A host of one's own, or a relay. It gets agent events, and keep-alives at any time.
    Own,
}

/// `[runtime]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// One thread for all tasks, or several.
    pub kind: RuntimeKind,
    /// How many threads, with `multi_thread` only; without it, one per processor. At most 256.
    #[serde(deserialize_with = "threads")]
    pub worker_threads: Option<Count>,
    /// Name of the threads, as `ps -T` shows it.
    #[serde(deserialize_with = "thread_name")]
    pub thread_name: String,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            kind: RuntimeKind::CurrentThread,
            worker_threads: None,
            thread_name: "infiniservice".to_owned(),
        }
    }
}

/// One thread for all tasks, or several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeKind {
    /// All tasks on the main thread: the cheapest.
    #[default]
    CurrentThread,
    /// Tasks spread over worker threads.
    MultiThread,
}

impl RuntimeKind {
    /// The word that stands for it in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::CurrentThread => "current_thread",
            Self::MultiThread => "multi_thread",
        }
    }
}

/// `[identity]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// The machine's name at its manager. An empty one is none.
    #[serde(deserialize_with = "text_or_none")]
    pub vm_id: Option<String>,
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// The time in which buffered data must be written.
    pub deadline: Period,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: Period::millis(5_000) }
    }
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// One level, or a list with a level per module, as `tracing_subscriber::filter::Targets`
    /// reads it: `"info,infiniservice::port=debug"`. Always one that it can read.
    #[serde(deserialize_with = "log_level")]
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

/// `[restart]`: how a stage that failed is run again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restart {
    /// How often it may fail …
    pub budget: Count,
    /// … within this time, before the agent gives up.
    pub within: Period,
    /// The first pause; each next one is twice as long.
    pub base: Period,
    /// The longest pause. Not shorter than `base`.
    pub max: Period,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            budget: Count::fixed(8),
            within: Period::millis(60_000),
            base: Period::millis(100),
            max: Period::millis(30_000),
        }
    }
}

/// `[state]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateSettings {
    /// The folder.
    #[serde(deserialize_with = "folder")]
    pub folder: PathBuf,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self { folder: "/var/lib/infiniservice".into() }
    }
}

/// The settings that are needed to find a running agent, read even if others are invalid.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StateOnly {
    #[serde(deserialize_with = "table")]
    pub state: StateSettings,
}

impl Check for StateOnly {
    fn check(&self) -> Vec<Broken> {
        Vec::new()
    }
}

/// `[spool]`: where durable messages are kept until the host has acknowledged them, in the folder of `[state]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpoolSettings {
    /// The most bytes of its file, from 64 KiB to 64 MiB.
    #[serde(deserialize_with = "spool_size")]
    pub size: Size,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self { size: Size::kib(spool::SIZE >> 10) }
    }
}

/// `[reload]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadSettings {
    /// Whether changed files are read again by themselves. SIGHUP and `infiniservice reload` do so in
    /// any case.
    pub watch: bool,
}

impl Default for ReloadSettings {
    /// On by default: an invalid file changes nothing and is reported, and a valid one was written to be used.
    fn default() -> Self {
        Self { watch: true }
    }
}

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

fn log_level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let level = text(deserializer)?;
    let known = |part: &str| LEVELS.contains(&part.trim());
    if !level.contains(['=', ',']) && !known(&level) {
        return Err(D::Error::unknown_variant(&level, LEVELS));
    }
    if !is_log_level(&level) {
        return Err(Problem::new("is not a list of log levels", LEVELS_HELP).pack());
    }
    Ok(level.split_whitespace().collect())
}

/// How a list of levels is written.
pub(crate) const LEVELS_HELP: &str = "write a level (off, error, warn, info, debug, trace), or a list with one per \
                               module, as in \"info,infiniservice::port=debug\"";

/// Whether `text` is a list of levels. A word that is none would be taken for a module, and silence all others.
pub(crate) fn is_log_level(text: &str) -> bool {
    let known = |part: &str| LEVELS.contains(&part.trim());
    text.split(',').all(|part| match part.split_once('=') {
        Some((target, level)) => is_module(target.trim()) && known(level),
        None => known(part),
    })
}

fn is_module(target: &str) -> bool {
    let in_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '-');
    !target.is_empty() && target.chars().all(in_path)
}

fn threads<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Count>, D::Error> {
    Count::at_most(deserializer, 256).map(Some)
}

fn thread_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = text(deserializer)?;
    if name.contains('\0') {
        return Err(
            Problem::new("holds a NUL", "the kernel ends a name there; leave it out").pack()
        );
    }
    Ok(name)
}

fn spool_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let bounds = spool::SIZE_MIN..=spool::SIZE_MAX;
    let help = "the least is \"64KiB\", the most \"64MiB\"";
    Size::within(deserializer, bounds, "is too large", help)
}

fn folder<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let folder = PathBuf::from(text(deserializer)?);
    if !folder.is_absolute() {
        return Err(Problem::new("is not an absolute path", "begin it with a slash").pack());
    }
    Ok(folder)
}

/// The least ceiling: one line in, one answer out, and some readings.
pub(crate) const CEILING_MIN: u64 = 4 << 20;
/// The most.
pub(crate) const CEILING_MAX: u64 = 4 << 30;

/// `[memory]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The most bytes that are queued in all, from 4 MiB to 4 GiB.
    #[serde(deserialize_with = "ceiling")]
    pub ceiling: Size,
}

impl Default for Memory {
    fn default() -> Self {
        Self { ceiling: Size::kib(16 * 1024) }
    }
}

fn ceiling<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let help = "the least is \"4MiB\", the most \"4GiB\"";
    Size::within(deserializer, CEILING_MIN..=CEILING_MAX, "is too large", help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::Targets;

    fn level(text: &str) -> Option<String> {
        let file = format!("log.level = {text:?}");
        toml::from_str::<AgentSettings>(&file).ok().map(|settings| settings.log.level)
    }

    #[test]
    fn every_level_that_is_taken_is_one_the_log_can_read() {
        for text in ["info", "off", "info, infiniservice::port = debug", "a-b=warn,trace"] {
            let taken = level(text).unwrap();
            assert!(taken.parse::<Targets>().is_ok(), "{taken}");
        }
        // `Targets` takes the first for a module called `inof` at the most talkative level.
        for text in ["inof", "info,", "=info", "info,port", "port=", "port=3", "a=b=info", "INFO x"]
        {
            assert_eq!(level(text), None, "{text}");
        }
    }
}
