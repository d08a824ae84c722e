//! Sinks other than the port: a file, a Unix socket, a TCP server, syslog, standard output, none at all.
//!
//! Every sink writes a frame whole or fails, and then gets the same frame again; a write may also be cancelled at
//! any await and repeated. No sink buffers frames: a buffered frame would count as written and could still be lost,
//! and the stages before have batched already. So there is nothing to flush. `blocking` runs the writers that
//! block.

mod file;
mod unix;
mod tcp;
mod syslog;
mod prometheus;
mod stdout;
mod null;

mod blocking;
mod network;

use std::io;

pub(crate) use file::{Access, Appender};
pub use file::{File, Rotation};
pub use null::Null;
#[cfg(feature = "host")]
pub(crate) use prometheus::Server as PrometheusServer;
pub use prometheus::{Listen, Prometheus};
pub use stdout::Stdout;
pub use syslog::{Header, MAX_DATAGRAM, Server, Syslog};
pub use tcp::{Framing, Tcp};
pub use unix::Unix;

/// Why a call failed, as the end of a sentence.
pub(crate) fn why(error: &io::Error) -> String {
    let text = error.to_string();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
