//! Scans a whole spool file: the waiting items and all corruption. It trusts nothing without a checksum.

use std::collections::VecDeque;
use std::io;

use tokio::time::Instant;

use super::first::{FIRST_MAX, First, Session};
use super::message::{DurableMessage, MessageKind};
use super::record::{self, Head, MAGIC, RecordKind};
use crate::record_file::{CHUNK, HEAD, Reader, Storage};
use crate::sinks::io_reason;

/// The most waiting items: an index of 32 bytes each, half a MiB.
pub const ITEMS_MAX: usize = 16_384;
/// The most corruptions that are listed.
const WRONG_MAX: usize = 100;

/// A waiting item, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Sequence number, from 1, strictly increasing.
    pub seq: u64,
    /// When it was created, in milliseconds since 1970.
    pub at_ms: u64,
    /// Its kind.
    pub kind: MessageKind,
    /// Bytes of the frame.
    pub length: u32,
    /// Its weight in readings.
    pub readings: u32,
    /// The request that it answers, as the request log numbers them; 0 where none.
    pub request: u32,
    /// When a host requested it, if that was in this run of the agent.
    pub(super) requested_at: Option<Instant>,
    /// The offset of its record in the file. `None`: in memory only.
    pub(super) offset: Option<u32>,
}

impl Entry {
    /// The entry of a new message. Its number is set when it is queued.
    pub(super) fn of(message: &DurableMessage, now_ms: u64) -> Self {
        let length = u32::try_from(message.frame.bytes.len()).unwrap_or(u32::MAX);
        let (kind, readings) = (message.kind, message.frame.readings);
        let requested_at = kind.is_reply().then_some(message.frame.oldest);
        let request = message.request;
        Self { seq: 0, at_ms: now_ms, kind, length, readings, request, requested_at, offset: None }
    }

    pub(super) fn record(&self) -> u64 {
        HEAD as u64 + u64::from(self.length)
    }
}

/// A corruption, and its extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// Where in the file.
    pub offset: u64,
    /// The number of bytes that are ignored.
    pub bytes: u64,
    /// What is wrong, as the end of a sentence.
    pub what: String,
}

/// The content of a file.
#[derive(Debug, Default)]
pub struct Scan {
    /// Its last writer. `None`: it is no spool, or an empty one.
    pub session: Option<Session>,
    /// The waiting items, oldest first; at most twice [`ITEMS_MAX`].
    pub waiting: VecDeque<Entry>,
    /// The corruptions, at most a hundred.
    pub corruptions: Vec<Corruption>,
    /// Why the file could not be read, if so. That is no corruption, and the scan is incomplete.
    pub unreadable: Option<String>,
    /// The weight of corrupt items, as far as their heads are valid; a part of unknown content counts as one item.
    pub damaged: u64,
    /// The weight of what the file ends in the middle of, or of zeros at its end: unsynced data after a power cut
    /// looks like this.
    pub torn: u64,
    /// The length of the file.
    pub length: u64,
    /// The number after the highest known one.
    pub(super) next_seq: u64,
    /// The end of the valid part.
    pub(super) end: u64,
}

/// Scans the file in `storage`, at most `bytes_max` of it, through a buffer of 32 KiB.
///
/// Every checksum is verified. A corrupt body costs its item. After a corrupt head nothing can be trusted (the
/// output of a program could look like a record), so the rest of the file is ignored. A file whose end was lost in
/// a power cut is of that kind, and only unsynced data is lost.
///
/// The beginning is the exception: the first bytes and the first record have a fixed place, so the records after
/// them are found although they are corrupt. The first record's own checksum, or a later record, then proves the
/// owner. Without proof no item is used.
///
/// A failed read says nothing about the file: the scan ends there and sets `Scan::unreadable`.
pub fn scan<S: Storage>(storage: &mut S, bytes_max: u64) -> Scan {
    let mut scan = Scan { next_seq: 1, ..Scan::default() };
    let length = match storage.length() {
        Ok(length) => length,
        Err(error) => {
            scan.unreadable = Some(format!("its length cannot be read: {}", io_reason(&error)));
            return scan;
        }
    };
    scan.length = length;
    let mut reader = Reader::on(storage);
    let (mut at, bytes_max) = (0, bytes_max.min(length));
    while at < length {
        let next = match at {
            0 => scan.beginning(&mut reader, length),
            at => scan.record(&mut reader, at, bytes_max),
        };
        let stop = match next {
            Ok(next) => {
                at = next;
                continue;
            }
            Err(stop) => stop,
        };
        match stop {
            Stop::Unreadable(error) => scan.stop_unreadable(at, &error),
            Stop::Corruption(what, weight) => {
                match reader.is_torn(at, length) {
                    Ok(true) => scan.torn += weight,
                    _ => scan.damaged += weight,
                }
                scan.corruptions(at, length - at, what);
            }
        }
        break;
    }
    scan.end = at;
    if scan.session.is_none() && !scan.waiting.is_empty() {
        let lost = std::mem::take(&mut scan.waiting);
        scan.damaged += lost.iter().map(|entry| u64::from(entry.readings)).sum::<u64>();
        scan.corruptions(0, length, "it does not say whose it is");
    }
    scan
}

/// Why a scan stops.
enum Stop {
    /// The bytes are no record, or not one of a spool; and their weight.
    Corruption(String, u64),
    /// The bytes could not be read.
    Unreadable(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// Unknown content counts as one item.
impl From<&str> for Stop {
    fn from(what: &str) -> Self {
        Self::Corruption(what.to_owned(), 1)
    }
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Corruption(what, 1)
    }
}

impl Scan {
    fn stop_unreadable(&mut self, at: u64, error: &io::Error) {
        self.unreadable =
            Some(format!("it cannot be read from byte {at} on: {}", io_reason(error)));
    }

    fn corruptions(&mut self, offset: u64, bytes: u64, what: impl Into<String>) {
        if self.corruptions.len() < WRONG_MAX {
            self.corruptions.push(Corruption { offset, bytes, what: what.into() });
        }
    }

    /// Reads the first bytes and the session record. Returns the offset of the next record.
    fn beginning<S: Storage>(
        &mut self,
        reader: &mut Reader<'_, S>,
        length: u64,
    ) -> Result<u64, Stop> {
        let bytes = reader.bytes(0, MAGIC.len() + FIRST_MAX)?;
        let is_magic = bytes.starts_with(&MAGIC);
        if is_magic && length == MAGIC.len() as u64 {
            return Ok(length);
        }
        let first = bytes.get(MAGIC.len()..).and_then(First::of).filter(|first| match first {
            First::Whole(..) => true,
            First::Damaged(..) => is_magic,
        });
        let Some(first) = first else {
            let other = "it is no spool, or one of another version, or its beginning is damaged";
            return Err(if is_magic { "it does not say whose it is" } else { other }.into());
        };
        if !is_magic {
            self.corruptions(0, MAGIC.len() as u64, "its first bytes are damaged");
        }
        let length = match first {
            First::Whole(session, number, length) => {
                (self.session, self.next_seq) = (Some(session), number.max(1));
                length
            }
            First::Damaged(session, length) => {
                let what = "the record that says whose it is is damaged";
                self.corruptions(MAGIC.len() as u64, length as u64, what);
                self.session = session;
                length
            }
        };
        Ok((MAGIC.len() + length) as u64)
    }

    /// Reads the record at `at`. Returns the offset of the next one. `Err`: it and the rest are ignored.
    fn record<S: Storage>(
        &mut self,
        reader: &mut Reader<'_, S>,
        at: u64,
        length: u64,
    ) -> Result<u64, Stop> {
        let Some(head) = record::read(reader.bytes(at, HEAD)?) else {
            return match First::of(reader.bytes(at, FIRST_MAX)?) {
                Some(First::Damaged(Some(session), bytes)) => {
                    self.corruptions(at, bytes as u64, "the head of a session is damaged");
                    self.session = Some(session);
                    Ok(at + bytes as u64)
                }
                _ => Err("a record's head is damaged or cut short".into()),
            };
        };
        let body = at + HEAD as u64;
        let next = body + u64::from(head.length);
        if next > length {
            return Err(Stop::Corruption("a record is cut short".to_owned(), weight(&head)));
        }
        let sum = reader.sum(body, head.length)?;
        if sum == head.body_crc {
            self.take(head, at, reader, body)?;
            return Ok(next);
        }
        self.damaged += weight(&head);
        let what = match head.kind {
            RecordKind::Item(kind) => format!("{} {} is damaged", kind.name(), head.number),
            _ => "a record's body is damaged".to_owned(),
        };
        self.corruptions(at, next - at, what);
        let used = u64::from(matches!(head.kind, RecordKind::Item(_)));
        self.next_seq = self.next_seq.max(head.number.saturating_add(used));
        Ok(next)
    }

    fn take<S: Storage>(
        &mut self,
        head: Head,
        at: u64,
        reader: &mut Reader<'_, S>,
        body: u64,
    ) -> Result<(), Stop> {
        match head.kind {
            RecordKind::Session => {
                let body = reader.bytes(body, (head.length as usize).min(CHUNK))?;
                let session = serde_json::from_slice(body);
                self.session = Some(session.map_err(|_| "a head of a session says nothing")?);
                self.next_seq = self.next_seq.max(head.number);
            }
            RecordKind::Read => {
                while self.waiting.front().is_some_and(|first| first.seq <= head.number) {
                    self.waiting.pop_front();
                }
                self.next_seq = self.next_seq.max(head.number.saturating_add(1));
            }
            RecordKind::Dropped => {
                if let Ok(index) = self.waiting.binary_search_by_key(&head.number, |item| item.seq)
                {
                    self.waiting.remove(index);
                }
            }
            RecordKind::Item(kind) => {
                if head.number < self.next_seq {
                    return Err(format!("{} {} is out of order", kind.name(), head.number).into());
                }
                if self.waiting.len() >= 2 * ITEMS_MAX {
                    return Err(format!("more than {} items wait", 2 * ITEMS_MAX).into());
                }
                let offset = u32::try_from(at).map_err(|_| "it is longer than any spool")?;
                self.next_seq = head.number.saturating_add(1);
                self.waiting.push_back(Entry {
                    seq: head.number,
                    at_ms: head.at_ms,
                    kind,
                    length: head.length,
                    readings: head.readings,
                    request: head.request,
                    requested_at: None,
                    offset: Some(offset),
                });
            }
        }
        Ok(())
    }
}

/// The weight of an ignored record.
fn weight(head: &Head) -> u64 {
    match head.kind {
        RecordKind::Item(_) => head.readings.into(),
        _ => 0,
    }
}

/// The bytes of the item `entry`, verified. `None`: they are corrupt, or not in the file.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn body<S: Storage>(storage: &mut S, entry: &Entry) -> io::Result<Option<Vec<u8>>> {
    let Some(offset) = entry.offset else { return Ok(None) };
    let mut bytes = vec![0; HEAD + entry.length as usize];
    let read = storage.read_at(offset.into(), &mut bytes)?;
    let head = record::read(&bytes[..read]);
    let same = |head: Head| {
        (head.kind, head.number, head.length)
            == (RecordKind::Item(entry.kind), entry.seq, entry.length)
    };
    let whole = read == bytes.len() && head.is_some_and(same);
    let body = bytes.split_off(HEAD.min(bytes.len()));
    Ok((whole && head.is_some_and(|head| head.body_crc == crc32fast::hash(&body))).then_some(body))
}
