//! Tombstones: short lines that take the place of evicted replies.

use super::message::MessageKind;
use super::record::time;
use super::scan::Entry;
use super::types::{TOMBSTONE_MAX, Tombstone};
use crate::record_file::HEAD;

/// Makes tombstones, and keeps those that are not in the queue yet.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// Makes one. `None`: an evicted reply leaves nothing.
    make: Option<Tombstone>,
    /// Each with the request that it answers.
    made: Vec<(Vec<u8>, u32)>,
}

impl Tombstones {
    /// Tombstones that `make` makes.
    pub(super) fn new(make: Option<Tombstone>) -> Self {
        Self { make, made: Vec::new() }
    }

    /// Whether evicting the item leaves a tombstone.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let is_long = entry.length as usize > 2 * TOMBSTONE_MAX;
        self.make.is_some() && entry.kind == MessageKind::Response && is_long
    }

    /// The tombstone of the reply `line`, whose entry is `entry`. `None` if there is none that is short enough.
    pub(super) fn make(&self, line: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        (self.make?)(line, time(entry.at_ms)).filter(|made| made.len() <= TOMBSTONE_MAX)
    }

    /// Keeps the tombstone of the reply to `request`.
    pub(super) fn push(&mut self, tombstone: Vec<u8>, request: u32) {
        self.made.push((tombstone, request));
    }

    /// Takes those that are kept, each with its request.
    pub(super) fn take(&mut self) -> Vec<(Vec<u8>, u32)> {
        std::mem::take(&mut self.made)
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.made.len()
    }

    /// Bytes of the records of those that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.made.iter().map(|(tombstone, _)| (HEAD + tombstone.len()) as u64).sum()
    }
}
