//! What goes without having been read: for room, in the order of [`Kind`], or because somebody says so.
//! Writes nothing.

use super::message::{DurableMessage, Kind};
use super::queue::Spool;
use super::record::HEAD;
use super::recovery::shortened;
use super::scan::{self, Entry, ITEMS_MAX};
use super::status::time;
use super::storage::Storage;
use super::types::{MEMORY_MAX, TOMBSTONE_MAX};

impl<S: Storage> Spool<S> {
    /// Sheds until there is room for `new`, and for the words that stay of what is shed for it. `false`: all that
    /// may go would not make it, so nothing has gone. A word is at most half as long as what it stands for, so there
    /// is room for it then, too; but it is an item like that, so where items are too many none stays.
    pub(super) fn room_for(&mut self, new: &Entry, handed: u64) -> bool {
        let (in_file, stays) = (self.fits(new), self.stays_in_memory(new));
        let memory_max = self.memory_max();
        if !self.could_have_room(new, handed) {
            return false;
        }
        while self.waiting.len() + self.words.len() >= ITEMS_MAX
            || (in_file && self.live + self.worded() + new.record() > self.capacity())
        {
            if !self.shed(new.kind, handed, |_| true) {
                return false;
            }
        }
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

    /// Whether there is room for `new` once all has gone that may go for it, with the longest word for each that
    /// leaves one.
    fn could_have_room(&self, new: &Entry, handed: u64) -> bool {
        let (mut items, mut live, mut in_memory) = (self.waiting.len(), self.live, self.in_memory);
        let mut words = self.worded() + new.record();
        let is_over = |items, live, in_memory, words| {
            items + self.words.len() >= ITEMS_MAX
                || (self.fits(new) && live + words > self.capacity())
                || (self.stays_in_memory(new)
                    && in_memory > 0
                    && in_memory + words > self.memory_max())
        };
        if !is_over(items, live, in_memory, words) {
            return true;
        }
        let gone = self.waiting.iter().filter(|entry| entry.kind <= new.kind && entry.seq > handed);
        for entry in gone {
            items -= 1;
            if self.fits(entry) {
                live = live.saturating_sub(entry.record());
            }
            if entry.offset.is_none() {
                in_memory = in_memory.saturating_sub(entry.record());
            }
            if self.leaves_a_word(entry) {
                words += (HEAD + TOMBSTONE_MAX) as u64;
            }
        }
        !is_over(items, live, in_memory, words)
    }

    /// What gets a place in the file is in memory for a moment only.
    fn stays_in_memory(&self, entry: &Entry) -> bool {
        !self.fits(entry) || self.failing.is_some()
    }

    fn memory_max(&self) -> u64 {
        self.size.min(MEMORY_MAX)
    }

    /// Gives up `must`, which has just come, as `reason`: a word stays in its place, as of one that is shed, where
    /// there is room for that.
    pub(super) fn give_up(
        &mut self,
        (entry, must): (Entry, DurableMessage),
        handed: u64,
        reason: &'static str,
    ) {
        self.lose(reason, entry.readings.into());
        if !self.leaves_a_word(&entry) {
            return;
        }
        let Some(word) = self.word_for(&must.frame.bytes, &entry) else { return };
        let stands = Entry { length: u32::try_from(word.len()).unwrap_or(u32::MAX), ..entry };
        if self.room_for(&stands, handed) {
            self.words.push((word, entry.request)); // the newest of them
        }
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
            self.words.extend(word.map(|word| (word, entry.request)));
        }
        self.remove(index, "spool full");
        true
    }

    /// Whether a word of it stays when it is shed.
    fn leaves_a_word(&self, entry: &Entry) -> bool {
        let is_long = entry.length as usize > 2 * TOMBSTONE_MAX;
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
        self.word_for(line, entry)
    }

    fn word_for(&self, line: &[u8], entry: &Entry) -> Option<Vec<u8>> {
        (self.word?)(line, time(entry.at_ms)).filter(|word| word.len() <= TOMBSTONE_MAX)
    }

    /// Bytes that the words take which are not in the queue yet.
    pub(super) fn worded(&self) -> u64 {
        self.words.iter().map(|(word, _)| (HEAD + word.len()) as u64).sum()
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
