//! What the port has counted. Says nothing to anybody: whoever wants the numbers reads them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The books of the port as a node, in readings: `taken = given + lost + held` at every step.
#[derive(Debug, Default)]
pub struct Books {
    taken: AtomicU64,
    given: AtomicU64,
    /// Written only when the port ends, so the lock is never waited for.
    lost: Mutex<Vec<(&'static str, u64)>>,
    faults: AtomicU64,
}

impl Books {
    /// So many readings came in from a lane.
    pub fn took(&self, readings: u64) {
        self.taken.fetch_add(readings, Relaxed);
    }

    /// So many readings were accepted by the device, to the last byte.
    pub fn gave(&self, readings: u64) {
        self.given.fetch_add(readings, Relaxed);
    }

    /// So many readings will never be written, for a reason of one word.
    pub fn lost(&self, reason: &'static str, readings: u64) {
        if readings == 0 {
            return;
        }
        let mut lost = self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match lost.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += readings,
            None => lost.push((reason, readings)),
        }
    }

    /// The device failed in a way that is not one of its states.
    pub fn fault(&self) {
        self.faults.fetch_add(1, Relaxed);
    }

    /// Readings that came in.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Readings accepted by the device.
    pub fn given(&self) -> u64 {
        self.given.load(Relaxed)
    }

    /// Readings lost, by reason.
    pub fn losses(&self) -> Vec<(&'static str, u64)> {
        self.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Faults survived.
    pub fn faults(&self) -> u64 {
        self.faults.load(Relaxed)
    }
}

/// What happened at the device since the start. Each number is right by itself; two of them need not
/// be of the same moment.
#[derive(Debug, Default)]
pub struct Counters {
    /// Times the device was opened.
    pub opens: AtomicU64,
    /// Times a host was found at the other end that was not there before.
    pub host_connects: AtomicU64,
    /// Times the host left, or the device went with it.
    pub host_leaves: AtomicU64,
    /// Bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes read that nobody wanted.
    pub bytes_in_unwanted: AtomicU64,
    /// Bytes accepted by the device.
    pub bytes_out: AtomicU64,
    /// Lines sent again from their first byte because the host left in the middle of them.
    pub torn_lines_resent: AtomicU64,
    /// Times the device began to have no room.
    pub stalls: AtomicU64,
    /// Times the port's task was polled while the device was open.
    pub wakeups: AtomicU64,
    /// Readings in hand: pulled from a lane and not accepted to the last byte.
    pub held: AtomicU64,
    /// Whether a host is at the other end, as far as is known.
    pub host_is_there: AtomicBool,
}

/// Adds `n` to a counter that nothing is ordered by.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
