//! What happened at the device, counted. Says nothing to anybody: whoever wants the numbers reads them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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
}

/// Adds `n` to a counter that nothing is ordered by.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
