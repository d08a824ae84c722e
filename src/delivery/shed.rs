//! What goes when the spool is full. The order of the kinds is that of [`Kind`].

use super::must::Kind;
use super::scan::{Entry, ITEMS_MAX};
use super::spool::{MEMORY_MAX, Spool};
use super::storage::Storage;

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
        while self.in_memory > 0 && self.in_memory + new.record() > memory_max {
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
}
