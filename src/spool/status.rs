//! What waits for the host now, for whoever wants to show it. Changes nothing of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::queue::Spool;
use super::scan::Entry;
use super::storage::Storage;
use super::types::State;
use crate::sync::IgnorePoison;

/// Reads what waits. A copy reads the same. One keeper writes it, after each change.
#[derive(Debug, Clone, Default)]
pub struct SpoolStatus(Arc<Mutex<Waiting>>);

/// What waits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Items that the host is not known to have read.
    pub items: u64,
    /// Their bytes, with 40 for each.
    pub bytes: u64,
    /// When the oldest of them was made.
    pub oldest: Option<SystemTime>,
    /// Those of the items that are in memory only, and lost with the agent.
    pub in_memory: u64,
    /// How the spool does.
    pub state: State,
    /// Why it does not keep them on disk, if so; nothing where nobody wanted that.
    pub why: Option<String>,
}

impl Waiting {
    /// How long the oldest has waited. Nothing where the clock was set back meanwhile.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        now.duration_since(self.oldest?).ok()
    }
}

impl SpoolStatus {
    /// What waits now.
    pub fn now(&self) -> Waiting {
        self.0.lock().ignore_poison().clone()
    }

    pub(super) fn state<S: Storage>(&self, spool: &Spool<S>) {
        let oldest = spool.waiting().front().map(|first| time(first.at_ms));
        let items = spool.waiting().len() as u64;
        let is_in_memory = |entry: &&Entry| entry.offset.is_none();
        // Mostly there is none, and no need to count.
        let in_memory = match spool.in_memory {
            0 => 0,
            _ => spool.waiting().iter().filter(is_in_memory).count() as u64,
        };
        let (bytes, state, why) = (spool.bytes(), spool.state(), spool.trouble().cloned());
        let waiting = Waiting { items, bytes, oldest, in_memory, state, why };
        *self.0.lock().ignore_poison() = waiting;
    }
}

/// The time of a record. What is beyond the clock's end is its beginning.
pub(crate) fn time(at_ms: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(at_ms)).unwrap_or(UNIX_EPOCH)
}

/// A time as a record has it.
pub(crate) fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
