//! The agent's state folder: created and checked in one place, and held by descriptor, so that every file in it is opened in
//! the folder that was checked.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::trust::{CheckedPath, Link, Untrusted, check_parent_of_new, foreign, quoted, walk};
use super::{folder_of, make_private, open_in};
use crate::sync::IgnorePoison;

/// Prefixes of the names of the agent's files in its state folder.
const STATE_NAMES: [&str; 7] =
    ["audit", "control", "positions", "requests", "runs", "scripts", "spool"];

/// Whether a file of this name, in a state folder, is one of the agent's own: `spool.new`, `audit.jsonl.3`.
pub(crate) fn is_state_name(name: &str) -> bool {
    let word = name.split(['.', '-']).next().unwrap_or_default();
    STATE_NAMES.contains(&word)
}

/// The state folder. Cheap to clone; all clones share one descriptor. All methods block.
///
/// # Guarantees
/// - It is created if missing, with mode 0700 whatever the umask; so are missing folders above it.
/// - It is refused with an `Untrusted` if it belongs to another user, others can write to it, it is a symbolic link or not
///   a folder, or a folder above it is not trusted. Others may read it: its files have mode 0600.
/// - A file in it is opened only if it is a regular file of the agent's user, with one hard link; it gets mode 0600.
/// - If it is removed or moved while the agent runs, it is created again.
///
/// Nothing happens before its first use.
#[derive(Debug, Clone)]
pub struct StateFolder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    held: Mutex<Option<Arc<OwnedFd>>>,
}

impl From<&Path> for StateFolder {
    fn from(path: &Path) -> Self {
        Self::at(path)
    }
}

impl From<&PathBuf> for StateFolder {
    fn from(path: &PathBuf) -> Self {
        Self::at(path)
    }
}

impl From<&Self> for StateFolder {
    fn from(folder: &Self) -> Self {
        folder.clone()
    }
}

impl StateFolder {
    /// The folder at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { path: path.into(), held: Mutex::default() }))
    }

    /// Its path, as given.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A folder in it, with the same guarantees.
    pub fn within(&self, name: &str) -> Self {
        Self::at(self.path().join(name))
    }

    /// Its descriptor; creates the folder if it is missing.
    ///
    /// # Errors
    /// It cannot be created or opened, or is refused.
    pub fn open(&self) -> io::Result<Arc<OwnedFd>> {
        let mut held = self.0.held.lock().ignore_poison();
        if let Some(fd) = held.as_ref().filter(|fd| is_at(self.path(), fd)) {
            return Ok(Arc::clone(fd));
        }
        *held = None;
        let fd = Arc::new(open_or_create(self.path())?);
        *held = Some(Arc::clone(&fd));
        Ok(fd)
    }

    /// Another descriptor of it, with locks of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_again(&self) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&*self.open()?, ".", AS_FOLDER, Mode::empty())?)
    }

    /// Whether [`open`](Self::open) would accept or create it. Changes nothing, and does not find errors of the disk or missing
    /// permissions.
    ///
    /// # Errors
    /// The reason for a refusal, and its remedy.
    pub fn check(&self) -> Result<(), Untrusted> {
        let path = self.path();
        let refusal =
            |error: &io::Error| Untrusted::of(error).cloned().or_else(|| no_folder(path, error));
        match checked_folder(path) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                for above in path.ancestors().skip(1) {
                    match walk(above, Link::Follow) {
                        Ok(found) => {
                            let checked = check_parent_of_new(&found);
                            return checked.or_else(|error| refusal(&error).map_or(Ok(()), Err));
                        }
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return refusal(&error).map_or(Ok(()), Err),
                    }
                }
                Ok(())
            }
            Err(error) => refusal(&error).map_or(Ok(()), Err),
        }
    }

    /// The command that hides its listing from others, if they can list it.
    pub fn listing_remedy(&self) -> Option<String> {
        let found = checked_folder(self.path()).ok()?;
        let others = Mode::from_raw_mode(found.stat.st_mode) & (Mode::RWXG | Mode::RWXO);
        (!others.is_empty()).then(|| chmod(&found.path()))
    }

    /// Opens a file in it; `how` has the mode, and whether to create it.
    ///
    /// # Errors
    /// It cannot be opened, or is not the agent's own.
    pub fn open_file(&self, name: &str, how: OFlags) -> io::Result<File> {
        let file = open_in(self.open()?, name, how)?;
        make_private(&file, &file.metadata()?)?;
        Ok(file)
    }

    /// Whether `name` in it is still this file.
    pub fn names(&self, name: &str, file: &File) -> bool {
        let named = self
            .open()
            .and_then(|folder| Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?));
        let open = rustix::fs::fstat(file);
        matches!((named, open), (Ok(named), Ok(open)) if is_same(&named, &open))
    }

    /// Renames a file, replacing any other of that name.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let folder = self.open()?;
        Ok(rustix::fs::renameat(&folder, from, &folder, to)?)
    }

    /// Removes a file. `false`: there was none.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match rustix::fs::unlinkat(self.open()?, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file, or a folder with its content; follows no link. `false`: there was none.
    ///
    /// # Errors
    /// As unlink(2); ELOOP for folders nested deeper than the agent ever nests them.
    pub fn remove_tree(&self, name: &str) -> io::Result<bool> {
        remove_tree(&*self.open()?, name.as_ref(), DEPTH_MAX)
    }

    /// Removes its content, except for the file `keep`.
    ///
    /// # Errors
    /// As [`remove_tree`](Self::remove_tree), naming the file that could not be removed.
    pub fn empty(&self, keep: &str) -> Result<(), (PathBuf, io::Error)> {
        let folder = self.open().map_err(|error| (self.path().to_owned(), error))?;
        let names = names_in(&folder).map_err(|error| (self.path().to_owned(), error))?;
        for name in names.iter().filter(|name| *name != keep) {
            let removed = remove_tree(&folder, name, DEPTH_MAX);
            removed.map_err(|error| (self.path().join(name), error))?;
        }
        Ok(())
    }

    /// Waits until the names in it are on the disk.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(self.open()?)?)
    }
}

/// The deepest nesting of folders.
const DEPTH_MAX: u32 = 16;

fn names_in(folder: impl AsFd) -> io::Result<Vec<OsString>> {
    let is_real = |name: &OsString| name != "." && name != "..";
    let entries = Dir::read_from(folder)?;
    let names = entries.map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())));
    names.filter(|name| name.as_ref().map_or(true, is_real)).collect()
}

fn remove_tree(folder: &OwnedFd, name: &OsStr, depth: u32) -> io::Result<bool> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR) if depth > 0 => {}
        Err(Errno::ISDIR) => return Err(Errno::LOOP.into()),
        Err(error) => return Err(error.into()),
    }
    let below = rustix::fs::openat(folder, name, AS_FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    for name in names_in(&below)? {
        remove_tree(&below, &name, depth - 1)?;
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
    Ok(true)
}

const AS_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

fn is_at(path: &Path, fd: &OwnedFd) -> bool {
    let named = rustix::fs::lstat(path);
    let open = rustix::fs::fstat(fd);
    matches!((named, open), (Ok(named), Ok(open)) if is_same(&named, &open) && open.st_nlink > 0)
}

/// Checks the folder at `path` as a state folder.
fn checked_folder(path: &Path) -> io::Result<CheckedPath> {
    let found = walk(path, Link::Refuse)?;
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::Directory {
        return Err(Errno::NOTDIR.into());
    }
    check_own(&found.stat, &found.path())?;
    Ok(found)
}

/// Whether this is the agent's own folder, and no other user can write to it.
fn check_own(stat: &Stat, path: &Path) -> Result<(), Untrusted> {
    if stat.st_uid != geteuid().as_raw() {
        return Err(foreign(stat.st_uid, path));
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    match mode.intersects(Mode::WGRP | Mode::WOTH) {
        true => Err(Untrusted {
            path: path.to_owned(),
            why: format!("has mode {:04o}, so others can change what is in it", mode.bits()),
            remedy: chmod(path),
            is_foreign: false,
        }),
        false => Ok(()),
    }
}

/// The reason why there can be no folder at a path, even if it is created.
fn no_folder(path: &Path, error: &io::Error) -> Option<Untrusted> {
    let why = match Errno::from_io_error(error)? {
        Errno::NOTDIR => "is not a folder, or leads through something that is not",
        Errno::NAMETOOLONG => "is too long",
        Errno::LOOP => "leads through too many links",
        _ => return None,
    };
    let remedy = "--state DIR".to_owned();
    Some(Untrusted { path: path.to_owned(), why: why.to_owned(), remedy, is_foreign: false })
}

fn chmod(path: &Path) -> String {
    format!("chmod 0700 {}", quoted(path))
}

/// An existing folder, with the guarantees of [`StateFolder`].
fn open_own(path: &Path) -> io::Result<OwnedFd> {
    let found = checked_folder(path)?;
    let fd = found.open(AS_FOLDER)?;
    check_own(&rustix::fs::fstat(&fd)?, &found.path())?;
    Ok(fd)
}

/// Opens the folder, and creates it and those above it if missing.
fn open_or_create(path: &Path) -> io::Result<OwnedFd> {
    match open_own(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let path = std::path::absolute(path)?;
    let above = folder_of(&path);
    let place = match walk(&above, Link::Follow) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => open_or_create(&above)?,
        found => {
            let found = found?;
            check_parent_of_new(&found)?;
            found.open(AS_FOLDER)?
        }
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    match rustix::fs::mkdirat(&place, name, Mode::RWXU) {
        Ok(()) => {
            // The umask may have removed the permission to open it.
            rustix::fs::chmodat(&place, name, Mode::RWXU, AtFlags::empty())?;
            let fd = rustix::fs::openat(&place, name, AS_FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
            check_own(&rustix::fs::fstat(&fd)?, &path)?;
            Ok(fd)
        }
        Err(Errno::EXIST) => open_own(&path),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
