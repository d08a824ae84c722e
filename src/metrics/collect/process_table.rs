//! All processes of the machine with their `stat` lines. Does not rank or describe them.
//!
//! # Why descriptors are kept
//! For 90 processes, opening, reading and closing each `stat` takes 948 µs, reading kept descriptors 356 µs (2 cores,
//! Linux 6.18). A descriptor stands for the process and not for its id: of one that has ended it gives `ESRCH`, also when
//! another process has the id meanwhile.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use tokio::time::Instant;

use super::parse;
use super::pid_stat::{self, PidStat};
use super::procfs::Processes;

/// A `stat` line has 52 fields and a name of at most 64 bytes; this holds each at its longest.
const STAT_MAX: usize = 2048;
/// The most descriptors that are kept; the kernel holds a page for each.
const KEPT_MAX: usize = 256;
/// What `statfs(2)` says of `/proc` (`include/uapi/linux/magic.h`).
const PROC_SUPER_MAGIC: rustix::fs::FsWord = 0x9fa0;
/// How long a list of processes is good where nothing says that there is a new one.
const LIST_AGAIN: Duration = Duration::from_secs(10);

/// The processes there are, in the order of their ids.
#[derive(Debug)]
pub(super) struct ProcessTable {
    proc: Processes,
    entries: Vec<Entry>,
    /// The ids of a listing.
    pids: Vec<u32>,
    line: Vec<u8>,
    kept: DescriptorLimit,
    news: NewProcesses,
}

#[derive(Debug)]
struct Entry {
    pid: u32,
    stat: Option<OwnedFd>,
}

/// How many descriptors are kept, and may be.
#[derive(Debug)]
pub(super) struct DescriptorLimit {
    count: usize,
    most: usize,
}

impl DescriptorLimit {
    /// At most a quarter of what this process may open, and at most [`KEPT_MAX`].
    fn new() -> Self {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self { count: 0, most: usize::try_from(limit / 4).unwrap_or(KEPT_MAX).min(KEPT_MAX) }
    }

    /// The descriptor, where one more may be kept.
    pub(super) fn keep(&mut self, file: OwnedFd) -> Option<OwnedFd> {
        let fits = self.count < self.most;
        self.count += usize::from(fits);
        fits.then_some(file)
    }

    /// One that was kept is closed.
    pub(super) fn close(&mut self, file: Option<OwnedFd>) {
        self.count -= usize::from(file.is_some());
    }
}

impl ProcessTable {
    /// The table, which has not read yet.
    pub(super) fn open() -> io::Result<Self> {
        let proc = Processes::open()?;
        let news = NewProcesses::new(proc.is_of_this_namespace());
        let (entries, pids, line) = (Vec::new(), Vec::new(), vec![0; STAT_MAX]);
        Ok(Self { proc, entries, pids, line, kept: DescriptorLimit::new(), news })
    }

    /// What else is to be read of a process, and how many descriptors may be kept for that.
    pub(super) fn proc(&mut self) -> (&mut Processes, &mut DescriptorLimit) {
        (&mut self.proc, &mut self.kept)
    }

    /// Calls `each` for every process, in the order of the ids. One that ends meanwhile may be left out.
    pub(super) fn read(
        &mut self,
        now: Instant,
        mut each: impl FnMut(u32, &PidStat<'_>),
    ) -> io::Result<()> {
        if self.news.are_there(now) {
            self.list()?;
        }
        let Self { proc, entries, line, kept, .. } = self;
        entries.retain_mut(|entry| {
            let Some(length) = entry.read(proc, kept, line) else { return false };
            if let Some(stat) = pid_stat::parse(&line[..length]) {
                each(entry.pid, &stat);
            }
            true
        });
        Ok(())
    }

    /// Lists the processes; what is kept of those that are still there stays.
    fn list(&mut self) -> io::Result<()> {
        self.proc.pids(&mut self.pids)?;
        let mut before = std::mem::take(&mut self.entries).into_iter().peekable();
        self.entries.reserve(self.pids.len());
        for &pid in &self.pids {
            while let Some(gone) = before.next_if(|entry| entry.pid < pid) {
                self.kept.close(gone.stat);
            }
            let known = before.next_if(|entry| entry.pid == pid);
            self.entries.push(known.unwrap_or(Entry { pid, stat: None }));
        }
        before.for_each(|gone| self.kept.close(gone.stat));
        Ok(())
    }
}

impl Entry {
    /// Reads the line, and gives its length; `None` where there is no such process.
    fn read(
        &mut self,
        proc: &mut Processes,
        kept: &mut DescriptorLimit,
        line: &mut [u8],
    ) -> Option<usize> {
        if let Some(stat) = &self.stat {
            match read_at_start(stat, line) {
                Ok(length) => return Some(length),
                // It has ended; another one may have its id.
                Err(_) => kept.close(self.stat.take()),
            }
        }
        let stat = proc.open_file(self.pid, "stat").ok()?;
        let length = read_at_start(&stat, line).ok()?;
        self.stat = kept.keep(stat);
        Some(length)
    }
}

/// What one read from the start of a small file gives: the kernel makes its text anew.
pub(super) fn read_at_start(file: &OwnedFd, into: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *into, 0))?)
}

/// Whether there may be processes that the list does not have.
///
/// Every process takes the next id that is free, and the last one taken stands in `/proc/loadavg`. A listing while one is
/// being made may not have it yet, so another one follows. What takes an id of its choice (`clone3(2)`, `set_tid`) is found
/// by the listing of every ten seconds.
#[derive(Debug)]
struct NewProcesses {
    /// `/proc/loadavg`; none where `/proc` is of other processes than those it counts, or where another program makes the
    /// file, as lxcfs does.
    loadavg: Option<OwnedFd>,
    listed: Option<Instant>,
    last: Option<u64>,
    /// The last listing found the same id as the one before.
    settled: bool,
}

impl NewProcesses {
    fn new(is_of_this_namespace: bool) -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let open = || {
            let file = rustix::fs::openat(CWD, "/proc/loadavg", flags, Mode::empty()).ok()?;
            let is_the_kernel_s = rustix::fs::fstatfs(&file).ok()?.f_type == PROC_SUPER_MAGIC;
            is_the_kernel_s.then_some(file)
        };
        let loadavg = if is_of_this_namespace { open() } else { None };
        Self { loadavg, listed: None, last: None, settled: false }
    }

    fn are_there(&mut self, now: Instant) -> bool {
        let last = self.loadavg.as_ref().and_then(last_pid);
        let moved = last.is_none() || last != self.last;
        let old =
            self.listed.is_none_or(|listed| now.saturating_duration_since(listed) >= LIST_AGAIN);
        let list = moved || old || !self.settled;
        if list {
            (self.listed, self.last, self.settled) = (Some(now), last, !moved);
        }
        list
    }
}

/// The last word of `/proc/loadavg` (`loadavg_proc_show` in `fs/proc/loadavg.c`).
fn last_pid(loadavg: &OwnedFd) -> Option<u64> {
    let mut text = [0; 128];
    let length = read_at_start(loadavg, &mut text).ok()?;
    let last = parse::words(text.get(..length)?).last().and_then(parse::number);
    last.filter(|last| *last != 0) // gVisor does not count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn seen(table: &mut ProcessTable, now: Instant) -> Vec<(u32, u64)> {
        let mut seen = Vec::new();
        table.read(now, |pid, stat| seen.push((pid, stat.started_ticks))).unwrap();
        seen
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap()
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn processes_that_come_and_go_are_seen_at_once_without_a_listing_of_age() {
        let mut table = ProcessTable::open().unwrap();
        let now = Instant::now(); // it stands still: no list is ever old
        assert!(seen(&mut table, now).is_sorted());
        for most in [KEPT_MAX, 3, 0] {
            (table.kept.most, table.news.settled) = (most, true);
            let first = sleeper();
            let has = |seen: Vec<(u32, u64)>, pid| seen.iter().any(|(one, _)| *one == pid);
            assert!(has(seen(&mut table, now), first.id()));
            let second = sleeper();
            let (one, two) = (first.id(), second.id());
            assert!(has(seen(&mut table, now), two));
            end(first);
            assert!(!has(seen(&mut table, now), one), "it has ended");
            assert!(has(seen(&mut table, now), two));
            end(second);
            let kept = table.entries.iter().filter(|entry| entry.stat.is_some()).count();
            assert_eq!(table.kept.count, kept, "each descriptor is counted");
        }
    }

    #[test]
    fn a_process_id_that_is_used_again_is_the_new_process() {
        let mut table = ProcessTable::open().unwrap();
        let now = Instant::now();
        seen(&mut table, now);
        let (old, new) = (sleeper(), sleeper());
        seen(&mut table, now);
        // As if the id of the one that has ended had been given to the other one.
        let (gone, there) = (old.id(), new.id());
        let at =
            |table: &ProcessTable, pid| table.entries.iter().position(|e| e.pid == pid).unwrap();
        let stale = table.entries.remove(at(&table, gone)).stat;
        let fresh = at(&table, there);
        let open = std::mem::replace(&mut table.entries[fresh].stat, stale);
        table.kept.close(open);
        end(old);
        let started = |pid: u32| {
            let text = std::fs::read(format!("/proc/{pid}/stat")).unwrap();
            pid_stat::parse(&text).unwrap().started_ticks
        };
        assert!(seen(&mut table, now).contains(&(there, started(there))));
        end(new);
    }

    #[test]
    fn a_list_is_made_anew_when_an_id_was_taken_once_more_after_that_and_every_ten_seconds() {
        let mut news = NewProcesses::new(true);
        let now = Instant::now();
        let mut last = None;
        // Other tests make processes meanwhile, so only what cannot be otherwise is asserted.
        for _ in 0..1_000 {
            if !news.are_there(now) && news.last == last {
                break;
            }
            last = news.last;
        }
        let child = sleeper();
        assert!(news.are_there(now), "an id was taken");
        assert!(news.are_there(now), "and once more");
        end(child);
        assert!(news.are_there(now + LIST_AGAIN));
        let mut other = NewProcesses::new(false);
        assert!((0..9).all(|_| other.are_there(now)), "a /proc of others is listed each time");
    }
}
