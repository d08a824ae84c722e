//! Writes frames to a TCP server.

use std::fmt;

use serde::Deserialize;

use super::Options;
use super::network::Tcp as Connection;
use crate::model::Frame;
use crate::pipeline::{BoxSink, Sink, StageError};
use crate::values::address::address;
use crate::values::words::{NEEDED, NONE};
use crate::values::{Manual, Section, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "tcp",
        "table, see below",
        NONE,
        "{ address = \"metrics.example:5170\" }",
        "a TCP server; what is sent is not encrypted",
        ),
    options: Some(Section {
        header: "`tcp = { … }` in `[write]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[write]\ntcp.address = \"x:1\"\ntcp.{}",
        keys: &[
            key(
                "address",
                "name or IP address, with a port",
                NEEDED,
                "\"metrics.example:5170\"",
                "the server; a name is looked up at each connection",
            ),
            key(
                "framing",
                "`\"newline\"` or `\"octets\"`",
                "\"newline\"",
                "\"octets\"",
                "how lines are delimited: by newlines, or by the length before each (RFC 6587)",
            ),
        ],
    }),
};

/// Options of `tcp`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpOptions {
    /// The server, as a name or an IP address with a port.
    #[serde(deserialize_with = "address")]
    pub address: String,
    /// How lines are delimited.
    #[serde(default)]
    pub framing: Framing,
}

impl fmt::Display for TcpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp {}", self.address)
    }
}

impl Options for TcpOptions {
    fn build(&self) -> BoxSink<Frame> {
        BoxSink::new(Tcp::new(&self.address, self.framing))
    }
}

/// How lines are delimited on a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Each line ends with a newline.
    #[default]
    Newline,
    /// Before each line its length in bytes and a space, and no newline (RFC 6587, 3.4.1: octet counting).
    Octets,
}

/// Connects to a TCP server at the first frame, and again after each fault.
///
/// A frame that was written in part is sent whole on a new connection. What the kernel has accepted counts as
/// written: a server that ends with unread bytes loses them. The lines are not encrypted.
///
/// # Faults
/// Always from outside: there is no listener, or the server has closed.
#[derive(Debug)]
pub struct Tcp {
    connection: Connection,
    framing: Framing,
    /// The frame with lengths before its lines; kept between frames.
    counted: Vec<u8>,
}

impl Tcp {
    /// Writes to `address`, a name or an IP address with a port.
    pub fn new(address: impl Into<String>, framing: Framing) -> Self {
        Self { connection: Connection::new(address), framing, counted: Vec::new() }
    }
}

impl Sink for Tcp {
    type In = Frame;

    fn detail(&self) -> String {
        self.connection.address().to_owned()
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        match self.framing {
            Framing::Newline => self.connection.write(&frame.bytes).await,
            Framing::Octets => {
                self.counted.clear();
                for line in lines(&frame.bytes) {
                    count_octets(line, &mut self.counted);
                }
                self.connection.write(&self.counted).await
            }
        }
    }
}

/// The lines of a frame, without their newlines.
pub(super) fn lines(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    frame
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// Appends `line` with its length before it.
pub(super) fn count_octets(line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(line.len().to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    fn frame(text: &str) -> Frame {
        Frame::new(text.to_owned(), 1, Instant::now())
    }

    async fn server() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn lines_are_told_apart_by_their_length_where_the_server_wants_it() {
        let (listener, address) = server().await;
        let mut sink = Tcp::new(address, Framing::Octets);
        sink.write(&frame("{\"a\":1}\n{}\n")).await.unwrap();
        sink.write(&frame("\n")).await.unwrap();
        drop(sink);
        let mut all = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"7 {\"a\":1}2 {}0 ");
    }

    #[tokio::test]
    async fn a_server_that_has_closed_gets_the_next_frame_on_a_new_connection() {
        let (listener, address) = server().await;
        let mut sink = Tcp::new(address, Framing::Newline);
        sink.write(&frame("one\n")).await.unwrap();
        let (mut first, _) = listener.accept().await.unwrap();
        let mut line = [0; 4];
        first.read_exact(&mut line).await.unwrap();
        drop(first);
        // The end of the connection is in the kernel of the same machine by now.
        sink.write(&frame("two\n")).await.unwrap();
        drop(sink);
        let mut all = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"two\n");
    }

    #[tokio::test]
    async fn a_missing_server_is_an_error_with_its_address() {
        let (listener, address) = server().await;
        drop(listener);
        let error = Tcp::new(&address, Framing::Newline).write(&frame("x\n")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot connect to {address}: connection refused (os error 111)")
        );
        assert!(!error.spends_budget());
    }
}
