//! A record file: checksummed records in one file that is appended to, and replaced as a whole where it is full or
//! cannot be relied on. The [spool](crate::spool) and the request log are such files; what is in their records is
//! theirs.
//!
//! Reading order: `head` (a record in bytes), `storage` (what a file must do), `disk` (the real one), `reader`, this.

mod disk;
mod head;
mod reader;
mod storage;

use std::io;

pub use disk::File;
pub(crate) use disk::Names;
pub(crate) use head::{HEAD, Head, read, write};
pub(crate) use reader::{CHUNK, Reader};
pub use storage::Storage;
pub(crate) use storage::append_all;

/// The file as its one writer has it open, and how far it can be relied on. Without a storage it is empty: every
/// write succeeds and does nothing.
#[derive(Debug)]
pub(crate) struct RecordFile<S: ?Sized> {
    storage: Option<Box<S>>,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// It has to be replaced before anything can be appended.
    pub(crate) is_stale: bool,
    /// Something was written that a power cut would take.
    pub(crate) is_dirty: bool,
}

impl<S: ?Sized> Default for RecordFile<S> {
    fn default() -> Self {
        Self { storage: None, end: 0, is_stale: false, is_dirty: false }
    }
}

impl<S: Storage + ?Sized> RecordFile<S> {
    pub(crate) fn new(storage: Option<Box<S>>) -> Self {
        Self { storage, ..Self::default() }
    }

    pub(crate) fn storage(&mut self) -> Option<&mut S> {
        self.storage.as_deref_mut()
    }

    pub(crate) fn has_storage(&self) -> bool {
        self.storage.is_some()
    }

    /// Whether a call may block on a disk.
    pub(crate) fn blocks(&self) -> bool {
        self.storage.as_ref().is_some_and(|storage| storage.blocks())
    }

    /// Appends `bytes`: all, or nothing that stays.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
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

    /// Makes what was written survive a power cut. After a failure the file is stale: Linux forgets that its pages
    /// were dirty.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let (Some(storage), true) = (&mut self.storage, self.is_dirty) else { return Ok(()) };
        let synced = storage.sync();
        (self.is_dirty, self.is_stale) = (synced.is_err(), self.is_stale || synced.is_err());
        synced
    }

    /// Puts a new file in the old one's place, synced, at once or not at all. `write` appends to the file
    /// [beside](Storage::append_beside) the old one, and returns its length with whatever the caller wants to know.
    /// That is returned if the new file is in place, which it may be in spite of an error.
    pub(crate) fn replace<T>(
        &mut self,
        write: impl FnOnce(&mut S) -> io::Result<(u64, T)>,
    ) -> (Option<T>, io::Result<()>) {
        let Some(storage) = &mut self.storage else { return (None, Ok(())) };
        self.is_stale = true;
        let written = storage.begin().and_then(|()| write(storage));
        let (mut made, done) = match written {
            Ok((length, made)) => (Some((length, made)), storage.commit()),
            Err(error) => (None, Err(error)),
        };
        if made.is_none() || !storage.exchanged() {
            storage.abandon();
            made = None;
        }
        let made = made.map(|(length, made)| {
            self.end = length;
            (self.is_stale, self.is_dirty) = (done.is_err(), done.is_err());
            made
        });
        (made, done)
    }
}
