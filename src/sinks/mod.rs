//! Sinks other than the port: a file, a Unix socket, a TCP server, syslog, standard output, none at all.
//!
//! Every sink writes a frame whole or fails, and then gets the same frame again; a write may also be cancelled at
//! any await and repeated. No sink buffers frames: a buffered frame would count as written and could still be lost,
//! and the stages before have batched already. So there is nothing to flush. `blocking` runs the writers that
//! block.

mod blocking;
mod network;

use std::fmt;
use std::io;
use std::path::Path;

use serde::de::{Deserialize, Deserializer};

pub(crate) use file::{Access, Appender};
pub use file::{File, Rotation};
pub use null::Null;
#[cfg(feature = "host")]
pub(crate) use prometheus::Server as PrometheusServer;
pub use prometheus::{Listen, Prometheus};
pub use stdout::Stdout;
pub use syslog::{Facility, Header, MAX_DATAGRAM, Server, Severity, Syslog};
pub use tcp::{Framing, Tcp};
pub use unix::Unix;

use crate::model::Frame;
use crate::pipeline::BoxSink;
use crate::values::table::table;
use crate::values::{Key, Manual};
use crate::wire::Format;

/// The options of a sink, as `[write]` has them. Whatever must know something of a sink asks them. `Display` names the place for
/// people: `file /var/log/metrics.jsonl`.
pub trait Options: fmt::Display {
    /// Reads them from a file. Without more, they are a table.
    ///
    /// # Errors
    /// What is there is not what they take.
    fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>
    where
        Self: Sized + Deserialize<'de>,
    {
        table(deserializer)
    }

    /// The sink, which opens nothing before its first frame.
    fn build(&self) -> BoxSink<Frame>;

    /// The path that it uses.
    fn path(&self) -> Option<UsedPath<'_>> {
        None
    }

    /// The only format that it takes.
    fn format(&self) -> Option<Format> {
        None
    }

    /// What becomes of frames while it does not take them.
    fn backlog(&self) -> Backlog {
        Backlog::Misses
    }

    /// Why it cannot work on this machine as it is now, each with what to do.
    fn obstacles(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// A path that a sink uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedPath<'a> {
    /// The path.
    pub path: &'a Path,
    /// The option that has it; `None` where it is all that the sink takes, or a part of a text.
    pub key: Option<&'static str>,
    /// What for.
    pub how: PathUse,
}

/// What a path is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathUse {
    /// A file is written there, and rotated to so many others, `.1` to this.
    Written {
        /// How many.
        kept: u32,
    },
    /// A socket is connected to or made there.
    Socket,
}

/// What becomes of frames while a sink does not take them, if it is the only one of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// They wait, and collecting with them; the sink is of this machine and takes them all in the end.
    Waits,
    /// As long as they wait, readings are missed.
    Misses,
    /// A newer one replaces them.
    Newest,
    /// It takes all, and keeps none.
    Nothing,
}

/// Calls a macro with all sinks of files: a module with its `MANUAL`, whose name is that in a file, a variant, and the type of its
/// options.
macro_rules! all_sinks {
    ($then:ident) => {
        $then! {
            /// A file that is rotated by size.
            file: File(FileOptions),
            /// A Unix socket, connected to.
            unix: Unix(UnixOptions),
            /// A TCP server.
            tcp: Tcp(TcpOptions),
            /// A syslog server, or the log socket of this machine.
            syslog: Syslog(SyslogOptions),
            /// Served to Prometheus.
            prometheus: Prometheus(PrometheusOptions),
            /// Standard output.
            stdout: Stdout(StdoutOptions),
            /// Nowhere; counted all the same.
            null: Null(NullOptions),
        }
    };
}
pub(crate) use all_sinks;

macro_rules! declare {
    ($($(#[$about:meta])* $name:ident: $Name:ident($Options:ident)),* $(,)?) => {
        $(mod $name;)*
        $(pub use $name::$Options;)*

        /// The sink that a `[write]` names, with its options.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Destination {
            $($(#[$about])* $Name($Options),)*
        }

        impl Destination {
            /// Its options.
            pub fn options(&self) -> &dyn Options {
                match self { $(Self::$Name(options) => options,)* }
            }

            /// Its name in a file.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Name(_) => stringify!($name),)* }
            }
        }

        /// The reference of each sink.
        pub const MANUAL: &[Manual] = &[$($name::MANUAL),*];

        /// The names of all, for `[write]` in the reference.
        pub const KEYS: &[Key] = &[$($name::MANUAL.key),*];
    };
}
all_sinks!(declare);

/// Why a call failed, as the end of a sentence.
pub(crate) fn io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
