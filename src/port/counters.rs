//! The device's counters.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The device's counters since the start. Each number is right by itself; two of them may be of different moments.
#[derive(Debug, Default)]
pub struct Counters {
    /// Times the device was opened.
    pub opens: AtomicU64,
    /// Host connects.
    pub host_connects: AtomicU64,
    /// Host disconnects, also those by a lost device.
    pub host_leaves: AtomicU64,
    /// Bytes read.
    pub bytes_in: AtomicU64,
    /// Bytes read and dropped, because no command flow receives them.
    pub bytes_in_unwanted: AtomicU64,
    /// Bytes accepted by the device.
    pub bytes_out: AtomicU64,
    /// Lines sent again whole because the host disconnected in the middle of them.
    pub torn_lines_resent: AtomicU64,
    /// Times the device became full.
    pub stalls: AtomicU64,
    /// Bytes that are written and not acknowledged now.
    pub unacknowledged: AtomicU64,
    /// Whether the device is full now.
    pub is_full: AtomicBool,
    /// Whether a frame waits now until more is acknowledged.
    pub is_waiting: AtomicBool,
    /// Whether the connected host was asked to acknowledge, and never has.
    pub never_acked: AtomicBool,
    /// Times the port's task was polled while the device was open.
    pub wakeups: AtomicU64,
}

/// Adds `n`, without ordering.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
