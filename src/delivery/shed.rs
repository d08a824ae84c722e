//! What goes without having been read: for room, in the order of [`Kind`], or because somebody says so.
//! Writes nothing.

use super::backlog::time;
use super::must::Kind;
use super::record::HEAD;
use super::scan::{self, Entry, ITEMS_MAX};
use super::spool::{Spool, shortened};
use super::storage::Storage;
use super::terms::{MEMORY_MAX, WORD_MAX};

impl<S: Storage> Spool<S> {
    /// Sheds until there is room for `new`, and for the words that stay of what is shed for it. `false`: there is
    /// nothing that may go for it. A word is at most half as long as what it stands for, so there is room for it then,
    /// too; but it is an item like that, so where items are too many none stays.
    pub(super) fn room_for(&mut self, new: &Entry, handed: u64) -> bool {
        let in_file = self.fits(new);
        let memory_max = self.size.min(MEMORY_MAX);
        while self.waiting.len() + self.words.len() >= ITEMS_MAX
            || (in_file && self.live + self.worded() + new.record() > self.capacity())
        {
            if !self.shed(new.kind, handed, |_| true) {
                return false;
            }
        }
        // What gets a place in the file is in memory for a moment only.
        let stays = !in_file || self.failing.is_some();
        while stays
            && self.in_memory > 0
            && self.in_memory + self.worded() + new.record() > memory_max
        {
            if !self.shed(new.kind, handed, |entry| entry.offset.is_none()) {
                return false;
            }
        }
        true
    }

    /// Sheds what a file that may have been larger has too much; what is longer than all of it now goes first.
    pub(super) fn shrink(&mut self) {
        let all = self.capacity();
        while self.waiting.len() + self.words.len() > ITEMS_MAX || self.live + self.worded() > all {
            let shed = self.shed(Kind::Completion, 0, |entry| entry.record() > all)
                || self.shed(Kind::Completion, 0, |_| true);
            if !shed {
                return;
            }
        }
    }

    /// Gives up the oldest item of the kind that goes first, of kinds up to `most`.
    pub(super) fn shed(&mut self, most: Kind, handed: u64, which: impl Fn(&Entry) -> bool) -> bool {
        let may_go = |entry: &Entry| entry.kind <= most && entry.seq > handed && which(entry);
        let first = self.waiting.iter().enumerate().filter(|(_, entry)| may_go(entry));
        // Of equal ones `min_by_key` takes the first, which is the oldest.
        let order = |(_, entry): &(usize, &Entry)| (entry.kind, !self.leaves_a_word(entry));
        let Some((index, entry)) = first.min_by_key(order) else { return false };
        let entry = *entry;
        self.now_full();
        if self.leaves_a_word(&entry) && self.waiting.len() + self.words.len() < ITEMS_MAX {
            let word = self.word_of(&entry);
            self.words.extend(word);
        }
        self.remove(index, "spool full");
        true
    }

    /// Whether a word of it stays when it is shed.
    fn leaves_a_word(&self, entry: &Entry) -> bool {
        let is_long = entry.length as usize > 2 * WORD_MAX;
        self.word.is_some() && entry.kind == Kind::Response && is_long
    }

    /// The word that stays of it.
    fn word_of(&mut self, entry: &Entry) -> Option<Vec<u8>> {
        let read;
        let line: &[u8] = match self.frames.get(&entry.seq) {
            Some(frame) => &frame.bytes,
            None => {
                read = scan::body(self.storage.as_mut()?, entry).ok()??;
                &read
            }
        };
        (self.word?)(line, time(entry.at_ms)).filter(|word| word.len() <= WORD_MAX)
    }

    /// Bytes that the words take which are not in the queue yet.
    pub(super) fn worded(&self) -> u64 {
        self.words.iter().map(|word| (HEAD + word.len()) as u64).sum()
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
