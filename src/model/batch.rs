//! What leaves the fused segment: readings that travel together, then bytes ready to be written.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Receipt, SystemMetrics};

/// Readings that travel together, oldest first. Never empty.
#[derive(Debug, Clone)]
pub struct Batch(pub Vec<SystemMetrics>);

/// Bytes ready to be written: whole lines, at most 32 KiB unless one line alone is longer.
/// A copy is a reference count.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Whole lines, each with its newline.
    pub bytes: Bytes,
    /// How many readings the lines stand for.
    pub readings: u32,
    /// When the oldest of those readings was made.
    pub oldest: Instant,
    /// Acknowledged once the frame is where it must be.
    pub receipt: Receipt,
}

impl Frame {
    /// A frame without a receipt.
    pub fn new(bytes: impl Into<Bytes>, readings: u32, oldest: Instant) -> Self {
        Self { bytes: bytes.into(), readings, oldest, receipt: Receipt::default() }
    }
}
