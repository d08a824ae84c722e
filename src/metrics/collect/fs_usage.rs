//! How full file systems are, without waiting long for those that hang. Does not choose them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use super::mounts::Mounted;

/// How long all the remote file systems of one reading together may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most threads that wait for file systems at once, those that hang since long included.
const HELPERS_MAX: usize = 8;
/// `statvfs` needs hardly any stack.
const STACK_BYTES: usize = 64 * 1024;

/// Space of a file system, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FsUsage {
    /// Size.
    pub total: u64,
    /// Size less free.
    pub used: u64,
    /// What an ordinary user can write.
    pub available: u64,
    /// Where it has a limit of them.
    pub inodes: Option<Inodes>,
}

/// Files and folders that a file system has room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Inodes {
    /// How many there can be.
    pub total: u64,
    /// How many more there can be.
    pub free: u64,
}

/// Asks the file system that is mounted at a path, where it is the mount with this number.
pub(super) type Probe = Arc<dyn Fn(&Path, u64) -> io::Result<FsUsage> + Send + Sync>;

/// Asks file systems. Local ones are asked directly; each remote one by a thread of its own, because
/// `statvfs` on a server that has gone cannot be interrupted. Such a thread is left behind and
/// its file system is not asked again until it has come back.
pub(super) struct FsUsages {
    probe: Probe,
    patience: Duration,
    helpers: Vec<Helper>,
}

struct Helper {
    point: PathBuf,
    thread: JoinHandle<()>,
}

impl FsUsages {
    /// Asks with `statvfs`.
    pub(super) fn new() -> Self {
        Self::with_probe(Arc::new(statvfs), PATIENCE)
    }

    fn with_probe(probe: Probe, patience: Duration) -> Self {
        Self { probe, patience, helpers: Vec::new() }
    }

    /// The space of each file system, in order, or why it is not known.
    pub(super) fn ask(&mut self, mounts: &[Mounted]) -> Vec<io::Result<FsUsage>> {
        let mut answers: Vec<_> = mounts.iter().map(|_| None).collect();
        let mut waiting = Vec::new();
        self.helpers.retain(|helper| !helper.thread.is_finished());
        for (index, mount) in mounts.iter().enumerate() {
            if !mount.is_remote {
                answers[index] = Some((self.probe)(&mount.point, mount.id));
            } else if self.helpers.iter().any(|helper| helper.point == mount.point) {
                answers[index] =
                    Some(Err(timed_out("still does not answer; it is left out until it does")));
            } else {
                waiting.push(index);
            }
        }
        self.ask_remote(mounts, waiting, &mut answers);
        let busy = || Err(timed_out("not asked: too many others do not answer"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(busy)).collect()
    }

    fn ask_remote(
        &mut self,
        mounts: &[Mounted],
        mut waiting: Vec<usize>,
        answers: &mut [Option<io::Result<FsUsage>>],
    ) {
        // Room for an answer of each helper, so that none ever waits to be heard.
        let (send, receive) = sync_channel(HELPERS_MAX);
        let deadline = Instant::now() + self.patience;
        let mut asked = Vec::new();
        waiting.reverse();
        loop {
            while self.helpers.len() < HELPERS_MAX
                && let Some(index) = waiting.pop()
            {
                let (probe, send) = (self.probe.clone(), send.clone());
                let (point, id) = (mounts[index].point.clone(), mounts[index].id);
                let ask = move || {
                    let _ = send.send((index, probe(&point, id)));
                };
                let builder =
                    std::thread::Builder::new().name("statvfs".into()).stack_size(STACK_BYTES);
                match builder.spawn(ask) {
                    Ok(thread) => {
                        self.helpers.push(Helper { point: mounts[index].point.clone(), thread });
                        asked.push(index);
                    }
                    Err(error) => answers[index] = Some(Err(error)),
                }
            }
            if asked.is_empty() {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((index, answer)) = receive.recv_timeout(left) else { break };
            answers[index] = Some(answer);
            asked.retain(|other| *other != index);
            let answered = |helper: &mut Helper| helper.point == mounts[index].point;
            for helper in self.helpers.extract_if(.., answered) {
                let _ = helper.thread.join(); // it has nothing left to do
            }
        }
        let patience = self.patience;
        for index in asked {
            answers[index] =
                Some(Err(timed_out(&format!("no answer within {patience:?} (is its server up?)"))));
        }
    }
}

impl std::fmt::Debug for FsUsages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spaces").field("helpers", &self.helpers.len()).finish_non_exhaustive()
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// As `df` counts: blocks kept for root are free, but not available.
///
/// # Errors
/// [`io::ErrorKind::NotFound`], too, where another mount than `id` is there: it was covered or moved since it was
/// listed. A kernel before 5.8 does not tell which one is there, and then any is taken.
fn statvfs(point: &Path, id: u64) -> io::Result<FsUsage> {
    let there = rustix::fs::open(point, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let found = rustix::fs::statx(&there, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID);
    if let Ok(found) = found
        && StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID)
        && found.stx_mnt_id != id
    {
        return Err(io::ErrorKind::NotFound.into());
    }
    let stat = rustix::fs::fstatvfs(&there)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(FsUsage {
        total: bytes(stat.f_blocks),
        used: bytes(stat.f_blocks.saturating_sub(stat.f_bfree)),
        available: bytes(stat.f_bavail),
        inodes: (stat.f_files > 0).then_some(Inodes { total: stat.f_files, free: stat.f_ffree }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, SyncSender};

    fn mount(point: &str, is_remote: bool) -> Mounted {
        let (filesystem, source) = ("nfs4".into(), "s:/".into());
        Mounted { id: 0, point: point.into(), filesystem, source, is_remote }
    }

    /// Remote file systems whose path begins with `/hang` answer only when told to.
    fn hanging(patience: Duration) -> (FsUsages, SyncSender<()>) {
        let (release, wait): (_, Receiver<()>) = sync_channel(64);
        let wait = Mutex::new(wait);
        let probe = move |point: &Path, _| {
            if point.starts_with("/hang") {
                wait.lock().unwrap().recv().unwrap();
            }
            Ok(FsUsage { total: 1, used: 1, ..FsUsage::default() })
        };
        (FsUsages::with_probe(Arc::new(probe), patience), release)
    }

    #[test]
    fn a_mount_that_hangs_costs_its_own_reading_and_delays_only_the_first() {
        let patience = Duration::from_millis(300);
        let (mut spaces, release) = hanging(patience);
        let mounts = [mount("/", false), mount("/hang", true), mount("/well", true)];
        let results = |answers: Vec<io::Result<FsUsage>>| -> Vec<_> {
            answers.into_iter().map(|answer| answer.map_err(|error| error.to_string())).collect()
        };
        let start = Instant::now();
        let first = results(spaces.ask(&mounts));
        assert!(start.elapsed() >= patience);
        assert!(first[0].is_ok() && first[2].is_ok());
        assert!(first[1].as_ref().unwrap_err().contains("no answer within 300ms"), "{first:?}");

        spaces.patience = Duration::from_secs(3600); // would be seen if it were waited for
        for _ in 0..20 {
            let later = results(spaces.ask(&mounts));
            assert!(later[0].is_ok() && later[2].is_ok());
            assert!(later[1].as_ref().unwrap_err().contains("still does not answer"));
            assert_eq!(spaces.helpers.len(), 1, "one thread waits, not one per reading");
        }
        release.send(()).unwrap();
        while !spaces.helpers.iter().all(|helper| helper.thread.is_finished()) {
            std::thread::yield_now();
        }
        release.send(()).unwrap();
        assert!(spaces.ask(&mounts).iter().all(Result::is_ok), "it is back and asked again");
        assert!(spaces.helpers.is_empty());
    }

    #[test]
    fn at_most_eight_threads_wait_however_many_mounts_hang() {
        let (mut spaces, release) = hanging(Duration::from_millis(20));
        let mut mounts: Vec<_> = (0..12).map(|n| mount(&format!("/hang/{n}"), true)).collect();
        mounts.push(mount("/", false));
        for _ in 0..3 {
            let answers = spaces.ask(&mounts);
            assert_eq!(spaces.helpers.len(), HELPERS_MAX);
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        }
        for _ in 0..HELPERS_MAX {
            release.send(()).unwrap();
        }
    }

    #[test]
    fn more_remote_mounts_than_threads_are_all_asked_when_they_answer() {
        let (mut spaces, _release) = hanging(Duration::from_secs(30));
        let mounts: Vec<_> = (0..30).map(|n| mount(&format!("/well/{n}"), true)).collect();
        assert!(spaces.ask(&mounts).iter().all(Result::is_ok));
    }

    #[test]
    fn space_is_that_of_the_file_system_and_an_unknown_place_is_an_error() {
        let mountinfo = std::fs::read("/proc/self/mountinfo").unwrap();
        let id = super::super::mounts::select(&mountinfo, b"")[0].id;
        let space = statvfs(Path::new("/"), id).unwrap();
        assert!(space.total >= space.used && space.total > 0);
        assert!(statvfs(Path::new("/no/such/place"), id).is_err());
        let other = statvfs(Path::new("/"), id + 1).unwrap_err();
        assert_eq!(other.kind(), io::ErrorKind::NotFound, "another mount is there");
    }
}
