//! Deletes old files below one folder, by descriptors. Does not know which folders.
//!
//! # Why by descriptors
//! The folders belong to anybody, and the agent is root. Every folder is opened by its name in the one
//! before, with `openat2(2)` that follows no link and crosses no mount, bind mounts too; every file is
//! deleted by its name in the folder that is open. A user who swaps a folder for a link while this runs
//! gets at nothing but what is in their own folder.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat,
    unlinkat,
};
use rustix::io::Errno;

use crate::tasks::spawn_blocking;

/// How deep folders are followed.
const DEPTH_MAX: usize = 40;

/// What is never touched, by the beginning of its name: private folders of running services, and the
/// sockets' folders of X11 and its like.
const KEPT: [&[u8]; 8] = [
    b"systemd-private-",
    b"snap-private-tmp",
    b".X11-unix",
    b".ICE-unix",
    b".XIM-unix",
    b".font-unix",
    b".Test-unix",
    b".X0-lock",
];

/// What all sweeps of a command share.
#[derive(Debug)]
pub(crate) struct Rules {
    /// What ages are measured by.
    pub now: SystemTime,
    /// When it must end.
    pub until: Instant,
    /// Device and inode of what processes have open.
    pub open: HashSet<(u64, u64)>,
}

/// What came of sweeps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Bytes on disk of what was deleted.
    pub bytes: u64,
    /// Files and links that were deleted.
    pub deleted: u64,
    /// Files that are young, open, special, or could not be deleted.
    pub kept: u64,
    /// What else is to be said.
    pub note: Option<String>,
}

impl Swept {
    /// Nothing, and why.
    pub(crate) fn noted(why: impl Into<String>) -> Self {
        Self { note: Some(why.into()), ..Self::default() }
    }
}

/// Deletes what is older than `age` in the folder `below` of `base`, and folders that become empty. A
/// file's age is that of its last reading, writing or change, whichever is the latest. Blocks.
pub(crate) fn sweep(base: &Path, below: &str, age: Duration, rules: &Rules, swept: &mut Swept) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(CWD, base, flags, Mode::empty()).and_then(|base| match below {
        "" => Ok(base),
        below => folder(base.as_fd(), below),
    });
    match folder {
        Ok(folder) => sweep_open(folder, age, rules, swept, DEPTH_MAX),
        Err(Errno::NOENT) => {}
        Err(error) => {
            let path = base.join(below);
            swept.note =
                Some(format!("{} was left alone: {}", path.display(), std::io::Error::from(error)));
        }
    }
}

fn sweep_open(folder: OwnedFd, age: Duration, rules: &Rules, swept: &mut Swept, depth: usize) {
    let Ok(entries) = Dir::read_from(&folder) else {
        swept.kept += 1;
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if Instant::now() >= rules.until {
            swept.note = Some("there was no time for all of it; ask again".into());
            return;
        }
        sweep_entry(folder.as_fd(), name, age, rules, swept, depth);
    }
}

fn sweep_entry(
    within: BorrowedFd<'_>,
    name: &CStr,
    age: Duration,
    rules: &Rules,
    swept: &mut Swept,
    depth: usize,
) {
    let Ok(stat) = statat(within, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return; // gone in the meantime
    };
    let named = KEPT.iter().any(|kept| name.to_bytes().starts_with(kept));
    if named || rules.open.contains(&(stat.st_dev, stat.st_ino)) {
        swept.kept += 1;
        return;
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory if depth == 0 => swept.kept += 1,
        FileType::Directory => match folder(within, name) {
            Ok(folder) => {
                sweep_open(folder, age, rules, swept, depth - 1);
                if is_old(&stat, age, rules.now) {
                    // Fails where something is left in it, which is then counted there.
                    let _ = unlinkat(within, name, AtFlags::REMOVEDIR);
                }
            }
            Err(_) => swept.kept += 1, // a mount, or swapped for a link
        },
        FileType::RegularFile | FileType::Symlink if is_old(&stat, age, rules.now) => {
            match unlinkat(within, name, AtFlags::empty()) {
                Ok(()) => {
                    swept.deleted += 1;
                    let last = stat.st_nlink == 1;
                    swept.bytes +=
                        if last { u64::try_from(stat.st_blocks).unwrap_or(0) * 512 } else { 0 };
                }
                Err(_) => swept.kept += 1,
            }
        }
        _ => swept.kept += 1, // young, a socket, a pipe or a device
    }
}

/// The folder of this name, which is no link and no mount, and is not reached through one.
fn folder<P: rustix::path::Arg>(within: BorrowedFd<'_>, name: P) -> rustix::io::Result<OwnedFd> {
    let flags =
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(within, name, flags, Mode::empty(), resolve)
}

fn is_old(stat: &Stat, age: Duration, now: SystemTime) -> bool {
    let newest =
        [stat.st_atime, stat.st_mtime, stat.st_ctime].into_iter().max().unwrap_or_default();
    let newest = UNIX_EPOCH + Duration::from_secs(u64::try_from(newest).unwrap_or(0));
    age.is_zero() || now.duration_since(newest).is_ok_and(|since| since > age)
}

/// Device and inode of everything that a process of this machine has open, and of the folders that
/// processes are in. Blocks; about a system call per descriptor.
pub(crate) fn open_files() -> HashSet<(u64, u64)> {
    let mut open = HashSet::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return open };
    let is_number = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    for process in entries.flatten().filter(|entry| is_number(&entry.file_name())) {
        let process = process.path();
        let descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let links = descriptors.map(|entry| entry.path()).chain([process.join("cwd")]);
        open.extend(
            links.filter_map(|link| link.metadata().ok()).map(|data| (data.dev(), data.ino())),
        );
    }
    open
}

/// Files below a folder that are not empty (locks are) and their bytes on disk, counted on the blocking pool; follows no link. What
/// cannot be read, or not in time, is not counted.
pub(super) async fn size(folder: PathBuf, deadline: tokio::time::Instant) -> Swept {
    let count = spawn_blocking(move || {
        let mut all = Swept::default();
        let mut folders = vec![(folder, 0)];
        while let Some((folder, depth)) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(data) if data.is_dir() && depth < DEPTH_MAX => {
                        folders.push((entry.path(), depth + 1))
                    }
                    Ok(data) if data.is_file() && data.len() > 0 => {
                        all.deleted += 1;
                        all.bytes += data.blocks() * 512;
                    }
                    _ => {}
                }
            }
        }
        all
    });
    match tokio::time::timeout_at(deadline, count).await {
        Ok(Ok(all)) => all,
        _ => Swept::default(),
    }
}
