//! The disk that breaks, with a tap: when all that was written was safe, and when something failed last. Judges
//! nothing.

use std::io;
use std::sync::Arc;

use infiniservice::internals::record_file::Storage;

use super::doubles::faulty_disk::FaultyDisk;
use tokio::time::Instant;

use super::known::Shared;

/// A [`FaultyDisk`] disk that is watched. A copy is the same disk.
#[derive(Clone)]
pub struct Disk {
    /// The disk.
    pub faulty: FaultyDisk,
    known: Shared,
}

impl Disk {
    /// An empty one.
    pub fn new(seed: u64, known: &Shared) -> Self {
        Self { faulty: FaultyDisk::new(seed), known: Arc::clone(known) }
    }

    fn tell<T>(&self, what: &'static str, done: io::Result<T>) -> io::Result<T> {
        if done.is_err() {
            let mut known = self.known.lock();
            known.note(what, 0, 0);
            known.disk.failed = Some(Instant::now());
        }
        done
    }
}

/// What is known of a disk.
#[derive(Debug, Default)]
pub struct StatsRegistry {
    /// The last failure.
    pub failed: Option<Instant>,
    /// When all that had been written survived a power cut last.
    pub synced: Option<Instant>,
    /// A sync has failed, and the file was not replaced since.
    pub is_broken: bool,
    /// The last write failed: what is synced then is not all there is.
    pub is_unwritten: bool,
    /// Reads failed at some time.
    pub reads_failed: bool,
}

impl Storage for Disk {
    fn length(&mut self) -> io::Result<u64> {
        self.faulty.length()
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let read = self.faulty.read_at(offset, into);
        if read.is_err() {
            self.known.lock().disk.reads_failed = true;
        }
        self.tell("read failed", read)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.faulty.append(bytes);
        let mut known = self.known.lock();
        known.disk.is_unwritten = done.is_err();
        known.note("written", bytes.len() as u64, 0);
        drop(known);
        self.tell("write failed", done)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let done = self.faulty.truncate(length);
        self.tell("truncate failed", done)
    }

    fn sync(&mut self) -> io::Result<()> {
        let done = self.faulty.sync();
        let mut known = self.known.lock();
        known.disk.is_broken |= done.is_err();
        if done.is_ok() && !known.disk.is_broken && !known.disk.is_unwritten {
            known.note("synced", 0, 0);
            known.disk.synced = Some(Instant::now());
        }
        drop(known);
        self.tell("sync failed", done)
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let done = self.faulty.set_aside();
        self.tell("set aside failed", done)
    }

    fn begin(&mut self) -> io::Result<()> {
        let done = self.faulty.begin();
        self.tell("begin failed", done)
    }

    fn append_beside(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.faulty.append_beside(bytes);
        self.tell("write beside failed", done)
    }

    fn commit(&mut self) -> io::Result<()> {
        let done = self.faulty.commit();
        let mut known = self.known.lock();
        if self.faulty.exchanged() {
            (known.disk.is_broken, known.disk.is_unwritten) = (false, false);
        }
        if done.is_ok() {
            known.note("committed", 0, 0);
            known.disk.synced = Some(Instant::now());
        }
        drop(known);
        self.tell("commit failed", done)
    }

    fn abandon(&mut self) {
        self.faulty.abandon();
    }

    fn exchanged(&self) -> bool {
        self.faulty.exchanged()
    }

    fn blocks(&self) -> bool {
        false
    }
}
