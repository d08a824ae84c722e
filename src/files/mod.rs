//! Files and folders that nobody else may change: whom a path belongs to on its whole way, the agent's state folder,
//! and files opened in a folder that is held. Knows nothing of what is in them.

mod state;
mod trust;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

pub use state::{StateFolder, is_state_name};
pub use trust::{Untrusted, open_trusted};
pub(crate) use trust::{is_shared, open_guarded};

/// Opens what must be a regular file under that very name in `folder`, and makes it with mode 0600 where `how` says so.
/// No link is followed, no pipe's other end waited for, no terminal taken. `name` is one component.
///
/// # Errors
/// It cannot be opened, is a symbolic link or no regular file.
pub(crate) fn open_in(folder: impl AsFd, name: impl Arg, how: OFlags) -> io::Result<fs::File> {
    let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR);
    let file = fs::File::from(file.map_err(|error| match error {
        Errno::LOOP => io::Error::other("it is a symbolic link (remove it)"),
        error => error.into(),
    })?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file (remove it)"));
    }
    Ok(file)
}

/// Takes a file for its owner alone (mode 0600), or refuses it as [`is_own`] does.
pub(crate) fn make_private(file: &fs::File, metadata: &fs::Metadata) -> io::Result<()> {
    is_own(metadata)?;
    match metadata.mode() & 0o7777 {
        0o600 => Ok(()),
        _ => file.set_permissions(fs::Permissions::from_mode(0o600)),
    }
}

/// Refuses a file of another user, and one that has another name too.
pub(crate) fn is_own(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(
            "it belongs to another user (name a file of the agent's own)",
        ));
    }
    if metadata.nlink() > 1 {
        return Err(io::Error::other("it has another name too (remove that, or name a new file)"));
    }
    Ok(())
}

/// The folder in which `path` is.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        Some(_) => ".".into(),
        None => "/".into(),
    }
}
