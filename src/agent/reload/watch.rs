//! Requests a reload when pipeline files change. It does not read them: the reload finds out what has changed, if anything.
//!
//! - A file counts when it was closed after it was written, moved there or removed; not while it is
//!   being written. Then it is waited for half a second without another change, five seconds at most.
//! - An editor that writes beside and renames over, and a folder that comes, goes or is exchanged, are noticed too:
//!   every folder above is watched for the next name on the way.
//! - A path is watched where it really is, and so is every link on the way there: a link that is replaced by a rename is
//!   noticed (Kubernetes does that with `..data`, in front of files and folders). A new link is not, nor a change
//!   behind a link inside a folder: send SIGHUP.
//!
//! # Why not the crate `notify`
//! It asks the kernel for every `open` in a folder that it watches, and cannot be told not to (8.2.2,
//! `src/inotify.rs`; the releases of 9 that can are candidates still). The folder above the files is watched too, which
//! is `/etc`: each program that starts anywhere on the machine opens something there, and would wake the agent.
//! Measured besides, in a static program of its own: 84 to 88 KiB of memory, a thread, and seven crates more than the
//! same calls through `rustix` on the runtime's own poll.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::agent::reload::{CHANGED_FILE, ReloadRequest};
use crate::config::DEFAULT_FOLDER;
use crate::pipeline::LogLimit;
use crate::tasks::{spawn, spawn_blocking};

/// How long the files must be unchanged before they are read …
const QUIET: Duration = Duration::from_millis(500);
/// … and how long that is waited for.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// The watch, while it is switched on.
#[derive(Debug, Default)]
pub(in crate::agent) struct FileWatcher(Option<JoinHandle<()>>);

impl FileWatcher {
    /// Switches it on or off.
    pub(in crate::agent) fn set(
        &mut self,
        on: bool,
        paths: &[PathBuf],
        reloads: &mpsc::Sender<ReloadRequest>,
    ) {
        match (&self.0, on) {
            (None, true) => self.0 = Some(spawn(watch(paths.to_vec(), reloads.clone()))),
            (Some(watch), false) => {
                tracing::info!("pipeline files are not watched any more");
                watch.abort();
                self.0 = None;
            }
            _ => {}
        }
    }
}

impl Drop for FileWatcher {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.abort();
        }
    }
}

/// Asks for a reload whenever one of `paths` has changed.
async fn watch(paths: Vec<PathBuf>, reloads: mpsc::Sender<ReloadRequest>) {
    let paths = watched_places(paths);
    if paths.is_empty() {
        return;
    }
    let mut has_changed = false;
    let mut failing = LogLimit::default();
    loop {
        let arm = paths.clone();
        let armed = spawn_blocking(move || Armed::at(&arm)).await.map_err(io::Error::other);
        let armed = match armed.and_then(|armed| armed) {
            Ok(armed) => armed,
            Err(error) => {
                return tracing::warn!(%error, "pipeline files are not watched; SIGHUP has them read again");
            }
        };
        // Armed first, so that a change during the reload is noticed.
        if has_changed && reloads.send(ReloadRequest::by(CHANGED_FILE)).await.is_err() {
            return;
        }
        if let Err(error) = settled(&armed).await {
            if failing.happened(Instant::now()).is_some() {
                tracing::warn!(%error, "pipeline files cannot be watched now");
            }
            sleep(QUIET_MAX).await;
        }
        has_changed = true;
    }
}

/// Returns some time after the first change.
async fn settled(armed: &Armed) -> io::Result<()> {
    armed.changed().await?;
    let most = Instant::now() + QUIET_MAX;
    while let Ok(changed) = timeout_at((Instant::now() + QUIET).min(most), armed.changed()).await {
        changed?;
    }
    Ok(())
}

/// Those of `paths` that lie on a disk.
fn watched_places(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    if paths.is_empty() {
        return vec![DEFAULT_FOLDER.into()];
    }
    let on_disk = |path: &PathBuf| {
        !path.starts_with("/dev") && !path.as_os_str().as_encoded_bytes().starts_with(b"built-in:")
    };
    paths.into_iter().filter(on_disk).filter_map(|path| std::path::absolute(path).ok()).collect()
}

/// Watches of the kernel (inotify(7)).
struct Armed {
    events: AsyncFd<OwnedFd>,
    watched: Vec<(i32, Names)>,
}

/// The names that count in a folder.
#[derive(Debug, PartialEq)]
enum Names {
    /// `*.toml`, what begins with two dots (a link of that name is exchanged where files are mounted into a
    /// container), and the folder itself.
    Files,
    /// This one.
    Only(OsString),
}

impl Names {
    fn count(&self, name: Option<&[u8]>) -> bool {
        match (self, name) {
            (_, None) => true,
            (Self::Files, Some(name)) => name.ends_with(b".toml") || name.starts_with(b".."),
            (Self::Only(only), Some(name)) => only.as_encoded_bytes() == name,
        }
    }
}

impl Armed {
    /// Blocks for a few look-ups.
    fn at(paths: &[PathBuf]) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let mut watched = Vec::new();
        for path in paths {
            if path.is_dir() {
                add(&fd, path, Names::Files, &mut watched)?;
            }
            above(&fd, path, &mut watched)?;
            let (links, real) = way(path);
            for (folder, name) in links {
                add(&fd, &folder, Names::Only(name), &mut watched)?;
            }
            above(&fd, &real, &mut watched)?;
        }
        #[expect(
            deprecated,
            reason = "the successor is an unsafe fn; an OwnedFd keeps its promise"
        )]
        let events = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { events, watched })
    }

    /// Returns at a change that counts.
    async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            let read = ready.try_io(|fd| self.read(fd.get_ref()));
            match read {
                Ok(Ok(true)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    /// Reads all events, and returns whether one counts. `WouldBlock` without events.
    fn read(&self, fd: &OwnedFd) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(fd, &mut buffer);
        let (mut any, mut counts) = (false, false);
        loop {
            match events.next() {
                Ok(event) => {
                    any = true;
                    let name = event.file_name().map(std::ffi::CStr::to_bytes);
                    let kind = event.events();
                    // A file that is made is not written yet.
                    if kind.contains(ReadFlags::CREATE) && !kind.contains(ReadFlags::ISDIR) {
                        continue;
                    }
                    let lost = kind.contains(ReadFlags::QUEUE_OVERFLOW);
                    let mine = |(wd, names): &(i32, Names)| *wd == event.wd() && names.count(name);
                    counts |= lost || self.watched.iter().any(mine);
                }
                Err(Errno::AGAIN) if any => return Ok(counts),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Links that are followed on one way, as many as the kernel does (`MAXSYMLINKS` of linux/namei.h).
const LINKS_MAX: usize = 40;

/// Every link on the way to `path`, as its folder and name, and where the way ends.
fn way(path: &Path) -> (Vec<(PathBuf, OsString)>, PathBuf) {
    let names = |path: &Path| path.components().map(|part| part.as_os_str().to_owned()).collect();
    let mut rest: VecDeque<OsString> = names(path);
    let (mut links, mut here) = (Vec::new(), PathBuf::from("/"));
    while let Some(name) = rest.pop_front() {
        let next = here.join(&name);
        match std::fs::read_link(&next) {
            _ if name == ".." => {
                here.pop();
            }
            Ok(target) if links.len() < LINKS_MAX => {
                links.push((here.clone(), name));
                let target: VecDeque<OsString> = names(&target);
                rest = target.into_iter().chain(rest).collect(); // an absolute one begins with "/"
            }
            _ => here = next,
        }
    }
    (links, here)
}

/// Watches every folder above `path` that is there for the next name on the way: each may be exchanged, and below a
/// renamed one nothing happens. Those above the nearest may be closed to this user; they are left out then.
fn above(fd: &OwnedFd, path: &Path, watched: &mut Vec<(i32, Names)>) -> io::Result<()> {
    let ways = path.ancestors().filter_map(|path| Some((path.parent()?, path.file_name()?)));
    let mut added = ways
        .filter(|(folder, _)| folder.is_dir())
        .map(|(folder, name)| add(fd, folder, Names::Only(name.to_owned()), watched));
    let nearest = added.next().unwrap_or(Ok(()));
    added.for_each(drop);
    nearest
}

fn add(
    fd: &OwnedFd,
    folder: &Path,
    names: Names,
    watched: &mut Vec<(i32, Names)>,
) -> io::Result<()> {
    // One mask for all: a second watch of the same folder takes the first one's place.
    let mask = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::CREATE
        | WatchFlags::ONLYDIR;
    watched.push((inotify::add_watch(fd, folder, mask)?, names));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// As a kubelet mounts `a.toml`: through a link to a folder, which is exchanged by a rename.
    fn mounted() -> TempDir {
        let folder = TempDir::new().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("..1")).unwrap();
        fs::write(at("..1/a.toml"), "1").unwrap();
        symlink("..1", at("..data")).unwrap();
        symlink("..data/a.toml", at("a.toml")).unwrap();
        folder
    }

    async fn notices(folder: &TempDir, path: &str, change: impl FnOnce(&Path)) -> bool {
        let armed = Armed::at(&[folder.path().join(path)]).unwrap();
        change(folder.path());
        timeout_at(Instant::now() + Duration::from_millis(300), armed.changed()).await.is_ok()
    }

    fn exchange(folder: &Path) {
        let at = |name: &str| folder.join(name);
        fs::create_dir(at("..2")).unwrap();
        fs::write(at("..2/a.toml"), "2").unwrap();
        symlink("..2", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    }

    #[tokio::test]
    async fn a_file_behind_a_link_is_noticed_when_the_link_is_exchanged_or_the_file_written() {
        assert!(notices(&mounted(), "a.toml", exchange).await);
        let write = |folder: &Path| fs::write(folder.join("..1/a.toml"), "3").unwrap();
        assert!(notices(&mounted(), "a.toml", write).await);
        let other = |folder: &Path| fs::write(folder.join("..1/b"), "3").unwrap();
        assert!(!notices(&mounted(), "a.toml", other).await);
    }

    #[tokio::test]
    async fn a_folder_behind_a_link_is_noticed_when_the_link_is_exchanged() {
        let folder = mounted();
        fs::create_dir(folder.path().join("above")).unwrap();
        symlink("../..data", folder.path().join("above/files")).unwrap();
        assert!(notices(&folder, "above/files", exchange).await);
    }

    #[tokio::test]
    async fn a_file_is_noticed_when_a_folder_far_above_is_exchanged() {
        let folder = TempDir::new().unwrap();
        for above in ["etc", "new"] {
            fs::create_dir_all(folder.path().join(above).join("agent/pipelines")).unwrap();
        }
        let (etc, new) = (folder.path().join("etc"), folder.path().join("new"));
        let away = |_: &Path| fs::rename(&etc, folder.path().join("old")).unwrap();
        assert!(notices(&folder, "etc/agent/pipelines/a.toml", away).await);
        let there = |_: &Path| fs::rename(&new, &etc).unwrap();
        assert!(notices(&folder, "etc/agent/pipelines/a.toml", there).await);
    }

    #[test]
    fn links_that_lead_to_themselves_end() {
        let folder = TempDir::new().unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        assert_eq!(way(&folder.path().join("loop/x")).0.len(), LINKS_MAX);
    }
}
