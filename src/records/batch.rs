//! What travels between the stages of a records flow: whole lines in one buffer. And where they are gathered.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::Receipt;
use crate::pipeline::MemoryBudget;
use crate::records::buffers::Buffers;
use crate::values::{Count, Period, Size};

/// A batch of records: whole lines in one buffer, with where each ends. A copy is a reference count and the ends.
#[derive(Debug, Clone)]
pub struct Records {
    /// Whole lines, each with its newline.
    pub bytes: Bytes,
    /// The end of each line, newline included; ascending.
    pub ends: Vec<u32>,
    /// Lines that were skipped before these because they were longer than `max_line`.
    pub too_long: u64,
    /// When the oldest was read.
    pub oldest: Instant,
    /// How its lines are to be read.
    pub decode: Decode,
    /// Acknowledges them to their source.
    pub receipt: Receipt,
}

impl Records {
    /// The lines, each without its newline.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| {
            let line = self.bytes.get(start as usize..*end as usize).unwrap_or_default();
            line.strip_suffix(b"\n").unwrap_or(line)
        })
    }
}

/// How the lines of a source are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decode {
    /// What a line is.
    pub parse_as: ParseAs,
    /// What becomes of a line that is not that.
    pub invalid: Invalid,
}

/// What a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParseAs {
    /// A JSON object.
    #[default]
    Json,
    /// Any text: it becomes the field `message`.
    Text,
}

/// What becomes of a line that is not what it should be. It is counted in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Invalid {
    /// It is dropped.
    #[default]
    Drop,
    /// It becomes the field `message` of a record, with what is no UTF-8 replaced.
    Keep,
    /// It goes as it is to the side file of this number; where there is none, it is dropped.
    SideFile(usize),
}

/// When a batch leaves. Whichever comes first counts.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Records in a batch.
    pub max_items: Count,
    /// Bytes in a batch. One record above it goes alone.
    pub max_bytes: Size,
    /// Time that the oldest record has been held.
    pub max_delay: Period,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_items: Count::fixed(4_096),
            max_bytes: Size::kib(256),
            max_delay: Period::millis(1_000),
        }
    }
}

/// Where records are gathered until a batch is complete.
#[derive(Debug)]
pub(super) struct Gathered {
    max_items: usize,
    max_bytes: usize,
    max_delay: Duration,
    buffers: Buffers,
    /// Whole lines. A writer appends one and then calls [`end_line`](Self::end_line).
    pub lines: Vec<u8>,
    ends: Vec<u32>,
    oldest: Option<Instant>,
    opened: Option<Instant>,
    /// Of the batches that the lines are from.
    receipts: Vec<Receipt>,
}

impl Gathered {
    /// Nothing yet; batches are charged to `budget`.
    pub(super) fn new(limits: Limits, budget: &MemoryBudget) -> Self {
        Self {
            max_items: limits.max_items.items(),
            max_bytes: usize::try_from(limits.max_bytes.bytes()).unwrap_or(usize::MAX),
            max_delay: limits.max_delay.get(),
            buffers: Buffers::new(budget),
            lines: Vec::new(),
            ends: Vec::new(),
            oldest: None,
            opened: None,
            receipts: Vec::new(),
        }
    }
}

impl Gathered {
    /// How many records are held.
    pub(super) fn records(&self) -> usize {
        self.ends.len()
    }

    /// The line that was appended is whole; it was read at `oldest`.
    pub(super) fn end_line(&mut self, now: Instant, oldest: Instant) {
        self.ends.push(u32::try_from(self.lines.len()).unwrap_or(u32::MAX));
        self.oldest = Some(self.oldest.map_or(oldest, |other| other.min(oldest)));
        self.opened.get_or_insert(now);
    }

    /// All lines of a batch that has this receipt are in, or have left with an earlier one.
    pub(super) fn end_batch(&mut self, receipt: &Receipt) {
        if receipt.is_awaited() {
            self.receipts.push(receipt.clone());
        }
    }

    /// Whether a batch is complete.
    pub(super) fn is_full(&self) -> bool {
        self.ends.len() >= self.max_items || self.lines.len() >= self.max_bytes
    }

    /// When the batch has to leave.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.opened? + self.max_delay)
    }

    /// Goes back to the first `records`, the start of which may have left in `full`.
    pub(super) fn go_back(&mut self, records: usize, full: Option<Records>) {
        if let Some(full) = full {
            (self.lines, self.ends) = (full.bytes.into(), full.ends);
            (self.oldest, self.opened) = (Some(full.oldest), Some(full.oldest));
            self.receipts = vec![full.receipt];
        }
        self.ends.truncate(records);
        self.lines.truncate(self.ends.last().map_or(0, |end| *end as usize));
        if self.ends.is_empty() {
            (self.oldest, self.opened) = (None, None);
        }
    }

    /// The batch, if there is anything in it.
    pub(super) fn take(&mut self) -> Option<Records> {
        let oldest = self.oldest.take()?;
        self.opened = None;
        let next = self.buffers.take(self.lines.len());
        let bytes = self.buffers.share(std::mem::replace(&mut self.lines, next));
        let next = Vec::with_capacity(self.ends.len());
        let ends = std::mem::replace(&mut self.ends, next);
        let (decode, receipt) = (Decode::default(), Receipt::merge(self.receipts.drain(..)));
        Some(Records { bytes, ends, too_long: 0, oldest, decode, receipt })
    }
}
