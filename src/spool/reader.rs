//! Reads parts of a record file: bytes through a window, and the first record.

use std::io;

use super::record::{self, HEAD, What};
use super::scan::Session;
use super::storage::Storage;

/// Bytes read at once.
pub(crate) const CHUNK: usize = 32 * 1024;
/// The longest first record: its texts are bounded, and no byte of them takes more than six.
pub(super) const FIRST_MAX: usize = 8 * 1024;
/// The size that a disk writes atomically.
const SECTOR: u64 = 512;

/// A window on the file.
pub(crate) struct Reader<'a, S: ?Sized> {
    storage: &'a mut S,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a, S: Storage + ?Sized> Reader<'a, S> {
    pub(crate) fn on(storage: &'a mut S) -> Self {
        Self { storage, start: 0, buffer: Vec::new() }
    }

    /// At most `length` bytes (at most [`CHUNK`]) at `at`; fewer at the end of the file.
    pub(crate) fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let end = self.start + self.buffer.len() as u64;
        if at < self.start || at + length as u64 > end {
            self.buffer.resize(CHUNK, 0);
            let read = self.storage.read_at(at, &mut self.buffer)?;
            self.buffer.truncate(read);
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(&self.buffer[from..self.buffer.len().min(from + length)])
    }

    /// Whether the file, `length` bytes long, ends in the middle of the record at `at`, or is zero from some sector
    /// of it on.
    pub(super) fn is_torn(&mut self, at: u64, length: u64) -> io::Result<bool> {
        let left = length - at;
        let head = record::read(self.bytes(at, HEAD)?);
        if left < HEAD as u64
            || head.is_some_and(|head| left < HEAD as u64 + u64::from(head.length))
        {
            return Ok(true);
        }
        let mut at = at.next_multiple_of(SECTOR);
        let is_there = at < length;
        while at < length {
            let bytes = self.bytes(at, CHUNK)?;
            if bytes.is_empty() || bytes.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(is_there)
    }

    /// The CRC of `length` bytes at `at`, or of those that exist.
    pub(super) fn sum(&mut self, mut at: u64, length: u32) -> io::Result<u32> {
        let mut sum = crc32fast::Hasher::new();
        let mut left = length as usize;
        while left > 0 {
            let bytes = self.bytes(at, left.min(CHUNK))?;
            if bytes.is_empty() {
                break;
            }
            sum.update(bytes);
            (at, left) = (at + bytes.len() as u64, left - bytes.len());
        }
        Ok(sum.finalize())
    }
}

/// The first record of a file, as far as it is valid, and its length.
pub(super) enum First {
    Whole(Session, u64, usize),
    /// It is corrupt; the session is there if its own checksum is right.
    Damaged(Option<Session>, usize),
}

impl First {
    /// The record at the start of `bytes`. If its head is corrupt, the body is parsed as JSON, which shows its own
    /// end.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let read = record::read(head);
        if read.is_some_and(|head| head.what != What::Session) {
            return None;
        }
        let length = match read {
            Some(head) => head.length as usize,
            None => {
                let mut sessions =
                    serde_json::Deserializer::from_slice(rest).into_iter::<Session>();
                sessions.next()?.ok()?;
                sessions.byte_offset()
            }
        };
        let body = rest.get(..length)?;
        let is_whole = record::has_sum(head, body);
        let session = serde_json::from_slice(body).ok().filter(|_| is_whole);
        let length = HEAD + length;
        Some(match (read, session) {
            (Some(head), Some(session)) => Self::Whole(session, head.number, length),
            (_, session) => Self::Damaged(session, length),
        })
    }
}
