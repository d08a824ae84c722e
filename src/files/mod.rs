//! Files and folders that no other user can change: the trust in a path, checked component by component, the agent's
//! state folder, and files opened relative to a folder's descriptor. And what the files of the system say of this machine: its
//! accounts and its identity.

pub(crate) mod accounts;
pub(crate) mod identity;
mod trust;
mod state;
mod replace;

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

pub(crate) use replace::{create, replace};
pub use state::StateFolder;
pub(crate) use state::is_state_name;
pub(crate) use trust::{Untrusted, open_trusted};
pub(crate) use trust::{foreign, is_shared, open_guarded, readable};

/// Opens the regular file `name` in `folder`, and creates it with mode 0600 if `how` has the flag. Follows no link, does not
/// wait for the other end of a pipe, and takes no controlling terminal. `name` is one component.
///
/// # Errors
/// It cannot be opened, is a symbolic link, or is not a regular file.
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

/// Sets the mode of a file to 0600, or refuses it as [`is_own`] does.
pub(crate) fn make_private(file: &fs::File, metadata: &fs::Metadata) -> io::Result<()> {
    is_own(metadata)?;
    match metadata.mode() & 0o7777 {
        0o600 => Ok(()),
        _ => file.set_permissions(fs::Permissions::from_mode(0o600)),
    }
}

/// Refuses a file of another user, and one with several hard links.
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
