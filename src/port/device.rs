//! The interface of every byte device: non-blocking, driven by readiness.

use std::io;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

/// The result of a read. Reading never blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// This many bytes, at least one.
    Bytes(usize),
    /// A host is connected, or may be, and has sent nothing.
    Idle,
    /// No host is connected. The same device works again when one connects.
    Away,
    /// This device is gone: close it and open it again.
    Gone,
}

/// The result of a write. Writing never blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// This many bytes were accepted, at least one. Accepted is not delivered.
    Took(usize),
    /// No room now.
    Full,
    /// No host is connected. A line that was accepted in part is lost.
    Away,
    /// This device is gone: close it and open it again.
    Gone,
    /// The reader is gone for good: do not open it again.
    Over,
}

/// The poll(2) state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPresence {
    /// Something can be read, or the end of it.
    pub readable: bool,
    /// A write would be accepted.
    pub writable: bool,
    /// No host is connected, or the device is gone.
    pub hung_up: bool,
}

/// A byte device, driven by readiness.
///
/// The caller tries until it gets [`Received::Idle`], [`Sent::Full`] or `Away`, and then waits in
/// [`poll_changed`](Self::poll_changed). An error is a fault of this opening of the device: close it
/// and open it again.
pub trait Device: Send {
    /// Reads into `into`, which must not be empty. At once, and at most once.
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received>;

    /// Writes from the front of `from`, which must not be empty. At once, and at most once.
    fn write(&mut self, from: &[u8]) -> io::Result<Sent>;

    /// Ready when something may have changed since the last try that could not go on. A spurious
    /// `Ready` is allowed, a missed change is not.
    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Whether the next host may hold half a line of ours, so that a bare newline goes first.
    fn needs_newline(&self) -> bool {
        true
    }

    /// The most unacknowledged bytes; `None` for a device that a full buffer does not harm.
    fn window(&self) -> Option<usize> {
        None
    }

    /// The poll(2) state now; `None` for a device that is no port. For observation, not for driving it.
    fn level(&self) -> io::Result<Option<HostPresence>> {
        Ok(None)
    }
}

/// Opens the device, any number of times, one at a time.
pub trait Opener: Send {
    /// Its name in logs and messages.
    fn name(&self) -> String;

    /// One try. Dropping the future leaves nothing open.
    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Device>, NotOpen>>;

    /// Waits until an early try is worth it. Never returns where nothing can show that.
    fn appears(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// Why a device could not be opened: the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOpen {
    /// It is not there yet; looked for again within 5 s.
    Absent(String),
    /// Another process holds it; tried again within 30 s.
    Busy(String),
    /// Anything else; tried again within 30 s.
    Refused(String),
}

impl std::fmt::Display for NotOpen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Absent(why) | Self::Busy(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for NotOpen {}
