//! Follows the files of a pattern: which there are, in which order they are read, and when one that is gone is left. Blocks,
//! without a task of its own: [`look`](Follower::look), then [`read`](Follower::read) until there is nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::super::split::{Lines, Splitter};
use super::From;
use super::pattern::{Pattern, entries};
use super::positions::{Positions, SavedFile};
use super::tail::{Cursor, HEAD_MAX, Id, ResumePoint, TailRead, head, open};
use crate::model::Receipt;
use crate::records::buffers::Buffers;
use crate::sort;

/// The most files that are followed; more are not read until others are gone.
pub(super) const FILES_MAX: usize = 1024;

/// The most of them that are open. The one that was read longest ago is closed for another, and opened when it grows.
pub(super) const OPEN_MAX: usize = 64;

/// How long a file that was renamed away or removed is followed after its last line: its writer may still have it open.
const GONE_WAIT: Duration = Duration::from_secs(60);

/// The most names in a folder that are looked through for a file that was renamed or copied.
const NAMES_MAX: usize = 16 * 1024;

/// The most files of which a problem is remembered, so that it is logged once.
const PROBLEMS_MAX: usize = 256;

/// What is followed, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The files.
    pub pattern: Pattern,
    /// Where files begin that are there when they are followed for the first time. Later ones begin at their start.
    pub from: From,
    /// Whether to end at the end of what is there.
    pub until_end: bool,
    /// The longest line in bytes, newline not counted.
    pub max_line: usize,
    /// Where its buffers come from.
    pub buffers: Buffers,
}

impl Options {
    fn splitter(&self) -> Splitter {
        Splitter::new(self.max_line).with_buffers(self.buffers.clone())
    }
}

/// The state of one source.
#[derive(Debug)]
pub struct Follower {
    options: Options,
    positions: Positions,
    /// In the order in which they are read.
    tails: Vec<Tail>,
    /// Of the last run, and not found yet.
    saved: Vec<SavedFile>,
    /// Where `from` holds: at the first look of the first run.
    is_new: bool,
    has_looked: bool,
    next: usize,
    problems: HashSet<PathBuf>,
    /// How many were noticed.
    truncations: u64,
    is_cut: bool,
    /// Some path is a symbolic link.
    has_links: bool,
}

#[derive(Debug)]
struct Tail {
    id: Id,
    path: PathBuf,
    /// Its first path; that of its log, as long as it was not rotated then.
    log: PathBuf,
    cursor: Cursor,
    file: Option<File>,
    /// It has no path of the pattern any more, since then or since its last line.
    gone: Option<Instant>,
    /// It may have something to read.
    is_due: bool,
    /// Everything of it has been read, and it is gone: its position is kept until that is acknowledged.
    is_finished: bool,
    /// It may be a copy of a file that will be truncated (copytruncate): then only what that one had more is read.
    may_be_copy: bool,
    read: Instant,
}

/// Lines of one file.
#[derive(Debug)]
pub struct LineBatch {
    /// Whole lines, and how many were too long.
    pub(in crate::records::read) lines: Lines,
    /// Acknowledges them.
    pub receipt: Receipt,
}

impl LineBatch {
    /// The lines, each with its newline.
    pub fn bytes(&self) -> &[u8] {
        &self.lines.bytes
    }

    /// How many lines were skipped because they are too long.
    pub fn too_long(&self) -> u64 {
        self.lines.too_long
    }
}

impl Follower {
    /// Goes on where `positions` says.
    pub fn new(options: Options, positions: Positions) -> Self {
        let known = positions.known();
        let saved = if known.is_empty() { positions.load() } else { Vec::new() };
        let (is_new, now) = (known.is_empty() && saved.is_empty(), Instant::now());
        let tails = known.into_iter().map(|(id, path, offset, head)| {
            let cursor = Cursor::new(offset, head, options.splitter());
            Tail::new(id, path, cursor, now)
        });
        Self {
            tails: tails.collect(),
            options,
            positions,
            saved,
            is_new,
            has_looked: false,
            next: 0,
            problems: HashSet::new(),
            truncations: 0,
            is_cut: false,
            has_links: false,
        }
    }

    /// Looks which files are there. Returns the folders that decide that.
    pub fn look(&mut self, now: Instant) -> BTreeSet<PathBuf> {
        let found = self.options.pattern.find(FILES_MAX);
        if found.is_cut && !std::mem::replace(&mut self.is_cut, true) {
            let pattern = self.options.pattern.as_path();
            tracing::warn!(
                ?pattern,
                "more than {FILES_MAX} files match: the rest is not read (narrow the pattern)"
            );
        }
        let mut there = BTreeMap::new();
        self.has_links = found.paths.iter().any(|path| path.is_symlink());
        for path in found.paths {
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => {
                    there.entry(Id::of(&metadata)).or_insert((path, metadata));
                }
                Ok(_) => self.problem(&path, "is not a regular file, and not read"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.problem(&path, &error.to_string()),
            }
        }
        for tail in &mut self.tails {
            match there.remove(&tail.id) {
                Some((path, metadata)) => {
                    if tail.path != path {
                        self.positions.moved(tail.id, &path);
                        tail.path = path;
                    }
                    tail.gone = None;
                    tail.is_due |= tail.cursor.may_have_more(&metadata);
                }
                None => {
                    tail.gone.get_or_insert(now);
                    tail.is_due |= !tail.is_finished && tail.has_changed();
                }
            }
        }
        let mut new: Vec<_> = there.into_iter().collect();
        // Oldest first; of the same moment, `app.log.10` before `app.log.9` and `app.log`.
        sort::by_key(&mut new, |(_, (path, metadata))| {
            let name = Reverse((path.as_os_str().len(), path.clone()));
            (metadata.mtime(), metadata.mtime_nsec(), name)
        });
        if !self.has_looked {
            self.find_moved(&new.iter().map(|(id, _)| *id).collect(), now);
        }
        for (id, (path, metadata)) in new {
            if self.tails.len() < FILES_MAX {
                self.add(id, path, &metadata, now);
            }
        }
        (self.is_new, self.has_looked) = (false, true);
        self.saved.clear();
        found.folders
    }

    /// Sees which of the open files have changed; cheaper than a look.
    pub fn refresh(&mut self) {
        for tail in &mut self.tails {
            tail.is_due |= !tail.is_finished && tail.file.is_some() && tail.has_changed();
        }
    }

    /// Lines of one file; `None` if there is nothing to read until the next look.
    pub fn read(&mut self, now: Instant) -> Option<LineBatch> {
        loop {
            let due = |tails: &[Tail]| tails.iter().filter(|tail| tail.is_due).count();
            let before = (due(&self.tails), self.truncations);
            for _ in 0..self.tails.len() {
                let index = self.next % self.tails.len();
                self.next = index + 1;
                let given = self.read_tail(index, now);
                if given.is_some() {
                    return given;
                }
            }
            // A file that waited for another may be read now.
            if before == (due(&self.tails), self.truncations) {
                return None;
            }
        }
    }

    /// Gives up files that are gone and have ended. Returns when the next one may be given up.
    pub fn tidy(&mut self, now: Instant) -> Option<Instant> {
        let positions = self.positions.clone();
        self.tails.retain(|tail| !(tail.is_finished && positions.forget(tail.id)));
        let ends = |tail: &Tail| Some(tail.gone? + GONE_WAIT).filter(|_| !tail.is_finished);
        self.tails.iter().filter_map(ends).filter(|end| *end > now).min()
    }

    /// Whether everything that is there has been read; only where it is to end then.
    pub fn has_ended(&self) -> bool {
        self.options.until_end && self.has_looked && self.tails.iter().all(|tail| !tail.is_due)
    }

    /// The open files, to be watched.
    pub(super) fn open_files(&self) -> impl Iterator<Item = (Id, std::os::fd::BorrowedFd<'_>)> {
        self.tails.iter().filter_map(|tail| Some((tail.id, tail.file.as_ref()?.as_fd())))
    }

    /// Whether a file is followed that is not open, or is behind a link, so that not all changes can be watched.
    pub(super) fn has_unwatched(&self) -> bool {
        self.has_links || self.tails.iter().any(|tail| tail.file.is_none() && !tail.is_finished)
    }

    /// Whether an older file of the same log is read first, so that lines stay in order.
    fn waits(&self, index: usize) -> bool {
        let Some((tail, older)) = self.tails.get(index).zip(self.tails.get(..index)) else {
            return false;
        };
        older.iter().any(|older| older.is_due && is_same_log(&older.path, &tail.path))
    }

    fn read_tail(&mut self, index: usize, now: Instant) -> Option<LineBatch> {
        let tail = self.tails.get(index)?;
        let is_over = tail.gone.is_some_and(|gone| gone + GONE_WAIT <= now);
        if tail.is_finished || !(tail.is_due || is_over) || self.waits(index) {
            return None;
        }
        if tail.file.is_none() && !self.open(index) || self.is_copy(index, now) {
            return None;
        }
        let until_end = self.options.until_end;
        let tail = self.tails.get_mut(index)?;
        let file = tail.file.as_ref()?;
        tail.read = now;
        let to_the_end = is_over || until_end;
        let (id, cursor) = (tail.id, &mut tail.cursor);
        match cursor.read(file, to_the_end) {
            Ok(TailRead::Lines(lines)) => {
                tail.is_due = true;
                tail.gone = tail.gone.map(|_| now);
                let receipt = self.positions.give(id, cursor.position(), cursor.head());
                Some(LineBatch { lines, receipt })
            }
            Ok(TailRead::End) => {
                tail.is_due = false;
                if is_over {
                    (tail.is_finished, tail.file) = (true, None);
                }
                None
            }
            Ok(TailRead::Truncated(before)) => {
                tracing::info!(file = ?tail.path, "the file was truncated or written anew: it is read from its start");
                self.positions.begin(id, &tail.path, cursor.position(), cursor.head());
                tail.is_due = true;
                self.truncations += 1;
                if let Some(copy) = copied(&tail.log, id, &before) {
                    self.read_copy(index, copy, before, now);
                }
                self.read_tail(index, now)
            }
            Err(error) => {
                tail.is_due = false;
                let path = tail.path.clone();
                self.problem(&path, &error.to_string());
                None
            }
        }
    }

    /// Opens a file, and closes another where too many are open.
    fn open(&mut self, index: usize) -> bool {
        let open = self.tails.iter().filter(|tail| tail.file.is_some()).count();
        if open >= OPEN_MAX {
            let idle = |tail: &&mut Tail| tail.file.is_some() && !tail.is_due;
            let rank = |tail: &&mut Tail| (tail.gone.is_some(), tail.read);
            match self.tails.iter_mut().filter(idle).min_by_key(rank) {
                Some(tail) => tail.file = None,
                None => return false,
            }
        }
        let Some(tail) = self.tails.get_mut(index) else { return false };
        let mut opened = opened(&tail.path, tail.id);
        if let Ok(None) = opened
            && let Some(path) = moved_to(&tail.path, tail.id.inode)
        {
            opened = self::opened(&path, tail.id);
        }
        match opened {
            Ok(Some(file)) => tail.file = Some(file),
            Ok(None) if tail.gone.is_some() => (tail.is_due, tail.is_finished) = (false, true),
            Ok(None) => tail.is_due = false, // the next look finds what is there now
            Err(error) => {
                tail.is_due = false;
                let path = tail.path.clone();
                self.problem(&path, &error.to_string());
                return false;
            }
        }
        tail.file.is_some()
    }

    /// Whether this is, as far as it goes, a copy of a file that is read: then it has nothing new unless that one is truncated.
    fn is_copy(&mut self, index: usize, now: Instant) -> bool {
        let Some(tail) = self.tails.get(index).filter(|tail| tail.may_be_copy) else {
            return false;
        };
        let Some(file) = &tail.file else { return false };
        let is_original =
            |other: &&Tail| other.gone.is_none() && is_rotated(&tail.path, &other.path);
        // While nothing was read of it, that is the same as what follows.
        let begins = |other: &Tail| {
            let other =
                other.file.as_ref().filter(|_| other.is_due && other.cursor.position() == 0);
            other.is_some_and(|other| begins_with(other, file))
        };
        let is_first = self.tails.iter().filter(is_original).any(begins);
        let places = self.tails.iter().filter(is_original).map(|other| other.cursor.place());
        let place = places.rev().find(|place| place.is_start_of(file));
        // One that is not whole after a while is another file that begins the same.
        let place = place.filter(|_| now < tail.read + GONE_WAIT);
        let size = file.metadata().map_or(0, |found| found.len());
        let Some(tail) = self.tails.get_mut(index) else { return false };
        let Some(place) = place else {
            (tail.may_be_copy, tail.is_due) = (is_first, !is_first);
            return is_first;
        };
        tail.is_due = false;
        if place.offset() <= size && place.offset() > tail.cursor.position() {
            tail.cursor = Cursor::at(place, self.options.splitter());
            self.positions.begin(tail.id, &tail.path, tail.cursor.position(), tail.cursor.head());
        }
        true
    }

    /// Reads the rest of a copy of the file `index` before that file.
    fn read_copy(
        &mut self,
        index: usize,
        (path, copy): (PathBuf, Id),
        place: ResumePoint,
        now: Instant,
    ) {
        let known = self.tails.iter().position(|tail| tail.id == copy);
        let mut tail = match known {
            Some(known) => self.tails.remove(known),
            None => {
                let cursor = Cursor::new(0, Vec::new(), self.options.splitter());
                Tail { gone: now.checked_sub(GONE_WAIT), ..Tail::new(copy, path, cursor, now) }
            }
        };
        let index = known.map_or(index, |known| known.min(index));
        tail.cursor = Cursor::at(place, self.options.splitter());
        (tail.is_due, tail.may_be_copy) = (true, false);
        self.positions.begin(copy, &tail.path, tail.cursor.position(), tail.cursor.head());
        self.tails.insert(index, tail);
    }

    /// Begins to follow a file.
    fn add(&mut self, id: Id, path: PathBuf, metadata: &Metadata, now: Instant) {
        let file = match opened(&path, id) {
            Ok(Some(file)) => file,
            Ok(None) => return,
            Err(error) => return self.problem(&path, &error.to_string()),
        };
        let at = |saved: &SavedFile| {
            let is_here = saved.device == id.device || saved.path == path;
            is_here && saved.inode == id.inode && metadata.len() >= saved.offset.max(saved.head)
        };
        let same = self.saved.iter().find(|saved| at(saved));
        let same = same.and_then(|saved| {
            let head = head(&file, saved.head).ok()?;
            saved.begins_with(&head).then_some((saved.offset, head))
        });
        let (offset, head) = match same {
            Some(same) => same,
            None if self.is_new && self.options.from == From::End => {
                let offset = last_line_end(&file, metadata.len());
                (offset, head(&file, offset).unwrap_or_default())
            }
            None => (0, Vec::new()),
        };
        self.positions.begin(id, &path, offset, &head);
        let cursor = Cursor::new(offset, head, self.options.splitter());
        let mut tail = Tail::new(id, path, cursor, now);
        tail.may_be_copy = offset == 0;
        let open = self.tails.iter().filter(|tail| tail.file.is_some()).count();
        tail.file = (open < OPEN_MAX).then_some(file);
        // A name of an older file has older lines than the newest file.
        let is_newer = |other: &Tail| other.gone.is_none() && is_rotated(&tail.path, &other.path);
        let index = self.tails.iter().position(is_newer).unwrap_or(self.tails.len());
        self.tails.insert(index, tail);
    }

    /// Finds the files of the last run that were renamed while the agent did not run.
    fn find_moved(&mut self, there: &BTreeSet<Id>, now: Instant) {
        for saved in std::mem::take(&mut self.saved) {
            let id = Id { device: saved.device, inode: saved.inode };
            let is_there = there.iter().any(|there| there.inode == id.inode);
            let path = if is_there { None } else { moved_to(&saved.path, saved.inode) };
            if let Some(path) = path
                && let Ok(metadata) = std::fs::metadata(&path)
                && let Ok(file) = open(&path)
                && let Ok(head) = head(&file, saved.head)
                && saved.begins_with(&head)
                && metadata.len() > saved.offset
            {
                let id = Id::of(&metadata);
                self.positions.begin(id, &path, saved.offset, &head);
                let cursor = Cursor::new(saved.offset, head, self.options.splitter());
                let mut tail = Tail::new(id, path, cursor, now);
                tail.gone = Some(now);
                self.tails.push(tail);
            }
            self.saved.push(saved);
        }
        // The new file of the same path comes after them.
        sort::by_key(&mut self.tails, |tail| tail.gone.is_none());
    }

    /// Logs what keeps a file from being read, once.
    fn problem(&mut self, path: &Path, why: &str) {
        if self.problems.len() < PROBLEMS_MAX && self.problems.insert(path.to_owned()) {
            tracing::warn!(file = ?path, why, "a file cannot be read; it is tried again");
        }
    }
}

impl Tail {
    fn new(id: Id, path: PathBuf, cursor: Cursor, now: Instant) -> Self {
        let (is_due, is_finished, may_be_copy) = (true, false, false);
        let (file, gone) = (None, None);
        let log = path.clone();
        Self { id, path, log, cursor, file, gone, is_due, is_finished, may_be_copy, read: now }
    }

    /// Whether the open file has changed since its end was met. One that is not open may have.
    fn has_changed(&self) -> bool {
        let metadata = self.file.as_ref().map(File::metadata);
        metadata.is_none_or(|found| found.is_ok_and(|found| self.cursor.may_have_more(&found)))
    }
}

/// The file at `path`, if it still is this one.
fn opened(path: &Path, id: Id) -> io::Result<Option<File>> {
    match open(path) {
        Ok(file) => Ok(file
            .metadata()
            .is_ok_and(|found| Id::of(&found) == id && found.is_file())
            .then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether two paths are of one log, of which one or both are rotated: `app.log`, `app.log.1`, `app.log-20260101`.
fn is_same_log(one: &Path, other: &Path) -> bool {
    let (Some(one_name), Some(other_name)) = (one.file_name(), other.file_name()) else {
        return false;
    };
    let (one_log, other_log) = (log_name(one_name), log_name(other_name));
    let is_longer = one_log.starts_with(other_log) || other_log.starts_with(one_log);
    is_longer && one.parent() == other.parent()
}

/// Whether `path` is that of an older file of the log whose newest is at `newest`.
fn is_rotated(path: &Path, newest: &Path) -> bool {
    path.as_os_str().len() > newest.as_os_str().len() && is_same_log(path, newest)
}

/// The name of a file without what a rotation adds.
fn log_name(name: &OsStr) -> &[u8] {
    let name = name.as_bytes();
    let end = name.iter().rposition(|byte| !(byte.is_ascii_digit() || b".-_".contains(byte)));
    name.get(..=end.unwrap_or(name.len())).unwrap_or(name)
}

/// Whether a file begins with what another one begins with.
fn begins_with(file: &File, other: &File) -> bool {
    let found = head(other, HEAD_MAX as u64).unwrap_or_default();
    !found.is_empty() && head(file, found.len() as u64).is_ok_and(|head| head == found)
}

/// The newest copy of a file that was truncated, in its folder.
fn copied(path: &Path, id: Id, place: &ResumePoint) -> Option<(PathBuf, Id)> {
    let folder = path.parent().filter(|_| place.is_known())?;
    let paths = entries(folder).take(NAMES_MAX).map(|(name, _)| folder.join(name));
    let copies = paths.filter(|other| is_rotated(other, path)).filter_map(|other| {
        let file = open(&other).ok()?;
        let found = file.metadata().ok().filter(|found| found.is_file() && Id::of(found) != id)?;
        let is_copy = place.is_start_of(&file) && place.is_before(&found);
        is_copy.then(|| ((found.mtime(), found.mtime_nsec()), (other, Id::of(&found))))
    });
    copies.max_by_key(|(changed, _)| *changed).map(|(_, copy)| copy)
}

/// Another name of an inode in the folder of `path`.
fn moved_to(path: &Path, inode: u64) -> Option<PathBuf> {
    let folder = path.parent()?;
    entries(folder).take(NAMES_MAX).map(|(name, _)| folder.join(name)).find(|path| {
        let found = std::fs::symlink_metadata(path);
        found.is_ok_and(|found| found.is_file() && found.ino() == inode)
    })
}

/// The end of the last whole line of a file of this size, as far as a mebibyte before its end.
fn last_line_end(file: &File, size: u64) -> u64 {
    let mut end = size;
    while end > 0 && size - end < 1 << 20 {
        let start = end.saturating_sub(64 * 1024);
        let mut piece = vec![0; usize::try_from(end - start).unwrap_or_default()];
        match rustix::io::pread(file, &mut piece, start) {
            Ok(read) if read == piece.len() => {}
            _ => return size,
        }
        if let Some(newline) = memchr::memrchr(b'\n', &piece) {
            return start + newline as u64 + 1;
        }
        end = start;
    }
    if end == 0 { 0 } else { size }
}
