//! The queue of durable messages, with its bytes on disk. It has no clock: the time is an argument. Blocks as its
//! storage does.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use tokio::time::Instant;

use super::first::Session;
use super::message::{DurableMessage, Kind};
use super::record::BODY_MAX;
use super::scan::{self, Entry};
use super::session_ids::SessionIds;
use super::types::{CACHE_MAX, Losses, State, Tombstone};
use crate::model::Frame;
use crate::pipeline::EventCount;
use crate::port::TrackedFrame;
use crate::record_file::{RecordFile, Storage};

/// Bytes of frames that are buffered before they are written.
const GATHER_MAX: u64 = 256 << 10;

/// The queue. See the module for its guarantees.
#[derive(Debug)]
pub struct Spool<S> {
    /// `None`: memory only.
    pub(super) file: RecordFile<S>,
    /// A file that could not be read, held open so that no other process writes to it.
    #[expect(dead_code, reason = "it is held for its lock")]
    pub(super) unreadable: Option<S>,
    pub(super) size: u64,
    pub(super) session: Session,
    pub(super) waiting: VecDeque<Entry>,
    /// Frames in memory: those that are not on disk, and a cache of some that are.
    pub(super) frames: BTreeMap<u64, Frame>,
    /// Bytes in `frames` of items that are on disk too.
    pub(super) cached: u64,
    /// Bytes in `frames` of items that are not.
    pub(super) in_memory: u64,
    /// Bytes of records that are, or will be, in the file.
    pub(super) live: u64,
    /// Bytes of all waiting records, and their weight in readings.
    pub(super) bytes: u64,
    pub(super) weight: u64,
    /// What `end` is when nothing waits.
    pub(super) empty_end: u64,
    pub(super) next_seq: u64,
    /// The first number of this run; lower ones are from earlier runs.
    pub(super) first_seq: u64,
    /// Acknowledged up to here …
    pub(super) acked: u64,
    /// … and this is what the file has recorded.
    pub(super) acked_written: u64,
    /// Items up to this number were written, or do not fit into the file.
    pub(super) written: u64,
    /// Dropped items that the file has not recorded yet.
    pub(super) dropped: Vec<u64>,
    /// … and that includes items.
    pub(super) urgent: bool,
    /// Why writes fail.
    pub(super) failing: Option<String>,
    /// Why there is no file, where there should be one.
    pub(super) unusable: Option<String>,
    pub(super) full: bool,
    pub(super) losses: Losses,
    pub(super) session_ids: SessionIds,
    /// Makes the tombstone of an evicted reply.
    pub(super) tombstone: Option<Tombstone>,
    /// Tombstones, with their requests, that are not in the queue yet.
    pub(super) tombstones: Vec<(Vec<u8>, u32)>,
    /// The requests whose replies were acknowledged since this was last taken.
    pub(super) acknowledged: Vec<u32>,
}

impl<S: Storage> Spool<S> {
    /// The most bytes of waiting records. The rest of the file is for acknowledged records, so that the file is
    /// rewritten at most once for every quarter of its size.
    pub(super) fn capacity(&self) -> u64 {
        self.size / 4 * 3
    }

    /// Adds a message, in memory until [`flush`](Self::flush), which this may call. Evicts others for it, counted
    /// in [`losses`](Self::losses), but never those up to `handed_over`, because the host may acknowledge them at
    /// any moment.
    pub fn put(&mut self, message: DurableMessage, handed_over: u64, now_ms: u64) {
        let entry = Entry::of(&message, now_ms);
        let is_long = entry.length as usize > BODY_MAX;
        if !is_long && self.in_memory + entry.record() > GATHER_MAX && self.failing.is_none() {
            self.flush(now_ms);
        }
        let oldest = message.frame.oldest;
        if is_long {
            self.reject((entry, message), handed_over, "long");
        } else if self.make_room(&entry, handed_over) {
            // Tombstones are older than the message, and `make_room` left room for them.
            self.put_tombstones(oldest, now_ms);
            return self.push(entry, message);
        } else {
            self.mark_full();
            self.reject((entry, message), handed_over, "spool full");
        }
        self.put_tombstones(oldest, now_ms);
    }

    /// Adds the tombstones of what was evicted at the opening; [`put`](Self::put) does it too.
    pub fn put_tombstones(&mut self, now: Instant, now_ms: u64) {
        for (tombstone, request) in std::mem::take(&mut self.tombstones) {
            let frame = Frame::new(tombstone, 0, now);
            let tombstone = DurableMessage { frame, kind: Kind::Response, request };
            self.push(Entry::of(&tombstone, now_ms), tombstone);
        }
    }

    fn push(&mut self, entry: Entry, message: DurableMessage) {
        let entry = Entry { seq: self.next_seq, ..entry };
        self.next_seq += 1;
        if self.fits_in_file(&entry) {
            self.live += entry.record();
        }
        self.in_memory += entry.record();
        self.bytes += entry.record();
        self.weight += message.weight();
        self.frames.insert(entry.seq, message.frame);
        self.waiting.push_back(entry);
    }

    /// Whether an item fits into the file, if there is one.
    pub(super) fn fits_in_file(&self, entry: &Entry) -> bool {
        self.file.has_storage() && (entry.offset.is_some() || entry.record() <= self.capacity())
    }

    pub(super) fn release(&mut self, entry: &Entry) {
        self.bytes = self.bytes.saturating_sub(entry.record());
        self.weight = self.weight.saturating_sub(entry.readings.into());
        if self.fits_in_file(entry) {
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

    pub(super) fn count_loss(&mut self, reason: &'static str, weight: u64) {
        if weight > 0 {
            self.losses.push((reason, weight));
        }
    }

    /// An item in memory is in the file now.
    pub(super) fn set_offset(&mut self, index: usize, offset: u32) {
        let Some(entry) = self.waiting.get_mut(index) else { return };
        let was = entry.offset.replace(offset);
        let entry = *entry;
        self.urgent |= self.file.is_dirty;
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

    /// Removes acknowledged items, everything up to `seq`. Returns their weight.
    pub fn acknowledge(&mut self, seq: u64) -> u64 {
        let mut weight = 0;
        while self.waiting.front().is_some_and(|first| first.seq <= seq) {
            let Some(entry) = self.waiting.pop_front() else { break };
            weight += u64::from(entry.readings);
            if entry.request > 0 {
                self.acknowledged.push(entry.request);
            }
            self.release(&entry);
        }
        self.acked = self.acked.max(seq.min(self.next_seq - 1));
        weight
    }

    /// The items after `handed_over`, at most `items` and about `bytes`, but at least one. They stay in the queue.
    pub fn next(
        &mut self,
        handed_over: u64,
        items: usize,
        bytes: u64,
        now: Instant,
    ) -> Vec<TrackedFrame> {
        let mut taken = Vec::new();
        let mut room = bytes;
        let mut index = self.waiting.partition_point(|entry| entry.seq <= handed_over);
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
                redelivered: entry.seq < self.first_seq,
                requested_at: entry.requested_at,
                audience: entry.kind.audience(),
                sender_waits: false,
            });
        }
        taken
    }

    fn frame(&mut self, entry: &Entry, now: Instant) -> Option<Frame> {
        if let Some(frame) = self.frames.get(&entry.seq) {
            return Some(frame.clone());
        }
        let acked = scan::body(self.file.storage()?, entry);
        let bytes = acked.unwrap_or_else(|error: io::Error| {
            tracing::warn!(seq = entry.seq, %error, "an item of the spool cannot be read");
            None
        })?;
        Some(Frame::new(bytes, entry.readings, now))
    }

    /// Items up to `handed_over` are with the port: their cached bytes are dropped.
    pub fn handed_over(&mut self, handed_over: u64) {
        while let Some((&seq, _)) = self.frames.range(..=handed_over).next() {
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

    /// The weight, in readings, of everything that waits.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Bytes of the waiting items up to number `seq`.
    pub fn bytes_up_to(&self, seq: u64) -> u64 {
        self.waiting.iter().take_while(|entry| entry.seq <= seq).map(Entry::record).sum()
    }

    /// Whether its calls may block on a disk.
    pub fn blocks(&self) -> bool {
        self.file.blocks()
    }

    /// Its state.
    pub fn state(&self) -> State {
        match &self.failing {
            _ if !self.file.has_storage() => State::Memory,
            Some(error) => State::Failing(error.clone()),
            None if self.full => State::Full,
            None => State::Ok,
        }
    }

    /// Why messages are not stored on disk although they should be.
    pub fn trouble(&self) -> Option<&String> {
        self.failing.as_ref().or(self.unusable.as_ref())
    }

    /// The session numbers of this run.
    pub fn session_ids(&self) -> SessionIds {
        self.session_ids.clone()
    }
}
