//! The frames of waiting items that are in memory: of those that are not on disk, and a cache of some that are.

use std::collections::BTreeMap;

use super::scan::Entry;
use super::types::CACHE_MAX;
use crate::model::Frame;

/// Frames, by the number of their item.
#[derive(Debug, Default)]
pub(super) struct Frames {
    frames: BTreeMap<u64, Frame>,
    /// Bytes of the records of those that are on disk too; at most [`CACHE_MAX`].
    cached: u64,
    /// Bytes of the records of those that are not.
    unwritten: u64,
}

impl Frames {
    /// Adds the frame of an item that is not on disk.
    pub(super) fn insert(&mut self, entry: &Entry, frame: Frame) {
        self.unwritten += entry.record();
        self.frames.insert(entry.seq, frame);
    }

    /// The item is on disk now. Its frame stays if the cache has room.
    pub(super) fn set_written(&mut self, entry: &Entry) {
        self.unwritten = self.unwritten.saturating_sub(entry.record());
        if self.cached + entry.record() > CACHE_MAX {
            self.frames.remove(&entry.seq);
        } else {
            self.cached += entry.record();
        }
    }

    /// Removes the frame of an item, if it is in memory.
    pub(super) fn remove(&mut self, entry: &Entry) {
        if self.frames.remove(&entry.seq).is_some() {
            let counter = match entry.offset {
                Some(_) => &mut self.cached,
                None => &mut self.unwritten,
            };
            *counter = counter.saturating_sub(entry.record());
        }
    }

    /// The frame of the item with this number, if it is in memory.
    pub(super) fn get(&self, seq: u64) -> Option<&Frame> {
        self.frames.get(&seq)
    }

    /// The lowest number of a frame in memory, if it is at most `seq`.
    pub(super) fn first_up_to(&self, seq: u64) -> Option<u64> {
        self.frames.range(..=seq).next().map(|(first, _)| *first)
    }

    /// Bytes of the records that are not on disk.
    pub(super) fn unwritten(&self) -> u64 {
        self.unwritten
    }
}
