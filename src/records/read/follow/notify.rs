//! Waits for changes of files and folders: inotify(7), with a bounded number of watches.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::tail::Id;
use crate::sync::IgnorePoison;

/// The most folders that are watched. The others are looked at.
const FOLDERS_MAX: usize = 64;

/// File systems whose files may be changed by another machine, of which the kernel does not tell: NFS, SMB, FUSE and virtiofs,
/// 9p (`linux/magic.h`).
const SHARED: [u64; 5] = [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997];

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A file may have come, gone, or got another name.
    Names,
    /// An open file has another content.
    Content,
}

/// The watches of one source.
#[derive(Debug)]
pub(super) struct Watcher {
    kernel: AsyncFd<OwnedFd>,
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    folders: BTreeMap<PathBuf, Option<i32>>,
    files: BTreeMap<Id, Option<i32>>,
}

impl Watcher {
    /// `None`: the kernel gives none, and files are looked at.
    pub(super) fn new() -> Option<Self> {
        let kernel = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        #[expect(
            deprecated,
            reason = "the successor is an unsafe fn; an OwnedFd keeps its promise"
        )]
        let kernel = AsyncFd::with_interest(kernel, Interest::READABLE).ok()?;
        Some(Self { kernel, watches: Mutex::default() })
    }

    /// Watches these folders and no others. Whether all of them are. Blocks.
    pub(super) fn set_folders(&self, folders: BTreeSet<PathBuf>) -> bool {
        let mut watches = self.watches.lock().ignore_poison();
        let mask = WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let is_all = folders.len() <= FOLDERS_MAX;
        let mut before = std::mem::take(&mut watches.folders);
        before.retain(|path, _| !folders.contains(path));
        before.into_values().for_each(|watch| self.remove(watch));
        for path in folders.into_iter().take(FOLDERS_MAX) {
            // Each time: another folder may have taken the place.
            let watch = inotify::add_watch(self.kernel.get_ref(), &path, mask).ok();
            let watch = watch.filter(|_| !is_shared(&path));
            watches.folders.insert(path, watch);
        }
        is_all && watches.folders.values().all(Option::is_some)
    }

    /// Watches these open files and no others. Whether all of them are. Blocks.
    pub(super) fn set_files<'a>(&self, files: impl Iterator<Item = (Id, BorrowedFd<'a>)>) -> bool {
        let mut watches = self.watches.lock().ignore_poison();
        let mut before = std::mem::take(&mut watches.files);
        for (id, file) in files {
            let watch = before.remove(&id).flatten().or_else(|| {
                // Whatever name it has by now.
                let path = format!("/proc/self/fd/{}", file.as_raw_fd());
                inotify::add_watch(self.kernel.get_ref(), path, WatchFlags::MODIFY).ok()
            });
            watches.files.insert(id, watch);
        }
        before.into_values().for_each(|watch| self.remove(watch));
        watches.files.values().all(Option::is_some)
    }

    fn remove(&self, watch: Option<i32>) {
        if let Some(watch) = watch {
            // The kernel removes that of a file which is gone itself.
            let _ = inotify::remove_watch(self.kernel.get_ref(), watch);
        }
    }

    /// Waits for a change. Never returns if the kernel reports none any more.
    pub(super) async fn changed(&self) -> Change {
        loop {
            let Ok(mut ready) = self.kernel.readable().await else {
                return std::future::pending().await;
            };
            match self.drain() {
                Some(change) => return change,
                None => ready.clear_ready(),
            }
        }
    }

    /// Takes all events.
    fn drain(&self) -> Option<Change> {
        let mut change = None;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(self.kernel.get_ref(), &mut buffer);
        loop {
            match events.next() {
                Ok(event) if event.events() == ReadFlags::MODIFY => {
                    change.get_or_insert(Change::Content);
                }
                Ok(event) if event.events() == ReadFlags::IGNORED => {} // the watch of a file that was closed
                Ok(_) => change = Some(Change::Names),
                Err(Errno::INTR) => {}
                Err(_) => return change,
            }
        }
    }
}

/// Whether a folder may be changed by another machine.
fn is_shared(folder: &Path) -> bool {
    let found = rustix::fs::statfs(folder);
    found.is_ok_and(|found| SHARED.contains(&(found.f_type as u64 & 0xffff_ffff)))
}
