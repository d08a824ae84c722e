//! Who can change the file that a path names: every folder and link of the path is checked, as sudo and sshd do.
//!
//! # The rule
//! A file or folder is trusted if it belongs to root or to the agent's user, and no other user can write to it. A group
//! may write if it is root's (0) or the user's private one, which has the user's own number, and there is no access control
//! list: the group's bits are then the most that any user or group named in the list may do (acl(5)). Each folder of the
//! path has to be trusted, too: a user who can write to it can replace the file. In a folder with the sticky bit (`/tmp`)
//! no user can rename or remove files of another (inode(7)), so files of root and of the agent's user are safe there.
//!
//! # Links
//! The path is walked one component at a time by descriptor, so the file that is checked is the file that is opened. A
//! symbolic link is followed by its text: the folder it lies in is checked, and so is each folder that it leads through
//! (Kubernetes mounts files behind `..data`). `openat2(RESOLVE_NO_SYMLINKS)` would refuse those, needs Linux 5.6, and for
//! one component does what `O_NOFOLLOW` does.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// Links that are followed in one path, as many as the kernel follows (`MAXSYMLINKS` of linux/namei.h).
const LINKS_MAX: usize = 40;

/// Another user can change the file, or it is of the wrong kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// The file or folder, which may be a part of the path.
    pub path: PathBuf,
    /// The reason, beginning with a verb.
    pub why: String,
    /// The command or argument that repairs it.
    pub remedy: String,
    /// It belongs to another user.
    pub is_foreign: bool,
}

impl Untrusted {
    /// The `Untrusted` in an error of this module or of the state folder, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, why, remedy, .. } = self;
        write!(f, "{} {why}; mend it with `{remedy}`", quoted(path))
    }
}

impl std::error::Error for Untrusted {}

impl From<Untrusted> for io::Error {
    fn from(untrusted: Untrusted) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, untrusted)
    }
}

/// Opens a file for reading that no other user can have changed.
///
/// # Errors
/// It cannot be opened; or an [`Untrusted`], which [`Untrusted::of`] finds.
pub(crate) fn open_trusted(path: &Path) -> io::Result<File> {
    let (file, real) = opened(path)?;
    check(&file, &real)?;
    Ok(file)
}

/// As [`open_trusted`], for a caller that checks the file itself.
pub(crate) fn open_guarded(path: &Path) -> io::Result<File> {
    opened(path).map(|(file, _)| file)
}

fn opened(path: &Path) -> io::Result<(File, PathBuf)> {
    let found = walk(path, Link::Follow)?;
    let file = found.open(OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    Ok((file.into(), found.path()))
}

/// How to treat a link at the end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Follow,
    Refuse,
}

/// The file or folder at the end of a path.
#[derive(Debug)]
pub(super) struct CheckedPath {
    folder: OwnedFd,
    /// Its path, without links.
    above: PathBuf,
    name: OsString,
    /// Its metadata when it was checked.
    pub stat: Stat,
}

impl CheckedPath {
    /// Its path, without links.
    pub(super) fn path(&self) -> PathBuf {
        match self.name.as_os_str() {
            name if name == "." => self.above.clone(),
            name => self.above.join(name),
        }
    }

    /// Opens it; does not follow it if it has become a link meanwhile.
    pub(super) fn open(&self, how: OFlags) -> io::Result<OwnedFd> {
        let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?)
    }
}

/// Walks `path` and checks every folder of it; not the file at its end.
pub(super) fn walk(path: &Path, last: Link) -> io::Result<CheckedPath> {
    let path = std::path::absolute(path)?;
    let mut rest: VecDeque<OsString> = components(&path).collect();
    let mut here = root()?;
    let mut links = 0;
    loop {
        let Some(name) = rest.pop_front() else {
            let stat = rustix::fs::fstat(&here.0)?;
            return Ok(CheckedPath { folder: here.0, above: here.1, name: ".".into(), stat });
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&here.0, &name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if name == ".." {
            here.1.pop();
            here.0 = fd;
            continue;
        }
        check_parent(&here.0, &here.1, &stat, &name)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink if rest.is_empty() && last == Link::Refuse => {
                return Err(is_link(&here.1.join(&name), &fd)?.into());
            }
            FileType::Symlink => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP.into());
                }
                let target = read_link(&fd)?;
                if target.is_absolute() {
                    here = root()?;
                }
                for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(name);
                }
            }
            _ if rest.is_empty() => {
                return Ok(CheckedPath { folder: here.0, above: here.1, name, stat });
            }
            _ => {
                here.1.push(&name);
                here.0 = fd; // where it is no folder, the next name is not found in it (ENOTDIR)
            }
        }
    }
}

fn root() -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::open("/", flags, Mode::empty())?, "/".into()))
}

fn components(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn read_link(link: &OwnedFd) -> io::Result<PathBuf> {
    let target = rustix::fs::readlinkat(link, "", Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

fn is_link(path: &Path, link: &OwnedFd) -> io::Result<Untrusted> {
    let target = path.parent().unwrap_or(path).join(read_link(link)?);
    Ok(Untrusted {
        path: path.to_owned(),
        why: "is a symbolic link, and the folder itself has to be named".to_owned(),
        remedy: format!("--state {}", quoted(&target)),
        is_foreign: false,
    })
}

/// Whether no other user can change this file, or the names in this folder.
fn check(file: impl AsFd, path: &Path) -> io::Result<()> {
    let stat = rustix::fs::fstat(&file)?;
    is_ours(&stat, path)?;
    match others_write(&stat, file.as_fd()) {
        Some(how) => Err(writable(&stat, how, path).into()),
        None => Ok(()),
    }
}

/// Whether another user can create or remove files in this folder.
pub(crate) fn is_shared(folder: &OwnedFd) -> io::Result<bool> {
    match check(folder, Path::new(".")) {
        Err(error) if Untrusted::of(&error).is_none() => Err(error),
        checked => Ok(checked.is_err()),
    }
}

/// Whether no other user can replace `child`, which is `name` in `folder`.
fn check_parent(folder: &OwnedFd, path: &Path, child: &Stat, name: &OsStr) -> io::Result<()> {
    let stat = rustix::fs::fstat(folder)?;
    is_ours(&stat, path)?;
    let Some(how) = others_write(&stat, folder.as_fd()) else { return Ok(()) };
    match Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX) {
        true => Ok(is_ours(child, &path.join(name))?),
        false => Err(writable(&stat, how, path).into()),
    }
}

/// Whether a new file of the agent is safe in this folder.
pub(super) fn check_parent_of_new(folder: &CheckedPath) -> io::Result<()> {
    let (stat, path) = (&folder.stat, folder.path());
    is_ours(stat, &path)?;
    if Mode::from_raw_mode(stat.st_mode).contains(Mode::SVTX) {
        return Ok(());
    }
    let opened = folder.open(OFlags::PATH)?;
    match others_write(stat, opened.as_fd()) {
        Some(how) => Err(writable(stat, how, &path).into()),
        None => Ok(()),
    }
}

fn is_ours(stat: &Stat, path: &Path) -> Result<(), Untrusted> {
    match stat.st_uid {
        0 => Ok(()),
        uid if uid == geteuid().as_raw() => Ok(()),
        uid => Err(foreign(uid, path)),
    }
}

/// The permission by which others can write to `at`, if any.
fn others_write(stat: &Stat, at: BorrowedFd<'_>) -> Option<&'static str> {
    let mode = Mode::from_raw_mode(stat.st_mode);
    let is_private = stat.st_gid == 0 || stat.st_gid == geteuid().as_raw();
    if mode.contains(Mode::WOTH) || mode.contains(Mode::WGRP) && !is_private {
        return Some("");
    }
    (mode.contains(Mode::WGRP) && has_list(at)).then_some(" and an access control list")
}

/// Whether it has an access control list; true if that cannot be determined.
fn has_list(at: BorrowedFd<'_>) -> bool {
    // fgetxattr(2) refuses a descriptor opened with O_PATH.
    let path = format!("/proc/self/fd/{}", at.as_raw_fd());
    let size = rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0][..]);
    !matches!(size, Err(Errno::NODATA | Errno::NOTSUP))
}

/// The fault of a file that belongs to another user.
pub(crate) fn foreign(uid: u32, path: &Path) -> Untrusted {
    let us = match geteuid() {
        us if us.is_root() => "root".to_owned(),
        us => us.as_raw().to_string(),
    };
    Untrusted {
        path: path.to_owned(),
        why: format!("belongs to user {uid}, not to {us}"),
        remedy: format!("chown {us}: {}", quoted(path)),
        is_foreign: true,
    }
}

/// The fault of a file that should be private, and has this mode.
pub(crate) fn readable(mode: u32, path: &Path) -> Untrusted {
    Untrusted {
        path: path.to_owned(),
        why: format!("has mode {:04o}, so others can read or change it", mode & 0o7777),
        remedy: format!("chmod 600 {}", quoted(path)),
        is_foreign: false,
    }
}

fn writable(stat: &Stat, how: &str, path: &Path) -> Untrusted {
    let mode = stat.st_mode & 0o7777;
    Untrusted {
        path: path.to_owned(),
        why: format!("has mode {mode:04o}{how}, so others can change it"),
        remedy: format!("chmod go-w {}", quoted(path)),
        is_foreign: false,
    }
}

/// A path quoted for a shell, on one line.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.into_owned(),
        false => {
            let clean: String =
                text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            format!("'{}'", clean.replace('\'', r"'\''"))
        }
    }
}
