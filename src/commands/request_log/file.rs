//! The log's file: read once, appended to, written anew where it is full or cannot be relied on. Decides nothing about
//! what is in it. Blocks as its storage does.

use std::io;

use super::SIZE;
use super::event::{BODY_MAX, CODES, Event};
use crate::pipeline::LogLimit;
use crate::spool::{CHUNK, HEAD, Names, RawHead, Reader, Storage, append_all, read_raw};

/// The names of the file in the state folder. The lock has a file of its own, since the folder's is the spool's.
pub const NAMES: Names = Names {
    name: "requests.log",
    beside: "requests.new",
    aside: "requests.damaged",
    lock: Some("requests.lock"),
};

/// The first bytes of the file; the last of them is the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"IBREQLG\x01";

/// What reading the file has shown.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Records that can be used.
    pub records: u64,
    /// What is wrong with it, as the end of a sentence: something may be missing.
    pub wrong: Option<String>,
    /// It ends in the middle of a record, as a crash leaves it, and nothing else is wrong: what it says is so.
    pub is_torn: bool,
}

/// The open file. `storage` is `None` where there is none.
pub(super) struct Disk {
    pub storage: Option<Box<dyn Storage>>,
    end: u64,
    /// It has to be written anew before anything can be appended.
    pub is_stale: bool,
    /// Something was written that a power cut would take.
    is_dirty: bool,
    /// Writing fails.
    pub failing: LogLimit,
}

impl Disk {
    pub fn new(storage: Option<Box<dyn Storage>>) -> Self {
        Self { storage, end: 0, is_stale: true, is_dirty: false, failing: LogLimit::default() }
    }

    /// Reads the file, at most `most` bytes of it, and gives each record to `take`.
    ///
    /// Each sum is checked. Behind a damaged part the next head that has its sum is looked for: no body can look like
    /// one, since an id and a name are printable and a head is not.
    ///
    /// # Errors
    /// The disk does not give it back: that says nothing about the file.
    pub fn read(&mut self, most: u64, mut take: impl FnMut(Event)) -> io::Result<Found> {
        let mut found = Found::default();
        let Some(storage) = &mut self.storage else { return Ok(found) };
        let whole = storage.length()?;
        let length = whole.min(most);
        if whole == 0 {
            return Ok(found);
        }
        let mut reader = Reader::on(&mut **storage);
        let (mut first, mut is_torn) = (None, false);
        let mut wrong = |what: &'static str, at: u64| first = first.or(Some((what, at)));
        let mut at = 0;
        match reader.bytes(0, MAGIC.len())? == MAGIC {
            true => at = MAGIC.len() as u64,
            false => wrong("it does not begin as a request log of this version", 0),
        }
        let mut last = 0;
        while at < length {
            last = at;
            let known =
                |head: &RawHead| CODES.contains(&head.code) && head.length as usize <= BODY_MAX;
            let Some(head) = read_raw(reader.bytes(at, HEAD)?).filter(known) else {
                let bytes = reader.bytes(at, CHUNK)?;
                is_torn |= bytes.len() < HEAD;
                wrong("no record is", at);
                // Mostly a look at a few bytes says that no head begins there.
                let heads = bytes.windows(HEAD).skip(1).position(|head| {
                    CODES.contains(&head[4]) && head[5..8] == [0; 3] && read_raw(head).is_some()
                });
                let passed =
                    heads.map_or((bytes.len() + 1).saturating_sub(HEAD).max(1), |at| at + 1);
                at = if is_torn { length } else { at + passed as u64 };
                continue;
            };
            let body = HEAD as u64 + u64::from(head.length);
            let body = reader.bytes(at, body as usize)?.get(HEAD..body as usize);
            let is_whole = |body: &&[u8]| crc32fast::hash(body) == head.body_crc;
            match body.filter(is_whole).and_then(|body| Event::read(&head, body)) {
                Some(event) => {
                    found.records += 1;
                    take(event);
                }
                None => {
                    is_torn |= at + (HEAD as u64) + u64::from(head.length) > length;
                    wrong("a record is damaged or cut short", at);
                }
            }
            at += HEAD as u64 + u64::from(head.length);
        }
        if whole > most {
            wrong("it is longer than any such file", most);
        }
        let is_first = first.is_some_and(|(_, at)| at > 0 && at == last);
        found.is_torn = is_torn && is_first;
        found.wrong = first.map(|(what, at)| format!("{what} at byte {at} of {whole}"));
        (self.end, self.is_stale) = (whole, found.wrong.is_some());
        Ok(found)
    }

    /// Whether `bytes` more would be too many.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.end + bytes as u64 > SIZE
    }

    /// Adds `bytes`: all, or nothing that stays.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (Some(storage), false) = (&mut self.storage, bytes.is_empty()) else { return Ok(()) };
        let written = append_all(|part| storage.append(part), bytes);
        match written {
            Ok(()) => self.end += bytes.len() as u64,
            // Synced too: what lies behind the end after a power cut must not be taken for records.
            Err(_) => self.is_stale |= storage.truncate(self.end).and(storage.sync()).is_err(),
        }
        self.is_dirty = true;
        written
    }

    /// Makes what was written survive a power cut.
    pub fn sync(&mut self) -> io::Result<()> {
        let (Some(storage), true) = (&mut self.storage, self.is_dirty) else { return Ok(()) };
        match storage.sync() {
            Ok(()) => self.is_dirty = false,
            // Linux forgets that the pages were dirty, so what is in that file can no longer be relied on.
            Err(error) => {
                self.is_stale = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts a file of these bytes in the old one's place, synced, at once or not at all.
    pub fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(storage) = &mut self.storage else { return Ok(()) };
        self.is_stale = true;
        let written = storage
            .begin()
            .and_then(|()| append_all(|part| storage.append_beside(part), &MAGIC))
            .and_then(|()| append_all(|part| storage.append_beside(part), bytes));
        let committed = written.and_then(|()| {
            let committed = storage.commit();
            if storage.exchanged() {
                self.end = (MAGIC.len() + bytes.len()) as u64;
                (self.is_stale, self.is_dirty) = (committed.is_err(), committed.is_err());
            }
            committed
        });
        if committed.is_err() {
            storage.abandon();
        }
        committed
    }
}
