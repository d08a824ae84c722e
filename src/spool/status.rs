//! The status of a spool, for display.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::queue::Spool;
use super::record::time;
use super::scan::Entry;
use super::types::State;
use crate::record_file::Storage;
use crate::sync::IgnorePoison;

/// A shared view of the status. Clones show the same; the spool task updates it after each change.
#[derive(Debug, Clone, Default)]
pub struct SpoolStatus(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// More than half of the spool is taken.
    is_half_full: AtomicBool,
    changed: Notify,
}

/// The status at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Unacknowledged items.
    pub items: u64,
    /// Their bytes, with 40 for each.
    pub bytes: u64,
    /// When the oldest item was created.
    pub oldest: Option<SystemTime>,
    /// Items that are in memory only, and lost with the agent.
    pub in_memory: u64,
    /// The state of the spool.
    pub state: State,
    /// Why items are not stored on disk, if they should be.
    pub why: Option<String>,
}

impl Waiting {
    /// How long the oldest item has waited. `None` if the clock was set back meanwhile.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.oldest?).ok()
    }
}

impl SpoolStatus {
    /// The current status.
    pub fn now(&self) -> Waiting {
        self.0.waiting.lock().ignore_poison().clone()
    }

    /// Waits until less than half of the spool is taken and `others` is true. That is asked again after each change.
    pub(super) async fn half_free(&self, others: impl Fn() -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.0.changed.notified());
            changed.as_mut().enable();
            if !self.0.is_half_full.load(Relaxed) && others() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn state<S: Storage>(&self, spool: &Spool<S>) {
        let oldest = spool.waiting().front().map(|first| time(first.at_ms));
        let items = spool.waiting().len() as u64;
        let is_in_memory = |entry: &&Entry| entry.offset.is_none();
        // Mostly there is none, so nothing is counted.
        let in_memory = match spool.frames.unwritten() {
            0 => 0,
            _ => spool.waiting().iter().filter(is_in_memory).count() as u64,
        };
        let (bytes, state, why) = (spool.bytes(), spool.state(), spool.trouble().cloned());
        let waiting = Waiting { items, bytes, oldest, in_memory, state, why };
        *self.0.waiting.lock().ignore_poison() = waiting;
        self.0.is_half_full.store(spool.bytes() >= spool.capacity() / 2, Relaxed);
        self.0.changed.notify_waiters();
    }
}
