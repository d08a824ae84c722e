//! What every byte device looks like to the port: tried, never waited for. Knows no device.

use std::io;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

/// What a read found. Reading never blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Somebody is there, or may be, and has nothing to say.
    Idle,
    /// Nobody is at the other end now. The same device lives again when somebody comes.
    Away,
    /// This device is finished: close it and open it again.
    Gone,
}

/// What became of a write. Writing never blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were accepted, at least one. Accepted is not delivered.
    Took(usize),
    /// No room now.
    Full,
    /// Nobody is at the other end now. What was accepted in the middle of a line is worth nothing.
    Away,
    /// This device is finished: close it and open it again.
    Gone,
    /// Nobody will ever read again: do not open it again.
    Over,
}

/// What poll(2) says of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPresence {
    /// Something can be read, or the end of it.
    pub readable: bool,
    /// A write would be taken.
    pub writable: bool,
    /// Nobody is at the other end, or the device is finished.
    pub hung_up: bool,
}

/// A byte device, driven by readiness.
///
/// The caller tries until it is told [`Received::Idle`], [`Sent::Full`] or `Away`, and then waits in
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

    /// Whether whoever comes may still hold half a line of ours, so that a bare newline goes first.
    fn greets(&self) -> bool {
        true
    }

    /// How much may be written beyond what is known to be read, in bytes; no bound where what is behind
    /// the device comes to no harm by a full one.
    fn window(&self) -> Option<usize> {
        None
    }

    /// What poll(2) says of it now; `None` for a device that is no port. For looking at a port, not for
    /// driving it.
    fn level(&self) -> io::Result<Option<HostPresence>> {
        Ok(None)
    }
}

/// Opens the device, any number of times, one at a time.
pub trait Opener: Send {
    /// The name of it in logs and messages.
    fn name(&self) -> String;

    /// One try. Dropping the future leaves nothing open.
    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Device>, NotOpen>>;

    /// Waits until a try before its time is worth it. For ever where nothing tells that.
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
