//! The messages, byte for byte. Pure: no I/O, no clock.

mod ascii;
pub mod envelope;
mod format;
pub mod inbound;
mod lines;
pub mod outbound;
mod sanitize;
pub(crate) mod raw;
pub(crate) mod rows;

pub use ascii::{Ascii, MAX_INTEGER};
pub use format::{MAX_LINE, Refused};
pub use lines::{LINE_BYTES_MAX, Lines, TooLong};
pub use metrics::NEEDED;
pub use prometheus::END as PROMETHEUS_END;
pub(crate) use sanitize::{Escaped, plain, shown, shown_json, steers};

use serde::{Deserialize, Serialize};

/// Declares the formats: a variant, and the module with its `FORMAT`.
macro_rules! formats {
    ($(#[$about:meta])* pub enum Format { $($(#[$what:meta])* $Format:ident: $module:ident),* $(,)? }) => {
        $(pub(crate) mod $module;)*

        $(#[$about])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Format { $($(#[$what])* $Format),* }

        impl Format {
            /// All formats.
            pub const ALL: [Self; [$(stringify!($Format)),*].len()] = [$(Self::$Format),*];

            /// What the format says of itself.
            fn spec(self) -> &'static format::Spec {
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
