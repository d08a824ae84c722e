//! How the spool gets onto the disk: appended, or written anew beside the old file. Decides nothing about
//! what is kept.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::queue::Spool;
use super::record::{self, MAGIC, What};
use super::scan::{self, Entry, Session};
use super::storage::{Storage, append_all};
use crate::model::Frame;
use crate::sinks::why;

/// Bytes that are gathered for one write.
const WRITE_BYTES: usize = 64 << 10;

impl<S: Storage> Spool<S> {
    /// Begins a run in the file.
    pub(super) fn start(&mut self, now_ms: u64) {
        if !self.stale {
            let mut bytes = Vec::new();
            session_record(&self.session, self.next_seq, now_ms, &mut bytes);
            self.stale = self.end + bytes.len() as u64 > self.size;
            self.empty_end = self.end; // longer than a new file; corrected when it is written anew
            if !self.stale
                && let Err(error) = self.append(&bytes)
            {
                return self.fail(&error);
            }
        }
        let done = if self.stale { self.rewrite(now_ms) } else { Ok(()) };
        match done {
            Ok(()) => self.sync(now_ms),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes what is not written. It survives this process then, and a power cut after
    /// [`sync`](Self::sync). While the disk takes nothing it does nothing: see [`retry`](Self::retry).
    pub fn flush(&mut self, now_ms: u64) {
        if self.storage.is_some()
            && self.failing.is_none()
            && let Err(error) = self.try_flush(now_ms)
        {
            self.fail(&error);
        }
    }

    /// Makes everything written survive a power cut. `Self::is_dirty` is `false` then.
    pub fn sync(&mut self, now_ms: u64) {
        if self.failing.is_none()
            && let Err(error) = self.try_sync(now_ms)
        {
            self.fail(&error);
        }
    }

    /// Looks whether the disk takes something again.
    pub fn retry(&mut self, now_ms: u64) {
        if self.failing.is_none() {
            return;
        }
        match self.try_flush(now_ms).and_then(|()| self.try_sync(now_ms)) {
            Ok(()) => {
                self.failing = None;
                tracing::info!("messages for the host are written to disk again");
            }
            Err(error) => self.failing = Some(why(&error)),
        }
    }

    /// Makes the file as short as it can be, if nothing waits.
    pub fn tidy(&mut self, now_ms: u64) {
        if self.is_untidy() {
            self.stale = true;
            self.flush(now_ms);
        }
    }

    /// Writes the file anew, synced.
    ///
    /// # Errors
    /// It cannot be: the old one stays.
    pub fn renew(&mut self, now_ms: u64) -> io::Result<()> {
        self.rewrite(now_ms)
    }

    /// Makes the file, of which nothing is wanted any more ([`drop_all`](Self::drop_all)), empty where it is: without
    /// one beside it, for which there may be no room. A power cut meanwhile leaves no more than that; and where the
    /// disk has no room even for who it belongs to, it is as if there had never been one, and numbers begin anew.
    ///
    /// # Errors
    /// It cannot be cut or synced.
    pub fn empty(&mut self, now_ms: u64) -> io::Result<()> {
        let Some(storage) = &mut self.storage else { return Ok(()) };
        storage.truncate(0)?;
        self.end = 0;
        let mut bytes = MAGIC.to_vec();
        for _ in 0..2 {
            session_record(&self.session, self.next_seq, now_ms, &mut bytes);
        }
        if let Err(error) = self.append(&bytes) {
            tracing::debug!(%error, "an empty spool belongs to nobody");
        }
        self.storage.as_mut().map_or(Ok(()), Storage::sync)
    }

    /// Whether [`tidy`](Self::tidy) has something to do.
    pub fn is_untidy(&self) -> bool {
        self.storage.is_some()
            && self.failing.is_none()
            && self.waiting.is_empty()
            && self.end > self.empty_end
    }

    /// Whether something was written that a power cut would take.
    pub fn is_dirty(&self) -> bool {
        self.dirty && self.failing.is_none()
    }

    /// Whether items are among that, and not only notes of what was read or given up.
    pub fn is_urgent(&self) -> bool {
        self.urgent && self.is_dirty()
    }

    fn fail(&mut self, error: &io::Error) {
        let error = why(error);
        if self.failing.is_none() {
            tracing::warn!(error, "spool cannot be written; what must arrive is kept in memory");
        }
        self.failing = Some(error);
    }

    fn try_flush(&mut self, now_ms: u64) -> io::Result<()> {
        let first = self.waiting.partition_point(|entry| entry.seq <= self.written);
        let told = self.dropped.len() + usize::from(self.read > self.read_written);
        let unwritten = self.waiting.range(first..).filter(|entry| self.fits(entry));
        let bytes = unwritten.map(|entry| entry.record()).sum::<u64>();
        let bytes = bytes + (told * record::HEAD) as u64;
        if self.stale || (bytes > 0 && self.end + bytes > self.size) {
            return self.rewrite(now_ms);
        }
        let mut out = Vec::new();
        for number in &self.dropped {
            record::write(What::Dropped, *number, now_ms, (0, 0), &[], &mut out);
        }
        if self.read > self.read_written {
            record::write(What::Read, self.read, now_ms, (0, 0), &[], &mut out);
        }
        let mut gathered = Vec::new();
        for index in first..self.waiting.len() {
            let entry = self.waiting[index];
            if let Some(frame) = self.frames.get(&entry.seq).filter(|_| self.fits(&entry)) {
                gathered.push((index, self.end + out.len() as u64));
                let (what, says) = (What::Item(entry.kind), (entry.readings, entry.request));
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
        self.append(out)?;
        out.clear();
        // The first part holds all of these.
        self.dropped.clear();
        self.read_written = self.read;
        for (index, offset) in gathered.drain(..) {
            self.placed(index, u32::try_from(offset).map_err(io::Error::other)?);
        }
        Ok(())
    }

    /// All of `bytes`, or nothing that stays.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (Some(storage), false) = (&mut self.storage, bytes.is_empty()) else { return Ok(()) };
        let written = append_all(|part| storage.append(part), bytes);
        match written {
            Ok(()) => self.end += bytes.len() as u64,
            // Synced too: what lies behind the end after a power cut must not be taken for records.
            Err(_) => self.stale |= storage.truncate(self.end).and(storage.sync()).is_err(),
        }
        self.dirty = true;
        written
    }

    fn try_sync(&mut self, now_ms: u64) -> io::Result<()> {
        let (Some(storage), true) = (&mut self.storage, self.dirty) else { return Ok(()) };
        if storage.sync().is_err() {
            // What is in that file can no longer be relied on.
            return self.rewrite(now_ms);
        }
        (self.dirty, self.urgent) = (false, false);
        Ok(())
    }

    /// Writes all that waits to a new file, which takes the old one's place at once or not at all.
    fn rewrite(&mut self, now_ms: u64) -> io::Result<()> {
        self.stale = true;
        let longest = self.capacity();
        let Some(storage) = &mut self.storage else { return Ok(()) };
        let content = Content {
            session: &self.session,
            waiting: &self.waiting,
            frames: &self.frames,
            longest,
            next_seq: self.next_seq,
        };
        let written = content.write_beside(storage, now_ms);
        let committed = written.map(|made| (storage.commit(), made));
        let exchanged = committed.is_ok() && storage.exchanged();
        if !exchanged {
            storage.abandon();
        }
        let (committed, made) = committed?;
        if !exchanged {
            return committed;
        }
        (self.stale, self.dirty, self.urgent) = (false, committed.is_err(), false);
        (self.end, self.empty_end) = (made.end, made.empty_end);
        (self.read_written, self.written) = (self.read, self.next_seq - 1);
        for (index, offset) in made.places {
            self.placed(index, u32::try_from(offset).map_err(io::Error::other)?);
        }
        for seq in made.damaged {
            if let Ok(index) = self.waiting.binary_search_by_key(&seq, |entry| entry.seq) {
                self.remove(index, "damaged");
            }
        }
        self.dropped.clear();
        committed
    }
}

/// What a new file is to hold.
struct Content<'a> {
    session: &'a Session,
    waiting: &'a VecDeque<Entry>,
    frames: &'a BTreeMap<u64, Frame>,
    /// A longer record has no place in a file.
    longest: u64,
    next_seq: u64,
}

impl Content<'_> {
    fn write_beside<S: Storage>(&self, storage: &mut S, now_ms: u64) -> io::Result<Made> {
        storage.begin()?;
        let mut out = MAGIC.to_vec();
        let first = self.waiting.front().map_or(self.next_seq, |first| first.seq);
        session_record(self.session, first, now_ms, &mut out);
        // Said at both ends, so that damage to the one does not leave items without an owner.
        let empty_end = (2 * out.len() - MAGIC.len()) as u64;
        let mut made = Made { empty_end, ..Made::default() };
        for (index, entry) in self.waiting.iter().enumerate() {
            if entry.record() > self.longest {
                continue;
            }
            let read;
            let body: &[u8] = match self.frames.get(&entry.seq) {
                Some(frame) => &frame.bytes,
                None => match scan::body(storage, entry) {
                    Ok(Some(body)) => {
                        read = body;
                        &read
                    }
                    Ok(None) => {
                        made.damaged.push(entry.seq);
                        continue;
                    }
                    // The old file may give it back later. If it never does, the item goes when its turn comes
                    // to be sent, and then there can be a new file.
                    Err(error) => return Err(error),
                },
            };
            made.places.push((index, made.end + out.len() as u64));
            let (what, says) = (What::Item(entry.kind), (entry.readings, entry.request));
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

/// A new file, not yet in place.
#[derive(Debug, Default)]
struct Made {
    /// Index and offset of each item in it.
    places: Vec<(usize, u64)>,
    /// Items that could not be read from the old one.
    damaged: Vec<u64>,
    empty_end: u64,
    end: u64,
}

fn session_record(session: &Session, number: u64, now_ms: u64, out: &mut Vec<u8>) {
    // A struct of texts and a number has a spelling in JSON.
    let body = serde_json::to_vec(session).unwrap_or_default();
    record::write(What::Session, number, now_ms, (0, 0), &body, out);
}
