//! Durable frames as they pass from the spool to the port.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::model::Frame;
use crate::sync::IgnorePoison;

/// A durable frame. Its sender keeps it until a host acknowledges it.
#[derive(Debug, Clone)]
pub struct TrackedFrame {
    /// Sequence number, from 1, strictly increasing.
    pub seq: u64,
    /// Whole lines.
    pub frame: Frame,
    /// A host may have received the frame before: its lines are marked as redelivered.
    pub redelivered: bool,
    /// When a host requested it, if one did. Another host gets its lines marked as redelivered.
    pub requested_at: Option<Instant>,
    /// Which hosts may receive it.
    pub audience: Audience,
    /// Its sender sends no more until the host acknowledges a frame, so the port asks the host once it is written.
    pub sender_waits: bool,
}

/// Which hosts may receive a durable frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Audience {
    /// Any host.
    #[default]
    Any,
    /// The connection that requested it. Today's host abandons its requests when it reconnects, and warns about an
    /// answer to one of them. On a port with the project's own host: any host.
    Requester,
    /// Hosts that understand agent events.
    UnderstandsEvents,
}

/// What the port keeps of a tracked frame beside its bytes; see [`TrackedFrame`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tracking {
    pub seq: u64,
    pub redelivered: bool,
    pub requested_at: Option<Instant>,
    pub audience: Audience,
}

impl Tracking {
    /// The frame again. What its sender does was noted when the frame came from it.
    pub(super) fn with(self, frame: Frame) -> TrackedFrame {
        let Self { seq, redelivered, requested_at, audience } = self;
        TrackedFrame { seq, frame, redelivered, requested_at, audience, sender_waits: false }
    }
}

impl TrackedFrame {
    /// The frame, and the rest.
    pub(super) fn split(self) -> (Frame, Tracking) {
        let Self { seq, frame, redelivered, requested_at, audience, .. } = self;
        (frame, Tracking { seq, redelivered, requested_at, audience })
    }

    /// Marks the frame as redelivered if it was requested before this session started.
    pub(super) fn mark(&mut self, session_start: Option<Instant>) {
        let times = self.requested_at.zip(session_start);
        let is_of_another_session = times.is_some_and(|(requested, start)| requested < start);
        if is_of_another_session && !std::mem::replace(&mut self.redelivered, true) {
            self.frame.bytes = marked(&self.frame.bytes);
        }
    }
}

/// Notifies of replies that are dropped because the connection that requested them has ended. Clones share one
/// callback.
#[derive(Clone, Default)]
pub struct Undelivered(Arc<Mutex<Option<OnUndelivered>>>);

type OnUndelivered = Box<dyn Fn(&[u8]) + Send>;

impl Undelivered {
    /// Calls `notify` with the lines of each dropped reply, and replaces an earlier callback. It runs in the port's
    /// task, so it must be short.
    pub fn on_dropped(&self, notify: impl Fn(&[u8]) + Send + 'static) {
        *self.0.lock().ignore_poison() = Some(Box::new(notify));
    }

    pub(super) fn notify(&self, lines: &[u8]) {
        if let Some(notify) = &*self.0.lock().ignore_poison() {
            notify(lines);
        }
    }
}

/// The highest sequence number whose frames are discarded, set when the machine becomes another one. Clones share
/// it.
///
/// The port drops its copies. A line that is being written is still written to its end.
#[derive(Debug, Clone, Default)]
pub struct Discarded(Arc<AtomicU64>);

impl Discarded {
    /// Discards every frame up to `seq`.
    pub fn up_to(&self, seq: u64) {
        self.0.fetch_max(seq, Ordering::Relaxed);
    }

    pub(super) fn covers(&self, seq: u64) -> bool {
        seq <= self.0.load(Ordering::Relaxed)
    }
}

/// The first field of each redelivered line.
const MARK: &[u8] = br#""redelivered":true,"#;

/// The lines with [`MARK`] as their first field. Lines that are not JSON objects, or have it already, stay as they
/// are.
///
/// No host reads this field today. It is for people and for future hosts.
pub(super) fn marked(lines: &Bytes) -> Bytes {
    let mut marked = BytesMut::with_capacity(lines.len() + MARK.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_prefix(b"{") {
            Some(rest) if rest.starts_with(b"\"") && !rest.starts_with(MARK) => {
                marked.extend_from_slice(b"{");
                marked.extend_from_slice(MARK);
                marked.extend_from_slice(rest);
            }
            _ => marked.extend_from_slice(line),
        }
    }
    marked.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_object_is_marked_once_and_nothing_else_is_touched() {
        let lines = Bytes::from("{\"type\":\"response\"}\n{\"a\":1}\n{}\ncpu a=1\n");
        let expected = "{\"redelivered\":true,\"type\":\"response\"}\n{\"redelivered\":true,\"a\":1}\n{}\ncpu a=1\n";
        assert_eq!(marked(&lines), expected);
        assert_eq!(marked(&marked(&lines)), expected);
    }
}
