//! Eviction: removes unacknowledged items, for room in the order of [`MessageKind`], or on command.

use super::message::{DurableMessage, MessageKind};
use super::queue::Spool;
use super::recovery::shortened;
use super::scan::{self, Entry, ITEMS_MAX};
use super::types::{MEMORY_MAX, TOMBSTONE_MAX};
use crate::record_file::{HEAD, Storage};

impl<S: Storage> Spool<S> {
    /// Evicts until there is room for `new` and for the tombstones of what is evicted. `false`: evicting everything
    /// allowed would not make room, so nothing was evicted. A tombstone is at most half as long as its reply, so it
    /// fits into the room that the reply leaves. It is an item too: at the limit of items none is kept.
    pub(super) fn make_room(&mut self, new: &Entry, handed_over: u64) -> bool {
        let (in_file, stays) = (self.items.fits_in_file(new), self.stays_in_memory(new));
        let memory_max = self.memory_max();
        if !self.can_make_room(new, handed_over) {
            return false;
        }
        while self.items.len() + self.tombstones.len() >= ITEMS_MAX
            || (in_file
                && self.items.in_file() + self.tombstones.bytes() + new.record() > self.capacity())
        {
            if !self.evict(new.kind, handed_over, |_| true) {
                return false;
            }
        }
        while stays
            && self.frames.unwritten() > 0
            && self.frames.unwritten() + self.tombstones.bytes() + new.record() > memory_max
        {
            if !self.evict(new.kind, handed_over, |entry| entry.offset.is_none()) {
                return false;
            }
        }
        true
    }

    /// Whether there is room for `new` once everything allowed is evicted, each with the longest tombstone it may
    /// leave.
    fn can_make_room(&self, new: &Entry, handed_over: u64) -> bool {
        let (mut items, mut in_file) = (self.items.len(), self.items.in_file());
        let mut in_memory = self.frames.unwritten();
        let mut tombstones = self.tombstones.bytes() + new.record();
        let is_over = |items, in_file, in_memory, tombstones| {
            items + self.tombstones.len() >= ITEMS_MAX
                || (self.items.fits_in_file(new) && in_file + tombstones > self.capacity())
                || (self.stays_in_memory(new)
                    && in_memory > 0
                    && in_memory + tombstones > self.memory_max())
        };
        if !is_over(items, in_file, in_memory, tombstones) {
            return true;
        }
        let gone =
            self.waiting().iter().filter(|entry| entry.kind <= new.kind && entry.seq > handed_over);
        for entry in gone {
            items -= 1;
            if self.items.fits_in_file(entry) {
                in_file = in_file.saturating_sub(entry.record());
            }
            if entry.offset.is_none() {
                in_memory = in_memory.saturating_sub(entry.record());
            }
            if self.tombstones.takes(entry) {
                tombstones += (HEAD + TOMBSTONE_MAX) as u64;
            }
        }
        !is_over(items, in_file, in_memory, tombstones)
    }

    /// Whether the item stays in memory: it does not fit into the file, or the disk is failing. Others are in
    /// memory only until they are written.
    fn stays_in_memory(&self, entry: &Entry) -> bool {
        !self.items.fits_in_file(entry) || self.condition.is_failing()
    }

    fn memory_max(&self) -> u64 {
        self.size.min(MEMORY_MAX)
    }

    /// Rejects a message that has just come, as `reason`. Its tombstone takes its place if there is room.
    pub(super) fn reject(
        &mut self,
        (entry, message): (Entry, DurableMessage),
        handed_over: u64,
        reason: &'static str,
    ) {
        self.count_loss(reason, entry.readings.into());
        if !self.tombstones.takes(&entry) {
            return;
        }
        let Some(tombstone) = self.tombstones.make(&message.frame.bytes, &entry) else { return };
        let stands = Entry { length: u32::try_from(tombstone.len()).unwrap_or(u32::MAX), ..entry };
        if self.make_room(&stands, handed_over) {
            self.tombstones.push(tombstone, entry.request);
        }
    }

    /// Evicts down to the capacity, where the file was larger before. Items longer than the capacity go first.
    pub(super) fn shrink(&mut self) {
        let all = self.capacity();
        while self.items.len() + self.tombstones.len() > ITEMS_MAX
            || self.items.in_file() + self.tombstones.bytes() > all
        {
            let evict = self.evict(MessageKind::Completion, 0, |entry| entry.record() > all)
                || self.evict(MessageKind::Completion, 0, |_| true);
            if !evict {
                return;
            }
        }
    }

    /// Evicts one item that `which` accepts: the oldest of the lowest kind, up to kind `most`. `false`: there is
    /// none.
    pub(super) fn evict(
        &mut self,
        most: MessageKind,
        handed_over: u64,
        which: impl Fn(&Entry) -> bool,
    ) -> bool {
        let may_go = |entry: &Entry| entry.kind <= most && entry.seq > handed_over && which(entry);
        let first = self.waiting().iter().enumerate().filter(|(_, entry)| may_go(entry));
        // Of equal items `min_by_key` takes the first, which is the oldest.
        let order = |(_, entry): &(usize, &Entry)| (entry.kind, !self.tombstones.takes(entry));
        let Some((index, entry)) = first.min_by_key(order) else { return false };
        let entry = *entry;
        self.condition.set_full(self.size);
        if self.tombstones.takes(&entry)
            && self.items.len() + self.tombstones.len() < ITEMS_MAX
            && let Some(tombstone) = self.tombstone_of(&entry)
        {
            self.tombstones.push(tombstone, entry.request);
        }
        self.remove(index, "spool full");
        true
    }

    fn tombstone_of(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let read;
        let line: &[u8] = match self.frames.get(entry.seq) {
            Some(frame) => &frame.bytes,
            None => {
                read = scan::body(self.file.storage()?, entry).ok()??;
                &read
            }
        };
        self.tombstones.make(line, entry)
    }

    /// Removes an unacknowledged item, and counts it as lost.
    pub(super) fn remove(&mut self, index: usize, reason: &'static str) {
        let Some(entry) = self.items.remove(index) else { return };
        self.count_loss(reason, entry.readings.into());
        if entry.offset.is_some() && !self.file.is_stale {
            self.recorded.drop_item(entry.seq);
        }
        self.release(&entry);
    }

    /// Drops everything that waits.
    pub fn drop_all(&mut self, reason: &'static str) {
        while !self.items.is_empty() {
            self.remove(self.items.len() - 1, reason);
        }
        self.recorded.forget_drops();
        self.file.is_stale = true;
    }

    /// Drops the items with these numbers. Returns the numbers that are not waiting.
    pub fn drop_items(&mut self, numbers: &[u64]) -> Vec<u64> {
        let mut missing = Vec::new();
        for number in numbers {
            match self.items.index_of(*number) {
                Some(index) => self.remove(index, "dropped"),
                None => missing.push(*number),
            }
        }
        missing
    }

    /// The machine's identity changed: drops everything that waits, and records the new identity.
    pub fn change_machine(&mut self, identity: &str) {
        self.session.identity = shortened(identity);
        self.drop_all("cloned");
    }
}
