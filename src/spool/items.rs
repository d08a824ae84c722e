//! The waiting items in their order, without their frames, and sums over them.

use std::collections::VecDeque;

use super::scan::Entry;

/// The waiting items, oldest first.
#[derive(Debug, Default)]
pub(super) struct Items {
    entries: VecDeque<Entry>,
    /// The longest record that the file takes; 0 without a file.
    longest: u64,
    /// Bytes of records that are, or will be, in the file.
    in_file: u64,
    /// Bytes of all records.
    bytes: u64,
    /// The weight of all, in readings.
    weight: u64,
}

impl Items {
    /// No items, and a file that takes records of at most `longest` bytes.
    pub(super) fn new(longest: u64) -> Self {
        Self { longest, ..Self::default() }
    }

    /// Adds an item, with a number above all others.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.fits_in_file(&entry) {
            self.in_file += entry.record();
        }
        self.bytes += entry.record();
        self.weight += u64::from(entry.readings);
        self.entries.push_back(entry);
    }

    /// Removes the oldest item if its number is at most `seq`.
    pub(super) fn pop_up_to(&mut self, seq: u64) -> Option<Entry> {
        self.entries.front().filter(|first| first.seq <= seq)?;
        self.remove(0)
    }

    /// Removes the item at `index`.
    pub(super) fn remove(&mut self, index: usize) -> Option<Entry> {
        let entry = self.entries.remove(index)?;
        if self.fits_in_file(&entry) {
            self.in_file = self.in_file.saturating_sub(entry.record());
        }
        self.bytes = self.bytes.saturating_sub(entry.record());
        self.weight = self.weight.saturating_sub(entry.readings.into());
        Some(entry)
    }

    /// The record of the item at `index` is at `offset` in the file. Returns the item if it was not in the file before.
    pub(super) fn set_offset(&mut self, index: usize, offset: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(index)?;
        let before = entry.offset.replace(offset);
        before.is_none().then_some(*entry)
    }

    /// Whether an item fits into the file, if there is one.
    pub(super) fn fits_in_file(&self, entry: &Entry) -> bool {
        entry.offset.is_some() || entry.record() <= self.longest
    }

    /// The item at `index`.
    pub(super) fn get(&self, index: usize) -> Option<Entry> {
        self.entries.get(index).copied()
    }

    /// Where the item with this number is.
    pub(super) fn index_of(&self, seq: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&seq, |entry| entry.seq).ok()
    }

    /// The index of the first item after number `seq`.
    pub(super) fn first_after(&self, seq: u64) -> usize {
        self.entries.partition_point(|entry| entry.seq <= seq)
    }

    /// All of them.
    pub(super) fn all(&self) -> &VecDeque<Entry> {
        &self.entries
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of records that are, or will be, in the file.
    pub(super) fn in_file(&self) -> u64 {
        self.in_file
    }

    /// Bytes of all records.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The weight of all, in readings.
    pub(super) fn weight(&self) -> u64 {
        self.weight
    }
}
