//! Writes frames to a Unix stream socket.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::Deserializer;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{Options, PathUse, UsedPath, io_reason};
use crate::model::Frame;
use crate::pipeline::{BoxSink, Sink, StageError};
use crate::values::address::SocketPath;
use crate::values::words::NONE;
use crate::values::{Manual, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "unix",
        "path, at most 107 bytes",
        NONE,
        "\"/run/metrics.sock\"",
        "a Unix socket to connect to",
        ),
    options: None,
};

/// What `unix` takes: the path of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixOptions(pub PathBuf);

impl<'de> Deserialize<'de> for UnixOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SocketPath::deserialize(deserializer).map(|SocketPath(path)| Self(path))
    }
}

impl fmt::Display for UnixOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix {}", self.0.display())
    }
}

impl Options for UnixOptions {
    fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn build(&self) -> BoxSink<Frame> {
        BoxSink::new(Unix::new(&self.0))
    }

    fn path(&self) -> Option<UsedPath<'_>> {
        Some(UsedPath { path: &self.0, key: None, how: PathUse::Socket })
    }
}

/// Connects to a stream socket at the first frame, and again after each fault.
///
/// A frame that was written in part when the connection broke, or when the write was cancelled, is sent whole on a
/// new connection; the old one is closed, so the other end sees the cut line end there. What the kernel has
/// accepted counts as written: a peer that closes with unread bytes loses them.
///
/// # Faults
/// Always from outside: nothing listens, or the peer has closed.
#[derive(Debug)]
pub struct Unix {
    path: PathBuf,
    /// Taken while a write is under way, so that cancelling it closes the connection.
    stream: Option<UnixStream>,
}

impl Unix {
    /// Writes to the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), stream: None }
    }

    async fn connect(&self) -> Result<UnixStream, StageError> {
        UnixStream::connect(&self.path).await.map_err(|error| {
            let (path, why) = (&self.path, io_reason(&error));
            StageError::outside(format_args!(
                "cannot connect to {path:?}: {why} (does anyone listen?)"
            ))
        })
    }
}

impl Sink for Unix {
    type In = Frame;

    fn detail(&self) -> String {
        self.path.display().to_string()
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        stream.write_all(&frame.bytes).await.map_err(|error| {
            StageError::outside(format_args!("cannot write to {:?}: {}", self.path, io_reason(&error)))
        })?;
        self.stream = Some(stream);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tempfile::TempDir;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;
    use tokio::time::{Instant, timeout};

    fn frame(text: &str) -> Frame {
        Frame::new(text.to_owned(), 1, Instant::now())
    }

    #[tokio::test]
    async fn a_frame_that_the_peer_cut_short_comes_whole_on_the_next_connection() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut sink = Unix::new(&path);
        sink.write(&frame("one\n")).await.unwrap();

        // Longer than the socket's buffer, so it cannot be taken before the peer reads.
        let long = frame(&format!("{}\n", "x".repeat(4 << 20)));
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut start = vec![0; 1_000];
            stream.read_exact(&mut start).await.unwrap();
            assert!(start.starts_with(b"one\nxxx"));
            drop(stream);
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            all
        });
        let fault = sink.write(&long).await.unwrap_err();
        assert!(fault.to_string().contains("broken pipe"), "{fault}");
        assert!(!fault.spends_budget());
        sink.write(&long).await.unwrap();
        drop(sink);
        assert_eq!(peer.await.unwrap(), long.bytes);
    }

    #[tokio::test]
    async fn a_write_given_up_in_the_middle_ends_the_connection() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut sink = Unix::new(&path);
        let long = frame(&format!("{}\n", "x".repeat(4 << 20)));
        // The peer does not read.
        assert!(timeout(Duration::from_millis(1), sink.write(&long)).await.is_err());
        let (mut first, _) = listener.accept().await.unwrap();
        let mut cut = Vec::new();
        first.read_to_end(&mut cut).await.unwrap();
        assert!(cut.len() < long.bytes.len());

        sink.write(&frame("next\n")).await.unwrap();
        drop(sink);
        let (mut second, _) = listener.accept().await.unwrap();
        let mut all = Vec::new();
        second.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"next\n");
    }

    #[tokio::test]
    async fn a_missing_listener_is_an_error_with_the_path() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let fault = Unix::new(&path).write(&frame("x\n")).await.unwrap_err().to_string();
        assert!(fault.starts_with("cannot connect to "), "{fault}");
        assert!(fault.contains("socket\": no such file or directory"), "{fault}");
    }
}
