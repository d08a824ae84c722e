//! A disk in memory whose power can be cut: it loses, tears and reorders unsynced writes, runs full and fails. For
//! tests and simulations; its speed means nothing.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use infiniservice::internals::record_file::Storage;
use infiniservice::model::Rng;

/// The size that a disk writes atomically.
const SECTOR: usize = 512;

/// A [`Storage`] that models a page cache over a disk. Clones share one disk.
///
/// Appended bytes are visible to every later read at once, and on the disk after a sync. A
/// [`power_cut`](Self::power_cut) resolves unsynced changes by the seed: the length of each file becomes the synced
/// one or any later one; each 512-byte sector is the synced one, a later one or, if there was none, zeros; a rename
/// whose folder was not synced has happened or not. A failed sync leaves the file unresolved for ever, even if a
/// later one succeeds, as on Linux.
#[derive(Debug, Clone)]
pub struct FaultyDisk(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Disk {
    chance: Rng,
    file: Option<Pages>,
    beside: Option<Pages>,
    aside: Option<Vec<u8>>,
    /// The files that the name meant before unsynced renames. Empty: there was none.
    before: Vec<Option<Pages>>,
    exchanged: bool,
    faults: Faults,
    steps: u64,
}

/// The faults to inject.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// The power is cut at this step, counted from the start: the step happens in part, and everything
    /// fails until [`FaultyDisk::power_cut`].
    pub cut_at: Option<u64>,
    /// All files together take this many bytes.
    pub space: Option<u64>,
    /// Each write fails with EIO.
    pub write_fails: bool,
    /// Each sync fails with EIO.
    pub sync_fails: bool,
    /// Each sync of the folder fails with EIO: a rename stays undecided.
    pub folder_sync_fails: bool,
    /// Each read fails with EIO.
    pub read_fails: bool,
    /// Each read of the file that gets as far as this byte fails with EIO.
    pub unreadable_from: Option<u64>,
    /// Most writes accept only a part of their bytes.
    pub short_writes: bool,
}

/// A file: its content for readers, and what is or may be on the disk.
#[derive(Debug, Clone, Default)]
struct Pages {
    seen: Vec<u8>,
    synced: Vec<u8>,
    /// Changes since the last sync, in order.
    undecided: Vec<Change>,
    /// A sync has failed: no later one settles anything.
    broken: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl FaultyDisk {
    /// An empty disk; `seed` decides what a power cut leaves.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            chance: Rng(seed),
            file: None,
            beside: None,
            aside: None,
            before: Vec::new(),
            exchanged: false,
            faults: Faults::default(),
            steps: 0,
        })))
    }

    /// A disk with this file on it.
    pub fn with(seed: u64, bytes: &[u8]) -> Self {
        let disk = Self::new(seed);
        let pages = Pages { seen: bytes.to_vec(), synced: bytes.to_vec(), ..Pages::default() };
        disk.disk().file = Some(pages);
        disk
    }

    /// Sets what goes wrong from now on.
    pub fn set(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// The number of writes, syncs and renames so far.
    pub fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// The current content of the file.
    pub fn bytes(&self) -> Vec<u8> {
        self.disk().file.as_ref().map(|file| file.seen.clone()).unwrap_or_default()
    }

    /// The file that was last set aside.
    pub fn aside(&self) -> Option<Vec<u8>> {
        self.disk().aside.clone()
    }

    /// Cuts the power and turns it on again, and clears all faults.
    pub fn power_cut(&self) {
        let mut disk = self.disk();
        let Disk { chance, file, beside, before, faults, .. } = &mut *disk;
        let mut names = std::mem::take(before);
        names.push(file.take());
        let which = chance.below(names.len() as u64) as usize;
        *file = names.swap_remove(which).map(|pages| pages.after_a_cut(chance));
        *beside = beside.take().map(|pages| pages.after_a_cut(chance));
        *faults = Faults::default();
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Disk {
    /// Counts a step. `Ok(true)`: the power fails in the middle of it.
    fn step(&mut self) -> io::Result<bool> {
        self.steps += 1;
        match self.faults.cut_at {
            Some(at) if self.steps > at => Err(eio()),
            at => Ok(at == Some(self.steps)),
        }
    }

    fn write(&mut self, beside: bool, bytes: &[u8]) -> io::Result<usize> {
        let cut = self.step()?;
        if self.faults.write_fails {
            return Err(eio());
        }
        let used = [&self.file, &self.beside].into_iter().flatten().map(|file| file.seen.len());
        let space = self.faults.space.map(|space| space.saturating_sub(used.sum::<usize>() as u64));
        let mut length = bytes.len().min(space.map_or(usize::MAX, |space| space as usize));
        if length == 0 && !bytes.is_empty() {
            return Err(Errno::NOSPC.into());
        }
        if cut || (self.faults.short_writes && self.chance.below(4) > 0) {
            length = 1 + self.chance.below(length as u64) as usize;
        }
        let file = if beside { &mut self.beside } else { &mut self.file };
        let file = file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let end = file.seen.len();
        file.seen.extend_from_slice(&bytes[..length]);
        file.undecided.push(Change::Write(end, bytes[..length].to_vec()));
        if cut { Err(eio()) } else { Ok(length) }
    }

    fn sync(&mut self, beside: bool) -> io::Result<()> {
        let cut = self.step()?;
        let fails = self.faults.sync_fails;
        let file = if beside { &mut self.beside } else { &mut self.file };
        let file = file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        if fails {
            file.broken = true;
            return Err(eio());
        }
        if cut {
            return Err(eio());
        }
        if !file.broken {
            file.undecided.clear();
            file.synced.clone_from(&file.seen);
        }
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let cut = self.step()?;
        if cut || self.faults.sync_fails || self.faults.folder_sync_fails {
            return Err(eio());
        }
        self.before.clear();
        Ok(())
    }
}

impl Pages {
    fn after_a_cut(self, chance: &mut Rng) -> Self {
        let mut bytes = self.synced;
        // One in four keeps or loses all of it, the rest are a mixture.
        let keeps = match chance.below(4) {
            0 => Some(chance.below(2) == 0),
            _ => None,
        };
        let mut lengths = vec![bytes.len()];
        for change in &self.undecided {
            match change {
                Change::Length(length) => lengths.push(*length),
                Change::Write(at, written) => {
                    lengths.push(at + written.len());
                    let end = at + written.len();
                    if bytes.len() < end {
                        bytes.resize(end, 0);
                    }
                    let mut from = *at;
                    while from < end {
                        let next = end.min((from / SECTOR + 1) * SECTOR);
                        if keeps.unwrap_or_else(|| chance.below(2) == 0) {
                            bytes[from..next].copy_from_slice(&written[from - at..next - at]);
                        }
                        from = next;
                    }
                }
            }
        }
        let length = match keeps {
            Some(true) => lengths[lengths.len() - 1],
            Some(false) => lengths[0],
            None => lengths[chance.below(lengths.len() as u64) as usize],
        };
        bytes.resize(length, 0);
        Self { seen: bytes.clone(), synced: bytes, ..Self::default() }
    }
}

impl Storage for FaultyDisk {
    fn length(&mut self) -> io::Result<u64> {
        Ok(self.disk().file.as_ref().map_or(0, |file| file.seen.len() as u64))
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk();
        if disk.faults.read_fails {
            return Err(eio());
        }
        let Some(file) = &disk.file else { return Ok(0) };
        let rest = file.seen.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        if disk.faults.unreadable_from.is_some_and(|from| offset + length as u64 > from) {
            return Err(eio());
        }
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk().write(false, bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let cut = disk.step()?;
        let file = disk.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.seen.truncate(length as usize);
        file.undecided.push(Change::Length(length as usize));
        if cut { Err(eio()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.sync(false)?;
        if disk.before.is_empty() { Ok(()) } else { disk.sync_folder() }
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let mut disk = self.disk();
        let cut = disk.step()?;
        if disk.faults.write_fails {
            return Err(eio());
        }
        let old = disk.file.take();
        disk.aside = old.as_ref().map(|pages| pages.seen.clone());
        disk.before.push(old);
        if cut { Err(eio()) } else { Ok(()) }
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.beside = None;
        if disk.step()? {
            return Err(eio());
        }
        disk.beside = Some(Pages::default());
        Ok(())
    }

    fn append_beside(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.disk().write(true, bytes)
    }

    fn commit(&mut self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.exchanged = false;
        disk.sync(true)?;
        let cut = disk.step()?;
        let new = disk.beside.take();
        let old = std::mem::replace(&mut disk.file, new);
        disk.before.push(old);
        disk.exchanged = true;
        if cut {
            return Err(eio());
        }
        disk.sync_folder()
    }

    fn abandon(&mut self) {
        self.disk().beside = None;
    }

    fn exchanged(&self) -> bool {
        self.disk().exchanged
    }

    fn blocks(&self) -> bool {
        false
    }
}

fn eio() -> io::Error {
    Errno::IO.into()
}
