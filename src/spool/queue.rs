//! The queue of what must arrive, with its bytes on disk. Does not know who takes from it, and no clock:
//! the time is an argument. Blocks as its storage does.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use tokio::time::Instant;

use super::message::{DurableMessage, Kind};
use super::record::BODY_MAX;
use super::scan::{self, Entry, Session};
use super::session_ids::SessionIds;
use super::storage::Storage;
use super::types::{CACHE_MAX, Losses, State, Tombstone};
use crate::model::Frame;
use crate::pipeline::EventCount;
use crate::port::TrackedFrame;

/// Bytes of frames that are gathered before they are written.
const GATHER_MAX: u64 = 256 << 10;

/// The queue. See [the module](super) for what it promises.
#[derive(Debug)]
pub struct Spool<S> {
    /// `None`: memory only.
    pub(super) storage: Option<S>,
    /// A file that could not be read, as it was found: nobody else writes to it while this lives.
    #[expect(dead_code, reason = "it is held for its lock")]
    pub(super) unread: Option<S>,
    pub(super) size: u64,
    pub(super) session: Session,
    pub(super) waiting: VecDeque<Entry>,
    /// Frames in memory: those that are not on disk, and some that are.
    pub(super) frames: BTreeMap<u64, Frame>,
    /// Bytes in `frames` of items that are on disk too.
    pub(super) cached: u64,
    /// Bytes in `frames` of items that are not.
    pub(super) in_memory: u64,
    /// Bytes of records that have or get a place in the file.
    pub(super) live: u64,
    /// Bytes of all records that wait, and what the items weigh in the books.
    pub(super) bytes: u64,
    pub(super) weight: u64,
    /// The length of the good part of the file.
    pub(super) end: u64,
    /// What `end` is when nothing waits.
    pub(super) empty_end: u64,
    pub(super) next_seq: u64,
    /// The first number of this run; what is below was there before.
    pub(super) first_seq: u64,
    /// Up to here items were read by the host …
    pub(super) read: u64,
    /// … and this is what the file says of it.
    pub(super) read_written: u64,
    /// Items up to this number were written, or have no place in the file.
    pub(super) written: u64,
    /// Dropped, and the file does not say so yet.
    pub(super) dropped: Vec<u64>,
    /// Something was written and not synced …
    pub(super) dirty: bool,
    /// … and there are items among it.
    pub(super) urgent: bool,
    /// The file has to be written anew before anything can be appended to it.
    pub(super) stale: bool,
    /// Why the disk takes nothing.
    pub(super) failing: Option<String>,
    /// Why there is no file, where there should be one.
    pub(super) unusable: Option<String>,
    pub(super) full: bool,
    pub(super) losses: Losses,
    pub(super) epochs: SessionIds,
    /// What stays of an answer that is shed.
    pub(super) word: Option<Tombstone>,
    /// Such words, made and not yet in the queue.
    pub(super) words: Vec<(Vec<u8>, u32)>,
    /// The requests whose answers the host has read since this was taken last.
    pub(super) acknowledged: Vec<u32>,
}

impl<S: Storage> Spool<S> {
    /// The most bytes of records that wait. The rest of the file is for what has been read meanwhile, so
    /// that the file is written anew once for every quarter of its size at most.
    pub(super) fn capacity(&self) -> u64 {
        self.size / 4 * 3
    }

    /// Takes an item: in memory until [`flush`](Self::flush), which it may call. What has to go for
    /// it is shed and told by [`losses`](Self::losses); never what is up to `handed`, because the
    /// host may read that at any moment.
    pub fn put(&mut self, must: DurableMessage, handed: u64, now_ms: u64) {
        let entry = Entry::of(&must, now_ms);
        let is_long = entry.length as usize > BODY_MAX;
        if !is_long && self.in_memory + entry.record() > GATHER_MAX && self.failing.is_none() {
            self.flush(now_ms);
        }
        let oldest = must.frame.oldest;
        if is_long {
            self.give_up((entry, must), handed, "long");
        } else if self.room_for(&entry, handed) {
            // They are older than what comes, and there is room for them: see `room_for`.
            self.put_words(oldest, now_ms);
            return self.push(entry, must);
        } else {
            self.now_full();
            self.give_up((entry, must), handed, "spool full");
        }
        self.put_words(oldest, now_ms);
    }

    /// Takes the words that stay of what was shed when it was opened; [`put`](Self::put) does it too.
    pub fn put_words(&mut self, now: Instant, now_ms: u64) {
        for (word, request) in std::mem::take(&mut self.words) {
            let frame = Frame { bytes: word.into(), readings: 0, oldest: now };
            let word = DurableMessage { frame, kind: Kind::Response, request };
            self.push(Entry::of(&word, now_ms), word);
        }
    }

    fn push(&mut self, entry: Entry, must: DurableMessage) {
        let entry = Entry { seq: self.next_seq, ..entry };
        self.next_seq += 1;
        if self.fits(&entry) {
            self.live += entry.record();
        }
        self.in_memory += entry.record();
        self.bytes += entry.record();
        self.weight += must.weight();
        self.frames.insert(entry.seq, must.frame);
        self.waiting.push_back(entry);
    }

    /// Whether an item has a place in the file, or can have one at all.
    pub(super) fn fits(&self, entry: &Entry) -> bool {
        self.storage.is_some() && (entry.offset.is_some() || entry.record() <= self.capacity())
    }

    pub(super) fn forget(&mut self, entry: &Entry) {
        self.bytes = self.bytes.saturating_sub(entry.record());
        self.weight = self.weight.saturating_sub(entry.readings.into());
        if self.fits(entry) {
            self.live = self.live.saturating_sub(entry.record());
        }
        self.uncache(entry);
        if self.full && self.live < self.capacity() / 2 {
            self.full = false;
            tracing::info!("the spool of messages for the host has room again");
        }
    }

    fn uncache(&mut self, entry: &Entry) {
        if self.frames.remove(&entry.seq).is_some() {
            let counter = match entry.offset {
                Some(_) => &mut self.cached,
                None => &mut self.in_memory,
            };
            *counter = counter.saturating_sub(entry.record());
        }
    }

    pub(super) fn lose(&mut self, reason: &'static str, weight: u64) {
        if weight > 0 {
            self.losses.push((reason, weight));
        }
    }

    /// An item of memory has a place in the file now.
    pub(super) fn placed(&mut self, index: usize, offset: u32) {
        let Some(entry) = self.waiting.get_mut(index) else { return };
        let was = entry.offset.replace(offset);
        let entry = *entry;
        self.urgent |= self.dirty;
        if was.is_some() {
            return;
        }
        self.in_memory = self.in_memory.saturating_sub(entry.record());
        if self.cached + entry.record() > CACHE_MAX {
            self.frames.remove(&entry.seq);
        } else {
            self.cached += entry.record();
        }
    }

    /// Takes out what the host has read: everything up to `seq`. Returns its weight.
    pub fn read_up_to(&mut self, seq: u64) -> u64 {
        let mut weight = 0;
        while self.waiting.front().is_some_and(|first| first.seq <= seq) {
            let Some(entry) = self.waiting.pop_front() else { break };
            weight += u64::from(entry.readings);
            if entry.request > 0 {
                self.acknowledged.push(entry.request);
            }
            self.forget(&entry);
        }
        self.read = self.read.max(seq.min(self.next_seq - 1));
        weight
    }

    /// The items after `handed`, at most `items` and about `bytes`, but one in any case. They stay.
    pub fn next(
        &mut self,
        handed: u64,
        items: usize,
        bytes: u64,
        now: Instant,
    ) -> Vec<TrackedFrame> {
        let mut taken = Vec::new();
        let mut room = bytes;
        let mut index = self.waiting.partition_point(|entry| entry.seq <= handed);
        while let Some(entry) = self.waiting.get(index).copied() {
            if taken.len() >= items || (!taken.is_empty() && u64::from(entry.length) > room) {
                break;
            }
            let Some(frame) = self.frame(&entry, now) else {
                self.remove(index, "damaged");
                continue;
            };
            room = room.saturating_sub(entry.length.into());
            index += 1;
            taken.push(TrackedFrame {
                seq: entry.seq,
                frame,
                again: entry.seq < self.first_seq,
                asked: entry.asked,
                audience: entry.kind.audience(),
            });
        }
        taken
    }

    fn frame(&mut self, entry: &Entry, now: Instant) -> Option<Frame> {
        if let Some(frame) = self.frames.get(&entry.seq) {
            return Some(frame.clone());
        }
        let read = scan::body(self.storage.as_mut()?, entry);
        let bytes = read.unwrap_or_else(|error: io::Error| {
            tracing::warn!(seq = entry.seq, %error, "an item of the spool cannot be read");
            None
        })?;
        Some(Frame { bytes: bytes.into(), readings: entry.readings, oldest: now })
    }

    /// Those up to `handed` are out of here; their bytes need not be in memory too.
    pub fn handed(&mut self, handed: u64) {
        while let Some((&seq, _)) = self.frames.range(..=handed).next() {
            let Ok(index) = self.waiting.binary_search_by_key(&seq, |entry| entry.seq) else {
                break;
            };
            match self.waiting[index] {
                entry if entry.offset.is_some() => self.uncache(&entry),
                _ => break,
            }
        }
    }

    /// What was lost since the last call, by reason.
    pub fn losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> &VecDeque<Entry> {
        &self.waiting
    }

    /// Bytes of all that waits, with its records' heads.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What all that waits weighs in the books.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Bytes of what waits up to number `seq`.
    pub fn bytes_up_to(&self, seq: u64) -> u64 {
        self.waiting.iter().take_while(|entry| entry.seq <= seq).map(Entry::record).sum()
    }

    /// Whether its calls can take as long as a disk does.
    pub fn blocks(&self) -> bool {
        self.storage.as_ref().is_some_and(Storage::blocks)
    }

    /// How it does.
    pub fn state(&self) -> State {
        match &self.failing {
            _ if self.storage.is_none() => State::Memory,
            Some(error) => State::Failing(error.clone()),
            None if self.full => State::Full,
            None => State::Ok,
        }
    }

    /// Why what waits is not kept on disk, where it should be.
    pub fn trouble(&self) -> Option<&String> {
        self.failing.as_ref().or(self.unusable.as_ref())
    }

    /// The numbers of the sessions of this run.
    pub fn epochs(&self) -> SessionIds {
        self.epochs.clone()
    }
}
