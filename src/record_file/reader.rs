//! Reads parts of a record file, through a window.

use std::io;

use super::head::{self, HEAD};
use super::storage::Storage;

/// Bytes read at once.
pub(crate) const CHUNK: usize = 32 * 1024;
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
    pub(crate) fn is_torn(&mut self, at: u64, length: u64) -> io::Result<bool> {
        let left = length - at;
        let head = head::read(self.bytes(at, HEAD)?);
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
    pub(crate) fn sum(&mut self, mut at: u64, length: u32) -> io::Result<u32> {
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
