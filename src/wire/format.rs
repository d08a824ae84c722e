//! The formats a reading can be written in, and the choice between them.

use serde::{Deserialize, Serialize};

use super::{influx, json_lines, metrics, pretty};
use crate::model::{Group, SystemMetrics};

/// No line is longer, newline included. Today's host drops a line of 4 MiB and forgets the machine
/// at 8 MiB without a newline; this stays well below.
pub const MAX_LINE: usize = 1 << 20;

/// How a reading is written: the words `format = "…"` takes in a pipeline file.
///
/// ```
/// use infiniservice::{model::SystemMetrics, wire::Format};
/// use std::time::{Duration, SystemTime};
/// # let now = tokio::time::Instant::now();
/// let reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::ZERO, 7);
/// let mut line = Vec::new();
/// Format::JsonLines.encode(&reading, &mut line).unwrap();
/// assert_eq!(line, b"{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"sequence\":7}\n");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The metrics line of today's Infinibay host.
    #[default]
    Infinibay,
    /// The whole reading, one JSON object per line.
    JsonLines,
    /// For a person at a terminal.
    Pretty,
    /// InfluxDB line protocol.
    Influx,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 4] = [Self::Infinibay, Self::JsonLines, Self::Pretty, Self::Influx];

    /// The word that stands for it in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Infinibay => "infinibay",
            Self::JsonLines => "json-lines",
            Self::Pretty => "pretty",
            Self::Influx => "influx",
        }
    }

    /// The groups without which a line is worth nothing. Today's Infinibay host refuses one that
    /// lacks any of these four.
    pub fn needs(self) -> &'static [Group] {
        match self {
            Self::Infinibay => &[Group::Cpu, Group::Memory, Group::Disk, Group::Network],
            _ => &[],
        }
    }

    /// Whether a line has a place for `group`.
    pub fn carries(self, group: Group) -> bool {
        match self {
            Self::Infinibay => metrics::carries(group),
            Self::JsonLines | Self::Pretty | Self::Influx => true,
        }
    }

    /// Whether a line has a place for tags and for who speaks.
    pub fn carries_tags(self) -> bool {
        self != Self::Infinibay
    }

    /// Why an operator's tag cannot have this name in this format, as the end of a sentence; `None` where it can.
    pub fn refused_tag(self, name: &str) -> Option<&'static str> {
        match self {
            Self::Influx => influx::refused_tag(name),
            Self::Infinibay | Self::JsonLines | Self::Pretty => None,
        }
    }

    /// Appends the reading to `out` as whole lines, each with its newline. No line is longer than
    /// [`MAX_LINE`].
    ///
    /// # Errors
    /// What cannot be written leaves `out` as it was.
    pub fn encode(self, reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
        match self {
            Self::Infinibay => metrics::encode(reading, out),
            Self::JsonLines => json_lines::encode(reading, out),
            Self::Pretty => pretty::encode(reading, out),
            Self::Influx => influx::encode(reading, out),
        }
    }
}

/// Why a reading was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It does not fit in [`MAX_LINE`].
    Oversize,
    /// It has no spelling in this format.
    Unencodable,
}

impl Refused {
    /// The word it is counted under.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::Unencodable => "unencodable",
        }
    }
}
