//! The log's file: read once, appended to, written anew where it is full or cannot be relied on. Decides nothing about
//! what is in it. Blocks as its storage does.

use std::io;
use std::sync::Arc;

use super::SIZE;
use super::error::{LogError, Unusable};
use super::event::{BODY_MAX, CODES, Event};
use crate::pipeline::LogLimit;
use crate::record_file::{self, HEAD, Names, Reader, RecordFile, Storage, append_all};

/// The names of the file in the state folder. The lock has a file of its own, since the folder's is the spool's.
pub const NAMES: Names = Names {
    name: "requests.log",
    beside: "requests.new",
    aside: "requests.damaged",
    lock: Some("requests.lock"),
};

/// The first bytes of the file; the last of them is the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"IBREQLG\x01";

/// The most that is read of it.
const READ_MAX: u64 = 4 * SIZE;

/// What reading the file has shown.
#[derive(Debug, Default)]
pub(super) struct ReadReport {
    /// Records that can be used.
    pub records: u64,
    /// What is wrong with it, as the end of a sentence: something may be missing.
    pub wrong: Option<String>,
    /// It ends in the middle of a record, as a crash leaves it, and nothing else is wrong: what it says is so.
    pub is_torn: bool,
    length: u64,
}

/// The open file.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) file: RecordFile<dyn Storage>,
    /// Why it cannot be used.
    unusable: Option<Arc<Unusable>>,
    /// Writing fails.
    pub(super) failing: LogLimit,
}

impl Disk {
    /// Opens the file, and gives each record to `take`. Logs what is wrong; a file without any usable record is set aside.
    pub(super) fn open(
        storage: io::Result<Box<dyn Storage>>,
        take: impl FnMut(Event),
    ) -> (Self, ReadReport) {
        let opened = storage.map_err(Unusable::Open).and_then(|mut storage| {
            let found = read(&mut *storage, take).map_err(Unusable::Read)?;
            if let Some(wrong) = &found.wrong {
                let (records, refused) = (found.records, "envelopes of before now are refused");
                tracing::warn!(wrong, records, "the request log is damaged; {refused}");
                if records == 0 {
                    storage.set_aside().map_err(Unusable::SetAside)?;
                }
            }
            Ok((storage, found))
        });
        match opened {
            Ok((storage, found)) => {
                let mut file = RecordFile::new(Some(storage));
                file.end = found.length;
                file.is_stale = found.wrong.is_some() || found.records == 0;
                (Self { file, ..Self::default() }, found)
            }
            Err(trouble) => {
                tracing::error!(%trouble, "the request log cannot be used; it is in memory only");
                (
                    Self { unusable: Some(Arc::new(trouble)), ..Self::default() },
                    ReadReport::default(),
                )
            }
        }
    }

    /// The end of each write, where there is no file.
    pub(super) fn without_file(&self) -> Option<Result<(), LogError>> {
        let unusable = || self.unusable.clone().map(LogError::Unusable);
        (!self.file.has_storage()).then(|| unusable().map_or(Ok(()), Err))
    }

    /// Whether `bytes` more would be too many.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        self.file.end + bytes as u64 > SIZE
    }

    /// Puts a file of these records in the old one's place.
    pub(super) fn replace(&mut self, records: &[u8]) -> io::Result<()> {
        let (_, done) = self.file.replace(|storage| {
            append_all(|part| storage.append_beside(part), &MAGIC)?;
            append_all(|part| storage.append_beside(part), records)?;
            Ok(((MAGIC.len() + records.len()) as u64, ()))
        });
        done
    }
}

/// Reads the file and gives each record to `take`.
///
/// Each sum is checked. Behind a damaged part the next head that has its sum is looked for: no body can look like
/// one, since an id and a name are printable and a head is not.
///
/// # Errors
/// The disk does not give it back: that says nothing about the file.
fn read(storage: &mut dyn Storage, mut take: impl FnMut(Event)) -> io::Result<ReadReport> {
    let length = storage.length()?;
    let mut found = ReadReport { length, ..ReadReport::default() };
    let mut reader = Reader::on(storage);
    // The first that is wrong, and where; the last record, and whether it is cut short.
    let (mut first, mut last, mut is_cut) = (None, 0, false);
    let mut wrong = |what: &'static str, at: u64| first = first.or(Some((what, at)));
    let is_magic = length == 0 || reader.bytes(0, MAGIC.len())? == MAGIC;
    if !is_magic {
        wrong("it does not begin as a request log of this version", 0);
    }
    let mut at = if is_magic { MAGIC.len() as u64 } else { 0 };
    while at < length.min(READ_MAX) {
        last = at;
        let bytes = reader.bytes(at, HEAD)?;
        is_cut = bytes.len() < HEAD;
        // Mostly a look at one byte says that no head begins there.
        let head = Some(bytes)
            .filter(|_| !is_cut && CODES.contains(&bytes[4]))
            .and_then(record_file::read);
        let Some(head) = head.filter(|head| head.length as usize <= BODY_MAX) else {
            wrong("no record is", at);
            at += if is_cut { HEAD as u64 } else { 1 };
            continue;
        };
        let whole = HEAD + head.length as usize;
        let body = reader.bytes(at, whole)?.get(HEAD..whole);
        let body = body.filter(|body| crc32fast::hash(body) == head.body_crc);
        match body.and_then(|body| Event::read(&head, body)) {
            Some(event) => {
                found.records += 1;
                take(event);
            }
            None => {
                is_cut = at + whole as u64 > length;
                wrong("a record is damaged or cut short", at);
            }
        }
        at += whole as u64;
    }
    if length > READ_MAX {
        wrong("it is longer than any such file", READ_MAX);
    }
    found.is_torn = is_cut && first.is_some_and(|(_, at)| at > 0 && at == last);
    found.wrong = first.map(|(what, at)| format!("{what} at byte {at} of {length}"));
    Ok(found)
}
