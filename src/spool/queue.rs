//! The queue of durable messages, with its bytes on disk. It has no clock: the time is an argument. Blocks as its
//! storage does.

use std::collections::VecDeque;
use std::io;

use tokio::time::Instant;

use super::condition::Condition;
use super::first::Session;
use super::frames::Frames;
use super::items::Items;
use super::message::{DurableMessage, MessageKind};
use super::record::BODY_MAX;
use super::recorded::Recorded;
use super::scan::{self, Entry};
use super::session_ids::SessionIds;
use super::tombstones::Tombstones;
use super::types::{Losses, State};
use crate::model::Frame;
use crate::port::TrackedFrame;
use crate::record_file::{RecordFile, Storage};

/// Bytes of frames that are buffered before they are written.
const GATHER_MAX: u64 = 256 << 10;

/// The queue. See the module for its guarantees.
#[derive(Debug)]
pub struct Spool<S> {
    /// Without storage: memory only.
    pub(super) file: RecordFile<S>,
    /// A file that could not be read, held open so that no other process writes to it.
    pub(super) unreadable: Option<S>,
    pub(super) size: u64,
    pub(super) session: Session,
    pub(super) session_ids: SessionIds,
    pub(super) items: Items,
    pub(super) frames: Frames,
    pub(super) tombstones: Tombstones,
    pub(super) recorded: Recorded,
    pub(super) condition: Condition,
    /// The number of the next item.
    pub(super) next_seq: u64,
    /// The first number of this run; lower ones are from earlier runs.
    pub(super) first_seq: u64,
    /// Items up to this number are acknowledged.
    pub(super) acked: u64,
    /// What was lost since this was last taken.
    losses: Losses,
    /// The requests whose replies were acknowledged since this was last taken.
    acknowledged: Vec<u32>,
}

impl<S: Storage> Spool<S> {
    /// An empty one of `size` bytes, with the file in `storage`.
    pub(super) fn new(storage: Option<S>, size: u64, session: Session) -> Self {
        let longest = if storage.is_some() { capacity(size) } else { 0 };
        Self {
            file: RecordFile::new(storage.map(Box::new)),
            unreadable: None,
            size,
            session_ids: SessionIds::of_run(session.run),
            session,
            items: Items::new(longest),
            frames: Frames::default(),
            tombstones: Tombstones::default(),
            recorded: Recorded::default(),
            condition: Condition::default(),
            next_seq: 1,
            first_seq: 1,
            acked: 0,
            losses: Losses::new(),
            acknowledged: Vec::new(),
        }
    }

    /// The most bytes of waiting records. The rest of the file is for acknowledged records, so that the file is
    /// rewritten at most once for every quarter of its size.
    pub(super) fn capacity(&self) -> u64 {
        capacity(self.size)
    }

    /// Adds a message, in memory until [`flush`](Self::flush), which this may call. Evicts others for it, counted
    /// in [`losses`](Self::losses), but never those up to `handed_over`, because the host may acknowledge them at
    /// any moment.
    pub fn put(&mut self, message: DurableMessage, handed_over: u64, now_ms: u64) {
        let entry = Entry::of(&message, now_ms);
        let is_long = entry.length as usize > BODY_MAX;
        if !is_long
            && self.frames.unwritten() + entry.record() > GATHER_MAX
            && !self.condition.is_failing()
        {
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
            self.condition.set_full(self.size);
            self.reject((entry, message), handed_over, "spool full");
        }
        self.put_tombstones(oldest, now_ms);
    }

    /// Adds the tombstones of what was evicted at the opening; [`put`](Self::put) does it too.
    pub fn put_tombstones(&mut self, now: Instant, now_ms: u64) {
        for (tombstone, request) in self.tombstones.take() {
            let frame = Frame::new(tombstone, 0, now);
            let tombstone = DurableMessage { frame, kind: MessageKind::Response, request };
            self.push(Entry::of(&tombstone, now_ms), tombstone);
        }
    }

    fn push(&mut self, entry: Entry, message: DurableMessage) {
        let entry = Entry { seq: self.next_seq, ..entry };
        self.next_seq += 1;
        self.frames.insert(&entry, message.frame);
        self.items.push(entry);
    }

    /// An item is out of the queue: its frame goes, too.
    pub(super) fn release(&mut self, entry: &Entry) {
        self.frames.remove(entry);
        if self.items.in_file() < self.capacity() / 2 {
            self.condition.set_free();
        }
    }

    pub(super) fn count_loss(&mut self, reason: &'static str, weight: u64) {
        if weight > 0 {
            self.losses.push((reason, weight));
        }
    }

    /// The record of the item at `index` is in the file now.
    pub(super) fn set_offset(&mut self, index: usize, offset: u32) {
        self.recorded.has_unsynced_items |= self.file.is_dirty;
        if let Some(entry) = self.items.set_offset(index, offset) {
            self.frames.set_written(&entry);
        }
    }

    /// Removes acknowledged items, everything up to `seq`. Returns their weight.
    pub fn acknowledge(&mut self, seq: u64) -> u64 {
        let mut weight = 0;
        while let Some(entry) = self.items.pop_up_to(seq) {
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
        let mut index = self.items.first_after(handed_over);
        while let Some(entry) = self.items.get(index) {
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
        if let Some(frame) = self.frames.get(entry.seq) {
            return Some(frame.clone());
        }
        let body = scan::body(self.file.storage()?, entry);
        let bytes = body.unwrap_or_else(|error: io::Error| {
            tracing::warn!(seq = entry.seq, %error, "an item of the spool cannot be read");
            None
        })?;
        Some(Frame::new(bytes, entry.readings, now))
    }

    /// Items up to `handed_over` are with the port: their cached bytes are dropped.
    pub fn handed_over(&mut self, handed_over: u64) {
        while let Some(seq) = self.frames.first_up_to(handed_over) {
            let entry = self.items.index_of(seq).and_then(|index| self.items.get(index));
            match entry {
                Some(entry) if entry.offset.is_some() => self.frames.remove(&entry),
                _ => break,
            }
        }
    }

    /// What was lost since the last call, by reason.
    pub fn losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    /// The requests whose replies were acknowledged since the last call.
    pub(super) fn take_acknowledged(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.acknowledged)
    }

    /// What waits, oldest first.
    pub fn waiting(&self) -> &VecDeque<Entry> {
        self.items.all()
    }

    /// Bytes of all that waits, with its records' heads.
    pub fn bytes(&self) -> u64 {
        self.items.bytes()
    }

    /// The weight, in readings, of everything that waits.
    pub fn weight(&self) -> u64 {
        self.items.weight()
    }

    /// Bytes of the waiting items up to number `seq`.
    pub fn bytes_up_to(&self, seq: u64) -> u64 {
        self.items.all().iter().take_while(|entry| entry.seq <= seq).map(Entry::record).sum()
    }

    /// Whether its calls may block on a disk.
    pub fn blocks(&self) -> bool {
        self.file.blocks()
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.condition.state(self.file.has_storage())
    }

    /// Why messages are not stored on disk although they should be.
    pub fn trouble(&self) -> Option<&String> {
        self.condition.trouble()
    }

    /// The session numbers of this run.
    pub fn session_ids(&self) -> SessionIds {
        self.session_ids.clone()
    }
}

/// The most bytes of waiting records in a file of `size` bytes.
fn capacity(size: u64) -> u64 {
    size / 4 * 3
}
