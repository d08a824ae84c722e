//! Writes the spool to disk: appends records, or rewrites the file beside the old one.

use std::collections::VecDeque;
use std::io;

use super::first::Session;
use super::frames::Frames;
use super::queue::Spool;
use super::record::{self, MAGIC, RecordKind};
use super::recorded::Recorded;
use super::scan::{self, Entry};
use crate::record_file::{Storage, append_all};

/// Bytes that are buffered for one write.
const WRITE_BYTES: usize = 64 << 10;

impl<S: Storage> Spool<S> {
    /// Records the start of a run.
    pub(super) fn start(&mut self, now_ms: u64) {
        self.recorded.empty_end = self.file.end; // longer than a new file; corrected when it is written anew
        let done =
            if self.file.is_stale { self.rewrite(now_ms) } else { self.write_session(now_ms) };
        match done {
            Ok(()) => self.sync(now_ms),
            Err(error) => self.condition.fail(&error),
        }
    }

    /// Writes everything unwritten. It survives this process then, and a power cut after [`sync`](Self::sync). Does
    /// nothing while the disk is failing: see [`retry`](Self::retry).
    pub fn flush(&mut self, now_ms: u64) {
        if self.file.has_storage()
            && !self.condition.is_failing()
            && let Err(error) = self.try_flush(now_ms)
        {
            self.condition.fail(&error);
        }
    }

    /// Makes everything written survive a power cut.
    pub fn sync(&mut self, now_ms: u64) {
        if !self.condition.is_failing()
            && let Err(error) = self.try_sync(now_ms)
        {
            self.condition.fail(&error);
        }
    }

    /// Tries whether a failing disk works again. The record of this run is written in any case: the one of the start may be
    /// missing, and only a write that succeeds shows that the disk takes something.
    pub fn retry(&mut self, now_ms: u64) {
        if !self.condition.is_failing() {
            return;
        }
        let written = self.try_flush(now_ms).and_then(|()| self.write_session(now_ms));
        match written.and_then(|()| self.try_sync(now_ms)) {
            Ok(()) => self.condition.recover(),
            Err(error) => self.condition.fail(&error),
        }
    }

    /// Shortens the file if nothing waits.
    pub fn tidy(&mut self, now_ms: u64) {
        if self.is_untidy() {
            self.file.is_stale = true;
            self.flush(now_ms);
        }
    }

    /// Rewrites the file, synced.
    ///
    /// # Errors
    /// The new file cannot be written: the old one stays.
    pub fn compact(&mut self, now_ms: u64) -> io::Result<()> {
        self.rewrite(now_ms)
    }

    /// Empties the file in place, after [`drop_all`](Self::drop_all): there may be no room for a second file. A
    /// power cut meanwhile leaves no more than that. If the disk has no room even for the owner record, the file
    /// starts from nothing and numbers begin at 1 again.
    ///
    /// # Errors
    /// The file cannot be truncated or synced.
    pub fn empty(&mut self, now_ms: u64) -> io::Result<()> {
        let Some(storage) = self.file.storage() else { return Ok(()) };
        storage.truncate(0)?;
        self.file.end = 0;
        let mut bytes = MAGIC.to_vec();
        for _ in 0..2 {
            session_record(&self.session, self.next_seq, now_ms, &mut bytes);
        }
        if let Err(error) = self.file.append(&bytes) {
            tracing::debug!(%error, "cannot write the spool header after truncation");
        }
        self.file.storage().map_or(Ok(()), Storage::sync)
    }

    /// Whether [`tidy`](Self::tidy) has something to do.
    pub fn is_untidy(&self) -> bool {
        self.file.has_storage()
            && !self.condition.is_failing()
            && self.items.is_empty()
            && self.file.end > self.recorded.empty_end
    }

    /// Whether something written is not synced.
    pub fn is_dirty(&self) -> bool {
        self.file.is_dirty && !self.condition.is_failing()
    }

    /// Whether everything that waits is on disk, and synced.
    pub fn is_stored(&self) -> bool {
        self.file.has_storage()
            && self.frames.unwritten() == 0
            && !self.condition.is_failing()
            && !self.recorded.has_unsynced_items
    }

    /// Whether unsynced data includes items, and not only acknowledgements and drops.
    pub fn is_urgent(&self) -> bool {
        self.recorded.has_unsynced_items && self.is_dirty()
    }

    /// Appends the record of this run, or rewrites the file where it would be too long.
    fn write_session(&mut self, now_ms: u64) -> io::Result<()> {
        let mut bytes = Vec::new();
        session_record(&self.session, self.next_seq, now_ms, &mut bytes);
        if self.file.end + bytes.len() as u64 > self.size {
            return self.rewrite(now_ms);
        }
        self.file.append(&bytes)
    }

    fn try_flush(&mut self, now_ms: u64) -> io::Result<()> {
        let first = self.items.first_after(self.recorded.items);
        let unwritten =
            self.waiting().range(first..).filter(|entry| self.items.fits_in_file(entry));
        let bytes = unwritten.map(|entry| entry.record()).sum::<u64>();
        let bytes = bytes + self.recorded.missing_bytes(self.acked);
        if self.file.is_stale || (bytes > 0 && self.file.end + bytes > self.size) {
            return self.rewrite(now_ms);
        }
        let mut out = Vec::new();
        self.recorded.write_missing(self.acked, now_ms, &mut out);
        let mut gathered = Vec::new();
        let count = self.items.len();
        for index in first..count {
            let Some(entry) = self.items.get(index) else { break };
            if let Some(frame) =
                self.frames.get(entry.seq).filter(|_| self.items.fits_in_file(&entry))
            {
                gathered.push((index, self.file.end + out.len() as u64));
                let (what, says) = (RecordKind::Item(entry.kind), (entry.readings, entry.request));
                record::write(what, entry.seq, entry.at_ms, says, &frame.bytes, &mut out);
            }
            if out.len() >= WRITE_BYTES || index + 1 == count {
                self.append_gathered(&mut out, &mut gathered)?;
                self.recorded.items = entry.seq;
            }
        }
        self.append_gathered(&mut out, &mut gathered)
    }

    fn append_gathered(
        &mut self,
        out: &mut Vec<u8>,
        gathered: &mut Vec<(usize, u64)>,
    ) -> io::Result<()> {
        self.file.append(out)?;
        out.clear();
        // The first part holds all of these records.
        self.recorded.nothing_is_missing(self.acked);
        for (index, offset) in gathered.drain(..) {
            self.set_offset(index, u32::try_from(offset).map_err(io::Error::other)?);
        }
        Ok(())
    }

    fn try_sync(&mut self, now_ms: u64) -> io::Result<()> {
        if self.file.sync().is_err() {
            return self.rewrite(now_ms);
        }
        self.recorded.has_unsynced_items = false;
        Ok(())
    }

    /// Writes everything that waits to a new file, which replaces the old one atomically.
    fn rewrite(&mut self, now_ms: u64) -> io::Result<()> {
        let content = Content {
            session: &self.session,
            waiting: self.items.all(),
            frames: &self.frames,
            longest: self.capacity(),
            next_seq: self.next_seq,
        };
        let (made, done) = self.file.replace(|storage| {
            let made = content.write_beside(storage, now_ms)?;
            Ok((made.end, made))
        });
        let Some(made) = made else { return done };
        self.recorded = Recorded::new(self.next_seq - 1, self.acked);
        self.recorded.empty_end = made.empty_end;
        for (index, offset) in made.places {
            self.set_offset(index, u32::try_from(offset).map_err(io::Error::other)?);
        }
        for seq in made.damaged {
            if let Some(index) = self.items.index_of(seq) {
                self.remove(index, "damaged");
            }
        }
        self.recorded.forget_drops(); // of what the old file had
        done
    }
}

/// The content of a new file.
struct Content<'a> {
    session: &'a Session,
    waiting: &'a VecDeque<Entry>,
    frames: &'a Frames,
    /// The longest record that fits into a file.
    longest: u64,
    next_seq: u64,
}

impl Content<'_> {
    fn write_beside<S: Storage>(&self, storage: &mut S, now_ms: u64) -> io::Result<RewrittenFile> {
        let mut out = MAGIC.to_vec();
        let first = self.waiting.front().map_or(self.next_seq, |first| first.seq);
        session_record(self.session, first, now_ms, &mut out);
        // Recorded at both ends, so that corruption of one leaves no items without an owner.
        let empty_end = (2 * out.len() - MAGIC.len()) as u64;
        let mut made = RewrittenFile { empty_end, ..RewrittenFile::default() };
        for (index, entry) in self.waiting.iter().enumerate() {
            if entry.record() > self.longest {
                continue;
            }
            let stored;
            let body: &[u8] = match self.frames.get(entry.seq) {
                Some(frame) => &frame.bytes,
                None => match scan::body(storage, entry) {
                    Ok(Some(body)) => {
                        stored = body;
                        &stored
                    }
                    Ok(None) => {
                        made.damaged.push(entry.seq);
                        continue;
                    }
                    // A later read may succeed. If none does, the item is dropped when its turn to be sent comes,
                    // and then the file can be rewritten.
                    Err(error) => return Err(error),
                },
            };
            made.places.push((index, made.end + out.len() as u64));
            let (what, says) = (RecordKind::Item(entry.kind), (entry.readings, entry.request));
            record::write(what, entry.seq, entry.at_ms, says, body, &mut out);
            if out.len() >= WRITE_BYTES {
                append_all(|part| storage.append_beside(part), &out)?;
                made.end += out.len() as u64;
                out.clear();
            }
        }
        session_record(self.session, self.next_seq, now_ms, &mut out);
        append_all(|part| storage.append_beside(part), &out)?;
        made.end += out.len() as u64;
        Ok(made)
    }
}

/// A new file that has not replaced the old one yet.
#[derive(Debug, Default)]
struct RewrittenFile {
    /// Index and offset of each item in it.
    places: Vec<(usize, u64)>,
    /// Items that could not be read from the old one.
    damaged: Vec<u64>,
    empty_end: u64,
    end: u64,
}

fn session_record(session: &Session, number: u64, now_ms: u64, out: &mut Vec<u8>) {
    // A struct of texts and a number always serializes.
    let body = serde_json::to_vec(session).unwrap_or_default();
    record::write(RecordKind::Session, number, now_ms, (0, 0), &body, out);
}
