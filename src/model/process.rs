//! One process. Does not say how processes are ranked.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};

use super::keyword::{Keyword, one_of};
use super::time::{iso8601, of_iso8601};

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id; `None` for the first process.
    pub parent: Option<u32>,
    /// The kernel's name for it (15 bytes at most on Linux), without NUL, lossy-decoded.
    pub name: String,
    /// Executable, where it may be read.
    pub executable: Option<String>,
    /// Command line, arguments joined by spaces, without NUL, lossy-decoded, cut to 4 KiB.
    pub command_line: Option<String>,
    /// Processor time since the reading before, percent of one core; above 100 with several threads.
    pub cpu_percent: f64,
    /// Processor time since it started, in seconds, without that of its children: a counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Bytes read from storage since it started, where that may be read.
    pub read_bytes: Option<u64>,
    /// Bytes written to storage since it started, where that may be read.
    pub written_bytes: Option<u64>,
    /// State, such as `running` or `sleeping`.
    #[serde(deserialize_with = "status")]
    pub status: Keyword,
    /// When it started.
    #[serde(serialize_with = "iso8601", deserialize_with = "of_iso8601")]
    pub started: SystemTime,
    /// User id of its owner.
    pub uid: u32,
}

impl Process {
    /// The states of a process.
    pub const STATUSES: &[Keyword] = &[
        "running",
        "sleeping",
        "disk-sleep",
        "idle",
        "stopped",
        "traced",
        "zombie",
        "dead",
        "parked",
        "unknown",
    ];
}

/// A process of which nothing is known.
impl Default for Process {
    fn default() -> Self {
        Self {
            pid: 0,
            parent: None,
            name: String::new(),
            executable: None,
            command_line: None,
            cpu_percent: 0.0,
            cpu_seconds: None,
            rss_bytes: 0,
            read_bytes: None,
            written_bytes: None,
            status: "unknown",
            started: UNIX_EPOCH,
            uid: 0,
        }
    }
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Keyword, D::Error> {
    one_of(deserializer, Process::STATUSES)
}

/// What makes a process important. Ties are settled by the other of the two, then by process id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rank {
    /// Processor time since the reading before.
    #[default]
    Cpu,
    /// Resident memory.
    Memory,
}
