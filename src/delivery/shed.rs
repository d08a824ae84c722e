//! What goes without having been read: for room, in the order of [`Kind`], or because somebody says so.
//! Writes nothing.

use super::must::Kind;
use super::scan::{Entry, ITEMS_MAX};
use super::spool::{Spool, shortened};
use super::storage::Storage;
use super::terms::MEMORY_MAX;

impl<S: Storage> Spool<S> {
    /// Sheds until there is room for `new`. `false`: there is nothing that may go for it.
    pub(super) fn room_for(&mut self, new: &Entry, handed: u64) -> bool {
        let in_file = self.fits(new);
        let memory_max = self.size.min(MEMORY_MAX);
        while self.waiting.len() >= ITEMS_MAX
            || (in_file && self.live + new.record() > self.capacity())
        {
            if !self.shed(new.kind, handed, |_| true) {
                return false;
            }
        }
        // What gets a place in the file is in memory for a moment only.
        let stays = !in_file || self.failing.is_some();
        while stays && self.in_memory > 0 && self.in_memory + new.record() > memory_max {
            if !self.shed(new.kind, handed, |entry| entry.offset.is_none()) {
                return false;
            }
        }
        true
    }

    /// Gives up the oldest item of the kind that goes first, of kinds up to `most`.
    pub(super) fn shed(&mut self, most: Kind, handed: u64, which: impl Fn(&Entry) -> bool) -> bool {
        let may_go = |entry: &Entry| entry.kind <= most && entry.seq > handed && which(entry);
        let first = self.waiting.iter().enumerate().filter(|(_, entry)| may_go(entry));
        // Of equal ones `min_by_key` takes the first, which is the oldest.
        let Some((index, _)) = first.min_by_key(|(_, entry)| entry.kind) else { return false };
        self.now_full();
        self.remove(index, "spool full");
        true
    }

    pub(super) fn now_full(&mut self) {
        if !std::mem::replace(&mut self.full, true) {
            tracing::warn!(size = self.size, "spool is full and sheds");
        }
    }

    /// Takes an item out that the host has not read, and books it as lost unless `reason` is empty.
    pub(super) fn remove(&mut self, index: usize, reason: &'static str) {
        let Some(entry) = self.waiting.remove(index) else { return };
        self.lose(reason, entry.readings.into());
        if entry.offset.is_some() && !self.stale {
            self.dropped.push(entry.seq);
        }
        self.forget(&entry);
    }

    /// Gives up all that waits.
    pub fn drop_all(&mut self, reason: &'static str) {
        while !self.waiting.is_empty() {
            self.remove(self.waiting.len() - 1, reason);
        }
        self.dropped.clear();
        self.stale = true;
    }

    /// Gives up the items of these numbers; returns those that do not wait here.
    pub fn drop_items(&mut self, numbers: &[u64]) -> Vec<u64> {
        let mut missing = Vec::new();
        for number in numbers {
            match self.waiting.binary_search_by_key(number, |entry| entry.seq) {
                Ok(index) => self.remove(index, "dropped"),
                Err(_) => missing.push(*number),
            }
        }
        missing
    }

    /// The machine is another one from now on: gives up all that waits, and says so in the file.
    pub fn another_machine(&mut self, identity: &str) {
        self.session.identity = shortened(identity);
        self.drop_all("cloned");
    }
}
