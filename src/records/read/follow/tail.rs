//! One file that is followed: where it is read, and how a truncation or another file of the same inode is noticed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, SeekFrom};

use super::super::split::{Lines, Splitter};

/// Bytes of one read.
const PIECE: usize = 256 * 1024;

/// The most bytes at the start of a file that tell it from another one.
pub(super) const HEAD_MAX: usize = 256;

/// A file, as the kernel knows it while it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    pub device: u64,
    pub inode: u64,
}

impl Id {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// Opens a regular file to read it; waits for nothing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let how = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, how, Mode::empty())?.into())
}

/// The first bytes of a file, at most `most` and [`HEAD_MAX`].
pub(super) fn head(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let most = usize::try_from(most).unwrap_or(HEAD_MAX).min(HEAD_MAX);
    let mut head = Vec::with_capacity(most);
    while head.len() < most {
        let at = head.len() as u64;
        let mut piece = Vec::with_capacity(most - head.len());
        if rustix::io::pread(file, spare_capacity(&mut piece), at)? == 0 {
            break;
        }
        head.append(&mut piece);
    }
    Ok(head)
}

/// A place in a file, known by what is before it.
#[derive(Debug, Clone, Default)]
pub(super) struct ResumePoint {
    offset: u64,
    /// The first bytes of the file, as they were read.
    head: Vec<u8>,
    /// The bytes before the offset.
    recent: Vec<u8>,
    /// When the file had been changed, as far as it was read.
    changed: Option<(i64, i64)>,
}

impl ResumePoint {
    /// Whether enough was read to know the place again.
    pub(super) fn is_known(&self) -> bool {
        !self.recent.is_empty()
    }

    /// How much is before it.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a copy that was made after the place was reached has more.
    pub(super) fn is_before(&self, copy: &std::fs::Metadata) -> bool {
        self.offset < copy.len() && self.changed <= Some((copy.mtime(), copy.mtime_nsec()))
    }

    /// Whether `file` has the same content up to this place; one that is shorter, whether it has as far as it goes.
    pub(super) fn is_start_of(&self, file: &File) -> bool {
        let Ok(size) = file.metadata().map(|found| found.len()) else { return false };
        let (Ok(found), true) = (head(file, self.head.len() as u64), self.is_known() && size > 0)
        else {
            return false;
        };
        if size < self.offset {
            return self.head.starts_with(&found);
        }
        let mut recent = vec![0; self.recent.len()];
        let at = self.offset.saturating_sub(self.recent.len() as u64);
        let read = rustix::io::pread(file, &mut recent, at);
        found == self.head && read.is_ok() && recent == self.recent
    }
}

/// Where a file is read. It keeps no part of a line: what has begun is read again when its end has come.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Where the next read begins.
    offset: u64,
    /// The end of the last whole line, where a reader that starts anew has to go on.
    whole: u64,
    /// The first bytes, as they were read.
    head: Vec<u8>,
    /// The bytes before `whole`, at most [`HEAD_MAX`].
    recent: Vec<u8>,
    /// Size and time of change when the end was met; the same again means that nothing has come.
    seen: Option<(u64, i64, i64)>,
    splitter: Splitter,
}

/// What a read has found.
#[derive(Debug)]
pub(super) enum TailRead {
    /// Lines, or lines that are too long.
    Lines(Lines),
    /// No whole line, for now.
    End,
    /// The file is shorter than it was, or another: what it had without a newline at its end is lost with it, and it is read
    /// from its start. Before it was at this place.
    Truncated(ResumePoint),
}

impl Cursor {
    /// At `offset` of a file that begins with `head`.
    pub(super) fn new(offset: u64, head: Vec<u8>, splitter: Splitter) -> Self {
        Self::at(ResumePoint { offset, head, ..ResumePoint::default() }, splitter)
    }

    /// At a place.
    pub(super) fn at(
        ResumePoint { offset, head, recent, .. }: ResumePoint,
        splitter: Splitter,
    ) -> Self {
        Self { offset, whole: offset, head, recent, seen: None, splitter }
    }

    /// Where it is.
    pub(super) fn place(&self) -> ResumePoint {
        let (head, recent) = (self.head.clone(), self.recent.clone());
        let changed = self.seen.map(|(_, seconds, nanos)| (seconds, nanos));
        ResumePoint { offset: self.whole, head, recent, changed }
    }

    /// The end of the last whole line that was read.
    pub(super) fn position(&self) -> u64 {
        self.whole
    }

    /// The first bytes of the file.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Whether a file of this size and time of change may have something new.
    pub(super) fn may_have_more(&self, metadata: &std::fs::Metadata) -> bool {
        self.seen != Some(change(metadata))
    }

    /// Reads on. With `to_the_end`, the last line needs no newline.
    pub(super) fn read(&mut self, file: &File, to_the_end: bool) -> io::Result<TailRead> {
        let metadata = file.metadata()?;
        let is_shorter = metadata.len() < self.offset.max(self.head.len() as u64);
        if is_shorter || head(file, self.head.len() as u64)? != self.head {
            let start = data_start(file);
            let splitter = self.splitter.anew();
            let before = std::mem::replace(self, Self::new(start, head(file, start)?, splitter));
            return Ok(TailRead::Truncated(before.place()));
        }
        if self.recent.is_empty() && self.whole > 0 {
            let mut recent = vec![0; usize::try_from(self.whole).unwrap_or(HEAD_MAX).min(HEAD_MAX)];
            let at = self.whole - recent.len() as u64;
            let read = rustix::io::pread(file, &mut recent, at)?;
            recent.truncate(read);
            self.recent = recent;
        }
        let (start, mut lines) = (self.offset, Lines::default());
        while lines.ends.is_empty() && lines.too_long == 0 {
            let left = metadata.len().saturating_sub(self.offset) + 1; // and one to see the end
            let mut buffer =
                self.splitter.buffer(usize::try_from(left).unwrap_or(PIECE).min(PIECE));
            let begun = buffer.len();
            let read = match rustix::io::pread(file, spare_capacity(&mut buffer), self.offset) {
                Err(error) => {
                    (self.offset, _) = (start, self.splitter.forget());
                    return Err(error.into());
                }
                Ok(read) => read as u64,
            };
            let is_end = read == 0;
            self.learn_head(&buffer[begun..]);
            if let Some(newline) = memchr::memrchr(b'\n', &buffer[begun..]) {
                if self.whole + begun as u64 != self.offset {
                    self.recent.clear(); // a line that is too long lies between
                }
                self.whole = self.offset + newline as u64 + 1;
                let lines = &buffer[..=begun + newline];
                self.recent.extend_from_slice(&lines[lines.len().saturating_sub(HEAD_MAX)..]);
                self.recent.drain(..self.recent.len().saturating_sub(HEAD_MAX));
            }
            self.offset += read;
            if is_end && to_the_end {
                self.whole = self.offset;
            }
            lines = self.splitter.split(buffer, is_end && to_the_end);
            if is_end {
                self.seen = Some(change(&metadata));
                break;
            }
        }
        self.offset -= self.splitter.forget() as u64;
        match lines.ends.is_empty() && lines.too_long == 0 {
            true => Ok(TailRead::End),
            false => Ok(TailRead::Lines(lines)),
        }
    }

    /// Keeps what belongs to the head of the file, of what was read at the offset.
    fn learn_head(&mut self, read: &[u8]) {
        let known = self.head.len();
        let at = known.checked_sub(usize::try_from(self.offset).unwrap_or(usize::MAX));
        if let Some(new) = at.and_then(|at| read.get(at..)) {
            self.head.extend(new.iter().take(HEAD_MAX - known));
        }
    }
}

fn change(metadata: &std::fs::Metadata) -> (u64, i64, i64) {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

/// Where the content begins: a writer that goes on at its old place after a truncation leaves a hole, which reads as zeros.
fn data_start(file: &File) -> u64 {
    let Ok(at) = rustix::fs::seek(file, SeekFrom::Data(0)) else { return 0 };
    // Holes consist of whole pages, of 64 KiB at most.
    let mut page = Vec::with_capacity(64 * 1024);
    let read = rustix::io::pread(file, spare_capacity(&mut page), at);
    let zeros = page.iter().take_while(|byte| **byte == 0).count();
    if read.is_ok() { at + zeros as u64 } else { at }
}
