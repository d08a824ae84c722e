//! The file on a real disk.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::storage::Storage;
use crate::files::{StateFolder, is_own, make_private, open_in};
use crate::sinks::io_reason;

/// The names of a record file in the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// The file.
    pub name: &'static str,
    /// The replacement while it is written.
    pub beside: &'static str,
    /// The name of a file that was set aside because it cannot be used.
    pub aside: &'static str,
    /// The file that is locked while the record file is open; `None` locks the folder.
    pub lock: Option<&'static str>,
}

/// A record file in a state folder, mode 0600: it may hold the output of commands.
///
/// A symbolic link, a pipe or folder, a file of another user and one with a second name are refused. The folder is
/// created where it is missing, as [`StateFolder`] says. Its advisory lock (`flock`) is held while this value
/// lives, so that there is one writer: an agent, or a command that edits the file.
#[derive(Debug)]
pub struct File {
    /// The folder, to create it again when it is removed.
    state: StateFolder,
    names: Names,
    /// Held for its lock, if that is not the folder's.
    lock: Option<fs::File>,
    /// Opened once: for the lock, for its sync after a rename, and so that every name is looked up in the locked
    /// folder.
    folder: OwnedFd,
    file: Option<fs::File>,
    beside: Option<fs::File>,
    /// The length of the file after this writer's last write.
    end: Option<u64>,
    /// Another process removed or changed it: it must be replaced.
    is_foreign: bool,
    /// A rename in the folder is not synced.
    renamed: bool,
    exchanged: bool,
}

impl File {
    /// Takes the lock of `folder`, and opens the file if there is one.
    ///
    /// # Errors
    /// The folder cannot be made or opened, another process has the lock
    /// ([`WouldBlock`](io::ErrorKind::WouldBlock)), or the file is refused.
    pub fn open(names: Names, folder: impl Into<StateFolder>) -> io::Result<Self> {
        let state = folder.into();
        let (folder, lock) = open_and_lock(&state, names.lock)?;
        let file = match open_in(&folder, names.name, OFlags::RDWR) {
            Ok(file) => {
                make_private(&file, &file.metadata()?)?;
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (beside, end) = (None, None);
        let (is_foreign, renamed, exchanged) = (false, false, false);
        Ok(Self { state, names, lock, folder, file, beside, end, is_foreign, renamed, exchanged })
    }

    /// Opens the file read-only, without the lock. `None` where there is none.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub fn open_read_only(names: Names, folder: &Path) -> io::Result<Option<Self>> {
        let state = StateFolder::from(folder);
        let opened = open_folder(folder)
            .and_then(|folder| Ok((open_in(&folder, names.name, OFlags::RDONLY)?, folder)));
        match opened {
            Ok((file, folder)) => {
                let (file, beside) = (Some(file), None);
                let (end, is_foreign, renamed, exchanged) = (None, false, false, false);
                let lock = None;
                Ok(Some(Self {
                    state,
                    names,
                    lock,
                    folder,
                    file,
                    beside,
                    end,
                    is_foreign,
                    renamed,
                    exchanged,
                }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks that [`open`](Self::open) would accept the folder and the file, and that this user could rewrite the
    /// file; ignores the lock. Changes nothing.
    ///
    /// # Errors
    /// Why the folder or the file would be refused.
    pub fn check_usable(names: Names, folder: &Path) -> io::Result<()> {
        StateFolder::from(folder).check()?;
        let opened = match open_folder(folder) {
            // It would be created in the nearest folder above that exists.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut above = folder.ancestors().skip(1).map(|path| match path.as_os_str() {
                    name if name.is_empty() => Path::new("."),
                    _ => path,
                });
                return above
                    .find(|path| path.exists())
                    .map_or(Ok(()), |path| is_writable(&open_folder(path)?));
            }
            opened => opened?,
        };
        is_writable(&opened)?;
        match open_in(&opened, names.name, OFlags::RDWR) {
            Ok(file) => is_own(&file.metadata()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a process holds the lock of `folder` now.
    pub fn is_in_use(folder: &Path) -> bool {
        let Ok(folder) = open_folder(folder) else { return false };
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    /// Removes the file that was set aside. `false`: there was none.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_aside(&self) -> io::Result<bool> {
        match rustix::fs::unlinkat(&self.folder, self.names.aside, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn remove_beside(&mut self) -> io::Result<()> {
        self.beside = None;
        match rustix::fs::unlinkat(&self.folder, self.names.beside, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn open_file(&mut self) -> io::Result<&mut fs::File> {
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// Unlocks explicitly: a process that is being started has a copy of every descriptor for a moment, and would keep
/// the lock.
impl Drop for File {
    fn drop(&mut self) {
        let _ = match &self.lock {
            Some(lock) => rustix::fs::flock(lock, FlockOperation::Unlock),
            None => rustix::fs::flock(&self.folder, FlockOperation::Unlock),
        };
    }
}

impl Storage for File {
    fn length(&mut self) -> io::Result<u64> {
        self.file.as_ref().map_or(Ok(0), |file| Ok(file.metadata()?.len()))
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let mut read = 0;
        while read < into.len() {
            match file.read_at(&mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let expected = self.end;
        let file = self.open_file()?;
        let found = file.metadata()?;
        if found.nlink() == 0 || expected.is_some_and(|end| end != found.len()) {
            self.is_foreign = true;
            return Err(io::Error::other("another process has removed or changed the file"));
        }
        let written = append(file, bytes)?;
        self.end = Some(found.len() + written as u64);
        Ok(written)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        if self.is_foreign {
            return Err(io::Error::other("another process has removed or changed the file"));
        }
        self.open_file()?.set_len(length)?;
        self.end = Some(length);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.open_file()?.sync_data()?;
        if self.renamed {
            rustix::fs::fsync(&self.folder)?;
            self.renamed = false;
        }
        Ok(())
    }

    fn set_aside(&mut self) -> io::Result<()> {
        rustix::fs::renameat(&self.folder, self.names.name, &self.folder, self.names.aside)?;
        (self.file, self.end, self.is_foreign, self.renamed) = (None, None, false, true);
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        if rustix::fs::fstat(&self.folder)?.st_nlink == 0 {
            // The folder was removed, and no file can be created in a folder without a name.
            (self.folder, self.lock) = open_and_lock(&self.state, self.names.lock)?;
        }
        self.remove_beside()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let beside = open_in(&self.folder, self.names.beside, flags)?;
        make_private(&beside, &beside.metadata()?)?; // the umask may have taken what the next agent needs
        self.beside = Some(beside);
        Ok(())
    }

    fn append_beside(&mut self, bytes: &[u8]) -> io::Result<usize> {
        append(self.beside.as_mut().ok_or(io::ErrorKind::NotFound)?, bytes)
    }

    fn commit(&mut self) -> io::Result<()> {
        self.exchanged = false;
        self.beside.as_mut().ok_or(io::ErrorKind::NotFound)?.sync_all()?;
        rustix::fs::renameat(&self.folder, self.names.beside, &self.folder, self.names.name)?;
        self.file = self.beside.take();
        (self.end, self.is_foreign) = (None, false);
        (self.exchanged, self.renamed) = (true, true);
        rustix::fs::fsync(&self.folder)?;
        self.renamed = false;
        Ok(())
    }

    fn abandon(&mut self) {
        let is_there = self.beside.is_some();
        if let Err(error) = self.remove_beside()
            && is_there
        {
            let name = self.names.beside;
            tracing::warn!(%error, "a half-written {name} is left in the state folder");
        }
    }

    fn exchanged(&self) -> bool {
        self.exchanged
    }
}

fn append(file: &mut fs::File, bytes: &[u8]) -> io::Result<usize> {
    // The single writer knows the end, but a file that another process truncated has a different one.
    let end = file.metadata()?.len();
    file.write_at(bytes, end)
}

/// The folder, created where it is missing, and its lock, or that of the file `lock` in it.
fn open_and_lock(
    state: &StateFolder,
    lock: Option<&str>,
) -> io::Result<(OwnedFd, Option<fs::File>)> {
    let folder = state.open_again()?;
    let Some(name) = lock else {
        rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
        return Ok((folder, None));
    };
    let lock = open_in(&folder, name, OFlags::RDWR | OFlags::CREATE)?;
    make_private(&lock, &lock.metadata()?)?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok((folder, Some(lock)))
}

fn open_folder(folder: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        folder,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

fn is_writable(folder: &OwnedFd) -> io::Result<()> {
    let access = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(folder, ".", access, AtFlags::EACCESS).map_err(|error| {
        let error = io::Error::from(error);
        io::Error::new(
            error.kind(),
            format!("the folder cannot be written to: {}", io_reason(&error)),
        )
    })
}
