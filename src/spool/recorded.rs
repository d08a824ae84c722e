//! How far the file has followed the queue: what is recorded in it, and what is not yet.

use super::record::{self, RecordKind};
use crate::record_file::HEAD;

/// What the file has recorded of the queue.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// Items up to this number were written, or do not fit into the file.
    pub items: u64,
    /// Items up to this number are recorded as acknowledged.
    acked: u64,
    /// Dropped items of which the file has no record yet.
    dropped: Vec<u64>,
    /// Items were written since the last sync.
    pub has_unsynced_items: bool,
    /// The end of the file when nothing waits.
    pub empty_end: u64,
}

impl Recorded {
    /// Of a file whose items up to number `items` are written, those up to `acked` as acknowledged.
    pub(super) fn new(items: u64, acked: u64) -> Self {
        Self { items, acked, ..Self::default() }
    }

    /// An item that is in the file was dropped.
    pub(super) fn drop_item(&mut self, seq: u64) {
        self.dropped.push(seq);
    }

    /// The file will be replaced, so dropped items need no record.
    pub(super) fn forget_drops(&mut self) {
        self.dropped.clear();
    }

    /// Bytes of the records of drops and acknowledgements that are missing, where items up to `acked` are acknowledged.
    pub(super) fn missing_bytes(&self, acked: u64) -> u64 {
        ((self.dropped.len() + usize::from(acked > self.acked)) * HEAD) as u64
    }

    /// Appends those records to `out`.
    pub(super) fn write_missing(&self, acked: u64, now_ms: u64, out: &mut Vec<u8>) {
        for number in &self.dropped {
            record::write(RecordKind::Dropped, *number, now_ms, (0, 0), &[], out);
        }
        if acked > self.acked {
            record::write(RecordKind::Read, acked, now_ms, (0, 0), &[], out);
        }
    }

    /// Those records are in the file.
    pub(super) fn nothing_is_missing(&mut self, acked: u64) {
        self.dropped.clear();
        self.acked = acked;
    }
}
