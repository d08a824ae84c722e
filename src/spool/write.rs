//! Writes the spool to disk: appends records, or rewrites the file beside the old one.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::first::Session;
use super::queue::Spool;
use super::record::{self, MAGIC, RecordKind};
use super::scan::{self, Entry};
use crate::model::Frame;
use crate::record_file::{HEAD, Storage, append_all};
use crate::sinks::io_reason;

/// Bytes that are buffered for one write.
const WRITE_BYTES: usize = 64 << 10;

impl<S: Storage> Spool<S> {
    /// Records the start of a run.
    pub(super) fn start(&mut self, now_ms: u64) {
        self.empty_end = self.file.end; // longer than a new file; corrected when it is written anew
        let done =
            if self.file.is_stale { self.rewrite(now_ms) } else { self.write_session(now_ms) };
        match done {
            Ok(()) => self.sync(now_ms),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes everything unwritten. It survives this process then, and a power cut after [`sync`](Self::sync). Does
    /// nothing while the disk is failing: see [`retry`](Self::retry).
    pub fn flush(&mut self, now_ms: u64) {
        if self.file.has_storage()
            && self.failing.is_none()
            && let Err(error) = self.try_flush(now_ms)
        {
            self.fail(&error);
        }
    }

    /// Makes everything written survive a power cut.
    pub fn sync(&mut self, now_ms: u64) {
        if self.failing.is_none()
            && let Err(error) = self.try_sync(now_ms)
        {
            self.fail(&error);
        }
    }

    /// Tries whether a failing disk works again. The record of this run is written in any case: the one of the start may be
    /// missing, and only a write that succeeds shows that the disk takes something.
    pub fn retry(&mut self, now_ms: u64) {
        if self.failing.is_none() {
            return;
        }
        let written = self.try_flush(now_ms).and_then(|()| self.write_session(now_ms));
        match written.and_then(|()| self.try_sync(now_ms)) {
            Ok(()) => {
                self.failing = None;
                tracing::info!("messages for the host are written to disk again");
            }
            Err(error) => self.failing = Some(io_reason(&error)),
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
            && self.failing.is_none()
            && self.waiting.is_empty()
            && self.file.end > self.empty_end
    }

    /// Whether something written is not synced.
    pub fn is_dirty(&self) -> bool {
        self.file.is_dirty && self.failing.is_none()
    }

    /// Whether everything that waits is on disk, and synced.
    pub fn is_stored(&self) -> bool {
        self.file.has_storage() && self.in_memory == 0 && self.failing.is_none() && !self.urgent
    }

    /// Whether unsynced data includes items, and not only acknowledgements and drops.
    pub fn is_urgent(&self) -> bool {
        self.urgent && self.is_dirty()
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

    fn fail(&mut self, error: &io::Error) {
        let error = io_reason(error);
        if self.failing.is_none() {
            tracing::warn!(error, "spool cannot be written; durable messages are kept in memory");
        }
        self.failing = Some(error);
    }

    fn try_flush(&mut self, now_ms: u64) -> io::Result<()> {
        let first = self.waiting.partition_point(|entry| entry.seq <= self.written);
        let notes = self.dropped.len() + usize::from(self.acked > self.acked_written);
        let unwritten = self.waiting.range(first..).filter(|entry| self.fits_in_file(entry));
        let bytes = unwritten.map(|entry| entry.record()).sum::<u64>();
        let bytes = bytes + (notes * HEAD) as u64;
        if self.file.is_stale || (bytes > 0 && self.file.end + bytes > self.size) {
            return self.rewrite(now_ms);
        }
        let mut out = Vec::new();
        for number in &self.dropped {
            record::write(RecordKind::Dropped, *number, now_ms, (0, 0), &[], &mut out);
        }
        if self.acked > self.acked_written {
            record::write(RecordKind::Read, self.acked, now_ms, (0, 0), &[], &mut out);
        }
        let mut gathered = Vec::new();
        for index in first..self.waiting.len() {
            let entry = self.waiting[index];
            if let Some(frame) = self.frames.get(&entry.seq).filter(|_| self.fits_in_file(&entry)) {
                gathered.push((index, self.file.end + out.len() as u64));
                let (what, says) = (RecordKind::Item(entry.kind), (entry.readings, entry.request));
                record::write(what, entry.seq, entry.at_ms, says, &frame.bytes, &mut out);
            }
            if out.len() >= WRITE_BYTES || index + 1 == self.waiting.len() {
                self.append_gathered(&mut out, &mut gathered)?;
                self.written = entry.seq;
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
        self.dropped.clear();
        self.acked_written = self.acked;
        for (index, offset) in gathered.drain(..) {
            self.set_offset(index, u32::try_from(offset).map_err(io::Error::other)?);
        }
        Ok(())
    }

    fn try_sync(&mut self, now_ms: u64) -> io::Result<()> {
        if self.file.sync().is_err() {
            return self.rewrite(now_ms);
        }
        self.urgent = false;
        Ok(())
    }

    /// Writes everything that waits to a new file, which replaces the old one atomically.
    fn rewrite(&mut self, now_ms: u64) -> io::Result<()> {
        let content = Content {
            session: &self.session,
            waiting: &self.waiting,
            frames: &self.frames,
            longest: self.capacity(),
            next_seq: self.next_seq,
        };
        let (made, done) = self.file.replace(|storage| {
            let made = content.write_beside(storage, now_ms)?;
            Ok((made.end, made))
        });
        let Some(made) = made else { return done };
        (self.urgent, self.empty_end) = (false, made.empty_end);
        (self.acked_written, self.written) = (self.acked, self.next_seq - 1);
        for (index, offset) in made.places {
            self.set_offset(index, u32::try_from(offset).map_err(io::Error::other)?);
        }
        for seq in made.damaged {
            if let Ok(index) = self.waiting.binary_search_by_key(&seq, |entry| entry.seq) {
                self.remove(index, "damaged");
            }
        }
        self.dropped.clear();
        done
    }
}

/// The content of a new file.
struct Content<'a> {
    session: &'a Session,
    waiting: &'a VecDeque<Entry>,
    frames: &'a BTreeMap<u64, Frame>,
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
            let acked;
            let body: &[u8] = match self.frames.get(&entry.seq) {
                Some(frame) => &frame.bytes,
                None => match scan::body(storage, entry) {
                    Ok(Some(body)) => {
                        acked = body;
                        &acked
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
