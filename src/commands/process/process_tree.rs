//! All the processes of one program, ended together. Does not decide when.
//!
//! With a control group the kernel keeps them together, except those of root that move to another one.
//! Those, and all of them without a control group, are found by three facts:
//! - a descendant is found by the parents in `/proc/PID/stat`;
//! - the program adopts its descendants that lose their parent (`PR_SET_CHILD_SUBREAPER`, kept across
//!   `exec`), so while it lives none of them is anybody else's child;
//! - when it ends, they become the agent's children, which is such an adopter too where there are no
//!   control groups. The agent knows the programs it started itself; any other child is what a program that
//!   has ended left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::process::Child;
use tokio::time::Instant;

use super::cgroup::Group;
use crate::sync::IgnorePoison;
use crate::tasks::spawn_blocking;
use crate::wire::steers;

/// How long is tried to end a tree. What is left then hangs in the kernel and cannot be ended.
const END_MAX: Duration = Duration::from_secs(2);
/// Looks at `/proc` within one pass, each finding what was forked since the one before.
const LOOKS_MAX: usize = 50;

/// The programs that this process has started and not yet seen the end of.
static PROGRAMS: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// A program's processes. Dropping it kills them, without waiting for them to be gone; it may wait for
/// another program to be started meanwhile, so it is not for an async worker.
#[derive(Debug)]
pub(super) struct Tree {
    pid: u32,
    group: Option<Group>,
    adopting: bool,
    /// How it is asked to end.
    asks: Signal,
    ended: bool,
}

/// What is to be looked through for a tree's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeScope {
    /// The control group, where there is one. What has left it (`systemd-run`) was meant to stay.
    Group,
    /// The control group, and every descendant wherever it is.
    Everything,
}

impl Tree {
    /// Starts a program and takes charge of it. `adopting`: this process gets the orphans.
    pub(super) fn start(
        spawn: impl FnOnce() -> io::Result<Child>,
        group: Option<Group>,
        adopting: bool,
    ) -> io::Result<(Child, Self)> {
        // Held while starting: nobody may see a child that is not yet on the list.
        let mut programs = programs();
        let child = spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it has no process id"))?;
        programs.insert(pid);
        Ok((child, Self { pid, group, adopting, asks: Signal::TERM, ended: false }))
    }

    /// It is asked to end with another signal than SIGTERM.
    pub(super) fn asked_with(mut self, signal: Signal) -> Self {
        self.asks = signal;
        self
    }

    /// Its control group.
    pub(super) fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// Asks all of it to end (SIGTERM, or what was set). Reads `/proc`: not for an async worker.
    pub(super) fn ask(&self) {
        match &self.group {
            Some(group) => {
                // At once, and first: when the program ends, nobody knows any more whose they are.
                group.freeze(true);
                self.kill();
                group.signal(self.asks);
                group.freeze(false);
            }
            None => self.members().iter().for_each(|process| process.signal(self.asks)),
        }
    }

    /// Ends all of it and waits until it is gone, for at most 2 s. Its program must be reaped before
    /// what comes back is dropped.
    pub(super) async fn end(self, reach: TreeScope) -> Option<Self> {
        let until = Instant::now() + END_MAX;
        let (mut tree, mut pause) = (self, Duration::from_millis(1));
        loop {
            let passed = spawn_blocking(move || {
                tree.ended = tree.pass(reach);
                tree
            });
            // No more of the blocking pool: the tree was dropped with its closure, and so killed.
            tree = passed.await.ok()?;
            if tree.ended {
                return Some(tree);
            }
            if Instant::now() >= until {
                tracing::warn!(
                    pid = tree.pid,
                    "a program's processes do not end, the kernel holds them"
                );
                return Some(tree);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// What still runs in it now that its program has ended: the names, one for each process. Reads
    /// `/proc`: not for an async worker.
    pub(super) fn left(&self) -> Vec<String> {
        let pids: Vec<u32> = match &self.group {
            Some(group) => group.members().into_iter().map(number).collect(),
            None => self.members().into_iter().map(|process| process.pid).collect(),
        };
        let lives = |pid: &u32| Process::read(*pid).is_some_and(|process| !process.dead);
        pids.into_iter().filter(lives).map(name).collect()
    }

    /// Kills what is there; whether nothing is left.
    fn pass(&self, reach: TreeScope) -> bool {
        let Some(group) = &self.group else { return self.kill() };
        let mut gone = true;
        if reach == TreeScope::Everything {
            group.freeze(true);
            gone = self.kill();
        }
        if !group.is_empty() {
            group.kill();
        }
        group.freeze(false);
        gone && group.is_empty() && group.remove()
    }

    /// Kills what is not in the control group; whether there was nothing. Stops all of it first, since what
    /// is stopped does not fork.
    fn kill(&self) -> bool {
        let mut stopped = BTreeMap::new();
        for _ in 0..LOOKS_MAX {
            let before = stopped.len();
            let group = self.group.iter().flat_map(Group::members);
            let inside: BTreeSet<u32> = group.map(number).collect();
            let outside = |process: &Process| !inside.contains(&process.pid);
            for process in self.members().into_iter().filter(outside) {
                stopped.entry((process.pid, process.start)).or_insert_with(|| {
                    process.signal(Signal::STOP);
                    process
                });
            }
            if stopped.len() == before {
                break;
            }
        }
        stopped.values().for_each(|process| process.signal(Signal::KILL));
        stopped.is_empty()
    }

    /// Its living processes that can be found in `/proc`. Reaps what it left behind and is dead.
    fn members(&self) -> Vec<Process> {
        let (own, all) = (std::process::id(), processes());
        // Looked at later than the processes: all of those that were started are on it by now.
        let programs = programs().clone();
        // Until a program's tree is dropped, what is in its session is its own affair.
        let others = |pid: &u32| *pid != self.pid && programs.contains(pid);
        let left = |process: &Process| {
            let known = programs.contains(&process.pid) || others(&process.session);
            self.adopting && process.parent == own && !known
        };
        for dead in all.iter().filter(|process| process.dead && left(process)) {
            dead.reap();
        }
        members(&all, |process| {
            let program = process.pid == self.pid && process.parent == own;
            let with_it = process.session == self.pid || process.group == self.pid;
            program || with_it || left(process)
        })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.ended {
            self.pass(TreeScope::Everything);
        }
        programs().remove(&self.pid);
    }
}

/// One process as `/proc/PID/stat` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    group: u32,
    session: u32,
    start: u64,
    /// Ended, and not yet reaped.
    dead: bool,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// From a line of `proc_pid_stat(5)`. The name may have parentheses, so it ends at the last one.
    fn parse(pid: u32, line: &[u8]) -> Option<Self> {
        let after = memchr::memrchr(b')', line)? + 1;
        let mut words = std::str::from_utf8(&line[after..]).ok()?.split_ascii_whitespace();
        // Counted from the state, which is field 3.
        let ended = matches!(words.next()?, "Z" | "X" | "x");
        let mut number = || words.next()?.parse().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        let threads: u32 = words.nth(13)?.parse().ok()?; // 20
        let start = words.nth(1)?.parse().ok()?; // 22
        // Where only the first thread has ended, the others go on behind a state of `Z`.
        let dead = ended && threads <= 1;
        Some(Self { pid, parent, group, session, start, dead })
    }

    /// Sends a signal to this process and never to another that has got its number since.
    fn signal(&self, signal: Signal) {
        let Some(pid) = self.id() else { return };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) if Self::read(self.pid).is_some_and(|now| now.start == self.start) => {
                let _ = rustix::process::pidfd_send_signal(held, signal);
            }
            // Linux before 5.3.
            Err(Errno::NOSYS) => drop(rustix::process::kill_process(pid, signal)),
            _ => {}
        }
    }

    fn reap(&self) {
        if let Some(pid) = self.id() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let _ = rustix::process::waitid(WaitId::Pid(pid), options);
        }
    }

    fn id(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }
}

/// The living among `roots` and all their descendants.
fn members(all: &[Process], root: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut inside: BTreeSet<u32> =
        all.iter().filter(|process| root(process)).map(|process| process.pid).collect();
    loop {
        let before = inside.len();
        for process in all {
            if inside.contains(&process.parent) {
                inside.insert(process.pid);
            }
        }
        if inside.len() == before {
            break;
        }
    }
    all.iter().filter(|process| !process.dead && inside.contains(&process.pid)).cloned().collect()
}

fn number(pid: Pid) -> u32 {
    pid.as_raw_nonzero().get().unsigned_abs()
}

/// What a process is called (`/proc/PID/comm`, 15 bytes), with nothing in it that steers a terminal.
fn name(pid: u32) -> String {
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    let name = String::from_utf8_lossy(comm.trim_ascii_end());
    let plain: String = name.chars().map(|c| if steers(c) { '?' } else { c }).collect();
    if plain.is_empty() { pid.to_string() } else { plain }
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read).collect()
}

fn programs() -> MutexGuard<'static, BTreeSet<u32>> {
    PROGRAMS.lock().ignore_poison()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Process {
        Process { pid, parent, group: 0, session: 0, start: 1, dead: false }
    }

    #[test]
    fn a_line_of_stat_is_read_past_any_name() {
        let line = b"42 (a) R 1 (b)) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 1234 99 5 18446744073709551615";
        let process = Process::parse(42, line).unwrap();
        assert_eq!((process.parent, process.group, process.session), (7, 8, 9));
        assert_eq!((process.start, process.dead), (1234, false));
        assert!(
            Process::parse(42, b"42 (a) Z 7 8 9 0 -1 0 1 2 3 4 5 6 7 8 9 1 1 0 5 0").unwrap().dead
        );
        for wrong in [&b""[..], b"42", b"42 (a)", b"42 (a) S 1 2", b"42 (a) S x 8 9"] {
            assert_eq!(Process::parse(42, wrong), None);
        }
        assert_eq!(Process::read(std::process::id()).unwrap().pid, std::process::id());
    }

    #[test]
    fn a_tree_is_its_roots_and_their_descendants_in_any_order() {
        let mut all =
            vec![process(5, 4), process(4, 3), process(3, 2), process(9, 1), process(2, 1)];
        let found = |all: &[Process]| {
            members(all, |process| process.pid == 3)
                .iter()
                .map(|process| process.pid)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&all), [5, 4, 3]);
        // A dead one in between still leads to its children.
        all[1].dead = true;
        assert_eq!(found(&all), [5, 3]);
        assert_eq!(found(&[]), [0; 0]);
    }
}
