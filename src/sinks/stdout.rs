//! Writes frames to standard output, without changing the terminal or anything else that it shares.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Deserialize;
use serde::de::Deserializer;

use super::blocking::{Blocking, BlockingSink, same};
use super::{Options, Backlog, io_reason};
use crate::model::Frame;
use crate::pipeline::{BoxSink, Sink, StageError};
use crate::values::words::NONE;
use crate::values::{Manual, Enabled, key};

pub(super) const MANUAL: Manual = Manual {
    key: key("stdout", "`true`", NONE, "true", "standard output"),
    options: None,
};

/// What `stdout` takes: `true`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct StdoutOptions(Enabled);

impl fmt::Display for StdoutOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout")
    }
}

impl Options for StdoutOptions {
    fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn build(&self) -> BoxSink<Frame> {
        BoxSink::new(Stdout::new())
    }

    fn backlog(&self) -> Backlog {
        Backlog::Waits
    }
}

/// A pipe or terminal that polls writable accepts this many bytes without blocking: a pipe is writable while a page
/// of it is free (`fs/pipe.c`, `pipe_poll`).
const PIECE: usize = 4096;

/// How long a wait for a slow reader lasts before `stop` is checked.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// Writes each frame to standard output: a terminal, a pipe, a file or a socket.
///
/// A slow or stopped reader (`Ctrl-S`) delays this sink and nothing else. A frame that failed after a part was
/// written continues at that byte.
///
/// # Faults
/// Final if the reader has gone; otherwise from outside.
///
/// # Why not `O_NONBLOCK`
/// That flag belongs to the open terminal, which the shell and others share: set here, their writes would begin to
/// fail. So a thread of the blocking pool waits.
#[derive(Debug)]
pub struct Stdout(BlockingSink<Writer>);

impl Stdout {
    /// Writes to this process's standard output.
    pub fn new() -> Self {
        Self::of(None)
    }

    /// Writes to another descriptor in the same way.
    pub fn to(descriptor: OwnedFd) -> Self {
        Self::of(Some(descriptor))
    }

    fn of(descriptor: Option<OwnedFd>) -> Self {
        Self(BlockingSink::new(Writer { descriptor, unfinished: None }))
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for Stdout {
    type In = Frame;

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        self.0.write(&frame.bytes).await
    }
}

/// The blocking writer.
#[derive(Debug)]
struct Writer {
    /// `None` is the standard output.
    descriptor: Option<OwnedFd>,
    /// The frame that failed in the middle, and how much of it was written.
    unfinished: Option<(Bytes, usize)>,
}

impl Blocking for Writer {
    fn write(&mut self, bytes: &Bytes, stop: &AtomicBool) -> Result<(), StageError> {
        let mut done = match self.unfinished.take() {
            Some((before, done)) if same(&before, bytes) => done,
            // Another frame comes instead: end the line that was cut.
            Some((before, done)) if !before[..done].ends_with(b"\n") => {
                let mut newline = 0;
                let ended = self.write_from(b"\n", &mut newline, stop);
                if ended.is_err() {
                    self.unfinished = Some((before, done));
                }
                ended?;
                0
            }
            _ => 0,
        };
        let written = self.write_from(bytes, &mut done, stop);
        if written.is_err() && done > 0 {
            self.unfinished = Some((bytes.clone(), done));
        }
        written
    }
}

impl Writer {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.descriptor {
            Some(descriptor) => descriptor.as_fd(),
            None => rustix::stdio::stdout(),
        }
    }

    /// Writes `bytes` from `done` on, and advances `done`.
    fn write_from(
        &self,
        bytes: &[u8],
        done: &mut usize,
        stop: &AtomicBool,
    ) -> Result<(), StageError> {
        while *done < bytes.len() {
            let mut wanted = [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::OUT)];
            match poll(&mut wanted, Some(&PATIENCE)) {
                Ok(0) if stop.load(Ordering::Relaxed) => {
                    return Err(StageError::outside("the reader of stdout does not read"));
                }
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(fault(error)),
            }
            let end = bytes.len().min(*done + PIECE);
            match rustix::io::write(self.descriptor(), &bytes[*done..end]) {
                Ok(count) => *done += count,
                // Another process that shares it may have made it non-blocking.
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(fault(error)),
            }
        }
        Ok(())
    }
}

fn fault(error: Errno) -> StageError {
    match error {
        Errno::PIPE => StageError::last("the reader of stdout has gone"),
        error => {
            StageError::outside(format_args!("cannot write to stdout: {}", io_reason(&error.into())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;
    use tokio::time::{Instant, timeout};

    fn frame(bytes: impl Into<Bytes>) -> Frame {
        Frame::new(bytes, 1, Instant::now())
    }

    #[tokio::test]
    async fn a_reader_that_comes_late_gets_everything_once() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        let other_end = writer.try_clone().unwrap();
        let mut sink = Stdout::to(writer.into());
        // More than a pipe holds, so that the write stands still in the middle and is given up.
        let long = frame(vec![b'x'; 300_000]);
        assert!(timeout(Duration::from_millis(20), sink.write(&long)).await.is_err());

        let expected = long.bytes.len() + b"next\n".len();
        let reading = tokio::task::spawn_blocking(move || {
            let mut all = vec![0; expected];
            reader.read_exact(&mut all).unwrap();
            (all, reader)
        });
        sink.write(&long).await.unwrap();
        sink.write(&frame("next\n")).await.unwrap();
        let (all, _reader) = reading.await.unwrap();
        assert!(all.ends_with(b"xxnext\n"));
        assert_eq!(
            rustix::fs::fcntl_getfl(&other_end).unwrap(),
            flags,
            "shared flags are left alone"
        );
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_the_last_fault() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let fault = Stdout::to(writer.into()).write(&frame("x\n")).await.unwrap_err();
        assert_eq!(fault.to_string(), "the reader of stdout has gone");
        assert!(fault.is_last());
    }

    #[tokio::test]
    async fn a_full_device_is_an_error_and_does_not_end_the_daemon() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let fault = Stdout::to(full.into()).write(&frame("x\n")).await.unwrap_err();
        assert!(fault.to_string().contains("no space left on device"), "{fault}");
        assert!(!fault.spends_budget() && !fault.is_last());
    }

    #[test]
    fn a_frame_cut_in_the_middle_is_gone_on_with_and_a_line_is_ended_before_another() {
        let (mut reader, pipe) = std::io::pipe().unwrap();
        let (one, two) = (Bytes::from_static(b"first line\n"), Bytes::from_static(b"second\n"));
        let stop = AtomicBool::new(false);
        let mut writer = Writer { descriptor: Some(pipe.into()), unfinished: None };
        let mut done = 0;
        writer.write_from(&one[..5], &mut done, &stop).unwrap();
        writer.unfinished = Some((one.clone(), done));
        writer.write(&one, &stop).unwrap();
        writer.unfinished = Some((one.clone(), 5));
        writer.write(&two, &stop).unwrap();
        writer.unfinished = Some((one.clone(), one.len()));
        writer.write(&two, &stop).unwrap();
        drop(writer);
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "first line\n\nsecond\nsecond\n");
    }
}
