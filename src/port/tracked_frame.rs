//! Frames that must arrive, as they pass between whoever keeps them and the port. Keeps nothing itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::model::Frame;
use crate::sync::IgnorePoison;

/// A frame that somebody keeps until a host is known to have read it.
#[derive(Debug, Clone)]
pub struct TrackedFrame {
    /// Its number; those of later frames are higher, and none is 0.
    pub seq: u64,
    /// Whole lines.
    pub frame: Frame,
    /// A host may have got it before: the lines are marked as redelivered.
    pub again: bool,
    /// When a host asked for it, where one did: for another host than that its lines are marked, too.
    pub asked: Option<Instant>,
    /// Who has a use for it.
    pub audience: Audience,
}

/// Who has a use for a frame that must arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Audience {
    /// Any host.
    #[default]
    Any,
    /// The connection on which it was asked for: today's host gives up what it has asked for when it connects anew, and
    /// warns of an answer to that. Where every host is one's own, any.
    Asker,
    /// Hosts that understand agent events.
    Understands,
}

impl TrackedFrame {
    /// Marks it, where it is not yet, if it was asked for before `began`.
    pub(super) fn mark(&mut self, began: Option<Instant>) {
        let is_anothers = self.asked.zip(began).is_some_and(|(asked, began)| asked < began);
        if is_anothers && !std::mem::replace(&mut self.again, true) {
            self.frame.bytes = marked(&self.frame.bytes);
        }
    }
}

/// Where to hear of answers that go to nobody any more, because the connection that asked for them has ended. A copy is
/// the same one.
#[derive(Clone, Default)]
pub struct Undelivered(Arc<Mutex<Option<OnUndelivered>>>);

type OnUndelivered = Box<dyn Fn(&[u8]) + Send>;

impl Undelivered {
    /// Calls `seen` with the lines of each, in the port's task, so it must be short; in the place of who heard before.
    pub fn tell(&self, seen: impl Fn(&[u8]) + Send + 'static) {
        *self.0.lock().ignore_poison() = Some(Box::new(seen));
    }

    pub(super) fn is(&self, lines: &[u8]) {
        if let Some(seen) = &*self.0.lock().ignore_poison() {
            seen(lines);
        }
    }
}

/// Where whoever keeps frames says which of them nobody must read any more: they were said in another life of the
/// machine. A copy is the same one.
///
/// The port forgets what it has of them; a line that is being written is still written to its end.
#[derive(Debug, Clone, Default)]
pub struct Discarded(Arc<AtomicU64>);

impl Discarded {
    /// Every frame up to this number is void.
    pub fn up_to(&self, seq: u64) {
        self.0.fetch_max(seq, Ordering::Relaxed);
    }

    pub(super) fn has(&self, seq: u64) -> bool {
        seq <= self.0.load(Ordering::Relaxed)
    }
}

/// What stands in each line of a frame that may have been got before.
const MARK: &[u8] = br#""redelivered":true,"#;

/// The lines with [`MARK`] as their first field, where they are JSON objects and do not have it yet.
///
/// A field of this name is known to no host: it is there for people, and for hosts to come.
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
