//! The formats a reading can be written in, and the choice between them.

use serde::{Deserialize, Serialize};

use super::{influx, json_lines, metrics, pretty, prometheus};
use crate::model::{Group, SystemMetrics};

/// No line is longer, newline included. Today's host drops a line of 4 MiB and forgets the machine
/// at 8 MiB without a newline; this stays well below.
pub const MAX_LINE: usize = 1 << 20;

/// What a format is: a constant of its file.
pub(super) struct Spec {
    /// The word that stands for it in files and messages.
    pub name: &'static str,
    /// The groups without which a line is worth nothing.
    pub needs: &'static [Group],
    /// Whether a line has a place for a group.
    pub carries: fn(Group) -> bool,
    /// Whether a line has a place for tags and for who speaks.
    pub carries_tags: bool,
    /// Why an operator's tag cannot have this name, as the end of a sentence.
    pub refused_tag: fn(&str) -> Option<&'static str>,
    /// Appends a reading as whole lines, none longer than [`MAX_LINE`]; what it refuses leaves the buffer as it was.
    pub encode: fn(&SystemMetrics, &mut Vec<u8>) -> Result<(), Refused>,
}

impl Spec {
    /// One that has a place for everything and takes every tag.
    pub(super) const fn of_everything(
        name: &'static str,
        encode: fn(&SystemMetrics, &mut Vec<u8>) -> Result<(), Refused>,
    ) -> Self {
        let (needs, carries_tags) = (&[], true);
        Self { name, needs, carries: |_| true, carries_tags, refused_tag: |_| None, encode }
    }
}

/// Declares the formats: a variant, and the module with its `FORMAT`.
macro_rules! formats {
    ($(#[$about:meta])* pub enum Format { $($(#[$what:meta])* $Format:ident: $module:ident),* $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Format { $($(#[$what])* $Format),* }

        impl Format {
            /// All formats.
            pub const ALL: [Self; [$(stringify!($Format)),*].len()] = [$(Self::$Format),*];

            fn spec(self) -> &'static Spec {
                match self { $(Self::$Format => &$module::FORMAT),* }
            }
        }
    };
}

formats! {
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
    pub enum Format {
        /// The metrics line of today's Infinibay host.
        #[default]
        Infinibay: metrics,
        /// The whole reading, one JSON object per line.
        JsonLines: json_lines,
        /// For a person at a terminal.
        Pretty: pretty,
        /// InfluxDB line protocol.
        Influx: influx,
        /// Prometheus text: counters and gauges, each reading with the last values of all groups.
        Prometheus: prometheus,
    }
}

impl Format {
    /// The word that stands for it in files and messages.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The groups without which a line is worth nothing. Today's Infinibay host refuses one that
    /// lacks any of these four.
    pub fn needs(self) -> &'static [Group] {
        self.spec().needs
    }

    /// Whether each reading has the last values of the groups that others have read.
    pub fn joins(self) -> bool {
        matches!(self, Self::Infinibay | Self::Prometheus)
    }

    /// Whether a line has a place for `group`.
    pub fn carries(self, group: Group) -> bool {
        (self.spec().carries)(group)
    }

    /// Whether a line has a place for tags and for who speaks.
    pub fn carries_tags(self) -> bool {
        self.spec().carries_tags
    }

    /// Why an operator's tag cannot have this name in this format, as the end of a sentence; `None` where it can.
    pub fn refused_tag(self, name: &str) -> Option<&'static str> {
        (self.spec().refused_tag)(name)
    }

    /// Appends the reading to `out` as whole lines, each with its newline. No line is longer than
    /// [`MAX_LINE`].
    ///
    /// # Errors
    /// What cannot be written leaves `out` as it was.
    pub fn encode(self, reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
        (self.spec().encode)(reading, out)
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
