//! A control group of its own for one program, so that nothing it starts can get away. Starts and waits
//! for nothing.
//!
//! Facts: Documentation/admin-guide/cgroup-v2.rst ("Core Interface Files", "Delegation", "No Internal
//! Process Constraint") and systemd's "Control Group APIs and Delegation".

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

/// Names of our groups begin so; the agent's pid and a number follow.
const PREFIX: &str = "infiniservice-run.";
/// Names of groups whose processes are to stay begin so.
const LEFT: &str = "infiniservice-left.";
/// Where this process itself goes.
const SUBGROUP: &str = "agent";
/// How deep and how many groups made by the program itself are removed with its own.
const DEPTH_MAX: usize = 16;
/// Reads of `cgroup.procs` in the way without `cgroup.kill`, so that a fork bomb ends it, not we.
const PASSES_MAX: usize = 100;

/// Where groups can be made: the agent's own control group.
#[derive(Debug, Clone)]
pub(super) struct Parent {
    path: PathBuf,
    /// Whether `pids.max` is there for the groups in it.
    limits: bool,
}

impl Parent {
    /// The place for groups, where there is one that this process may write. Groups that an agent which
    /// is no more has left behind are ended and removed.
    ///
    /// A group that limits others may have no process of its own. So where systemd has handed one over
    /// (`Delegate=`), this process leaves it for one below (as `DelegateSubgroup=` does from the start,
    /// in systemd 254), and groups are made beside that. Else they are made in its own, without limits.
    pub(super) fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own_folder(&mounts, &own)?;
        let above = own.parent().filter(|above| handed_over(above)).map(Path::to_owned);
        if above.is_none() && handed_over(&own) {
            step_down(&own.join(SUBGROUP));
        }
        above.into_iter().chain([own]).find_map(Self::at)
    }

    fn at(path: PathBuf) -> Option<Self> {
        let writable = |path: &Path| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        if !writable(&path) || !writable(&path.join("cgroup.procs")) {
            return None;
        }
        sweep(&path);
        let parent = Self { limits: limits(&path), path };
        if parent.limits {
            share_processors(&parent.path);
        }
        // Only a try tells: a mount that is read-only in part, a namespace, a limit on descendants.
        // One that is part of a threaded domain ("domain invalid") takes no process.
        let tried = parent.group(None).ok()?;
        let usable = read(&tried.path, "cgroup.type").trim_end() == "domain";
        (tried.remove() && usable).then_some(parent)
    }

    /// Makes a group, with at most `processes` at once where the kernel counts them here.
    pub(super) fn group(&self, processes: Option<u32>) -> io::Result<Group> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.path.join(format!("{PREFIX}{}.{number}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Group { path };
        if let (true, Some(processes)) = (self.limits, processes) {
            fs::write(group.path.join("pids.max"), processes.to_string())?;
        }
        Ok(group)
    }

    /// Whether a group's number of processes can be limited.
    pub(super) fn limits(&self) -> bool {
        self.limits
    }
}

/// One group. Dropping it removes it if nothing is left in it.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
}

impl Group {
    /// Its folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves a process into it.
    pub(super) fn take(&self, pid: Pid) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), pid.as_raw_nonzero().to_string())
    }

    /// Whether no living process is in it or below.
    pub(super) fn is_empty(&self) -> bool {
        match fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => events.lines().any(|line| line == "populated 0"),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Its processes, those of groups below among them.
    pub(super) fn members(&self) -> Vec<Pid> {
        members(&self.path, DEPTH_MAX)
    }

    /// Sends a signal to everything in it, once; what is being forked at that moment may not hear it.
    pub(super) fn signal(&self, signal: Signal) {
        let held: Vec<_> = self.members().into_iter().map(|pid| (pid, pidfd(pid))).collect();
        // A number that is here still, after what bears it was taken hold of, has not become another's.
        let here: HashSet<Pid> = self.members().into_iter().collect();
        for (pid, held) in held.into_iter().filter(|(pid, _)| here.contains(pid)) {
            let _ = match held {
                Ok(held) => rustix::process::pidfd_send_signal(held, signal),
                // Linux before 5.3.
                Err(Errno::NOSYS) => rustix::process::kill_process(pid, signal),
                Err(_) => continue,
            };
        }
    }

    /// Has nothing in it run, or run again; where the kernel cannot (before Linux 5.2) all goes on.
    pub(super) fn freeze(&self, frozen: bool) {
        let _ = fs::write(self.path.join("cgroup.freeze"), if frozen { "1" } else { "0" });
    }

    /// Moves its processes into a group beside it, which no agent ends; gives that one's name.
    pub(super) fn leave(&self) -> io::Result<String> {
        let wrong = || io::Error::other("it has no name");
        let own = self.path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?;
        let name = format!("{LEFT}{}", own.strip_prefix(PREFIX).unwrap_or(own));
        let beside = self.path.with_file_name(&name);
        fs::create_dir(&beside)?;
        for _ in 0..PASSES_MAX {
            for pid in self.members() {
                // One that has ended meanwhile needs no group.
                let _ = fs::write(beside.join("cgroup.procs"), pid.as_raw_nonzero().to_string());
            }
            if self.is_empty() {
                return Ok(name);
            }
        }
        Err(io::Error::other("not all of it can be moved"))
    }

    /// Kills everything in it: at once where the kernel can (`cgroup.kill`, Linux 5.14), else frozen
    /// first, so that nothing forks meanwhile.
    pub(super) fn kill(&self) {
        if fs::write(self.path.join("cgroup.kill"), "1").is_err() {
            self.kill_frozen();
        }
    }

    fn kill_frozen(&self) {
        self.freeze(true);
        for _ in 0..PASSES_MAX {
            if self.is_empty() {
                break;
            }
            // A frozen process dies of this signal without being thawed.
            self.signal(Signal::KILL);
        }
        self.freeze(false);
    }

    /// Removes it, with the groups the program made in it; `false` while something lives there.
    pub(super) fn remove(&self) -> bool {
        remove(&self.path, DEPTH_MAX);
        !self.path.exists()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

fn pidfd(pid: Pid) -> Result<OwnedFd, Errno> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

/// The processes in a group and below.
fn members(path: &Path, depth: usize) -> Vec<Pid> {
    let own = read(path, "cgroup.procs");
    // A process of another pid namespace is 0 here and no process to us.
    let mut all: Vec<Pid> =
        own.lines().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).collect();
    if depth > 0 {
        all.extend(children(path).iter().flat_map(|child| members(child, depth - 1)));
    }
    all
}

fn remove(path: &Path, depth: usize) {
    if fs::remove_dir(path).is_ok() || depth == 0 {
        return;
    }
    for child in children(path) {
        remove(&child, depth - 1);
    }
    let _ = fs::remove_dir(path);
}

fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let folders =
        entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.map(|entry| entry.path()).collect()
}

/// Ends and removes the groups of agents that are no more.
fn sweep(parent: &Path) {
    for path in children(parent) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(LEFT) {
            // Only where nothing is left in it.
            let _ = fs::remove_dir(&path);
            continue;
        }
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if pid != std::process::id() && !Path::new(&format!("/proc/{pid}")).exists() {
            tracing::info!(
                group = name,
                "ended programs that an earlier run of the agent left behind"
            );
            let group = Group { path };
            group.kill();
        }
    }
}

/// Whether groups in this one can be limited: where no process is in it itself, and in the root. With
/// processes in it the kernel would not refuse, `pids` being a threaded controller, but would make it a
/// threaded domain, in which no group takes a process.
fn limits(parent: &Path) -> bool {
    let has = |file, word| read(parent, file).split_whitespace().any(|one| one == word);
    let root = !parent.join("cgroup.type").exists();
    has("cgroup.controllers", "pids")
        && (has("cgroup.subtree_control", "pids")
            || (root || read(parent, "cgroup.procs").is_empty())
                && fs::write(parent.join("cgroup.subtree_control"), "+pids").is_ok())
}

/// Has each group count as one where processors are short, however many processes it has, and the agent as
/// another. Without it a fork bomb of 512 processes starved the agent on two emulated processors: a
/// deadline of 5 s was kept after 30 s, and with it after 6 s.
fn share_processors(parent: &Path) {
    // A kernel may not have it, or systemd not have handed it over: then it is as it was.
    let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
}

fn read(path: &Path, file: &str) -> String {
    fs::read_to_string(path.join(file)).unwrap_or_default()
}

/// systemd marks what it hands over with an attribute of value 1.
fn handed_over(path: &Path) -> bool {
    ["user.delegate", "trusted.delegate"].iter().any(|name| {
        let mut value = [0; 1];
        rustix::fs::getxattr(path, *name, &mut value).is_ok_and(|read| read == 1 && value == *b"1")
    })
}

/// Moves this process into a group below its own. Where that fails it stays, and groups have no limits.
fn step_down(path: &Path) {
    let made = fs::create_dir(path).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(error),
    });
    if let Err(error) = made.and_then(|()| fs::write(path.join("cgroup.procs"), "0")) {
        tracing::debug!(%error, "the control group that was handed over cannot be divided");
    }
}

/// Where the control group of a process is, from its `/proc/PID/mountinfo` and `/proc/PID/cgroup`.
fn own_folder(mounts: &str, own: &str) -> Option<PathBuf> {
    let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = Path::new(own.strip_suffix(" (deleted)").unwrap_or(own));
    mounts.lines().find_map(|line| {
        // 36 35 98:0 /root /mount/point options optional-fields... - type source options
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = own.strip_prefix(root).ok()?;
        Some(Path::new(&unescape(point)).join(below))
    })
}

/// `mountinfo` writes space, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let marks = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    marks.iter().fold(text.to_owned(), |text, (mark, plain)| text.replace(mark, plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    #[test]
    fn the_own_group_is_found_below_the_mount_point() {
        let unified =
            "24 30 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "30 24 0:9 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            31 30 0:23 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            41 30 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw";
        let part = "41 30 0:38 /a\\040b /mnt/a\\040b rw - cgroup2 none rw";
        let service = "0::/system.slice/infiniservice.service/agent\n";
        for (mounts, own, expected) in [
            (unified, service, Some("/sys/fs/cgroup/system.slice/infiniservice.service/agent")),
            (unified, "0::/\n", Some("/sys/fs/cgroup/")),
            (hybrid, "9:name=systemd:/x\n8:pids:/y\n0::/z\n", Some("/sys/fs/cgroup/unified/z")),
            (unified, "8:pids:/y\n", None),
            (part, "0::/z\n", None),
            ("", service, None),
        ] {
            assert_eq!(own_folder(mounts, own).as_deref(), expected.map(Path::new), "{own}");
        }
    }

    #[test]
    fn a_group_that_would_take_no_process_is_no_place_for_programs() {
        let Some(parent) = Parent::find() else {
            eprintln!("skipped: no control group can be made here");
            return;
        };
        let group = parent.group(None).unwrap();
        assert!(Parent::at(group.path.clone()).is_some());
        fs::create_dir(group.path.join("threads")).unwrap();
        fs::write(group.path.join("threads/cgroup.type"), "threaded").unwrap();
        assert!(Parent::at(group.path.clone()).is_none());
    }

    #[test]
    fn a_kernel_without_the_kill_file_kills_frozen_processes() {
        let Some(parent) = Parent::find() else {
            eprintln!("skipped: no control group can be made here");
            return;
        };
        let group = parent.group(None).unwrap();
        fs::create_dir(group.path.join("inner")).unwrap();
        let start = |_| Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let mut programs: Vec<_> = (0..3).map(start).collect();
        for (at, program) in programs.iter().enumerate() {
            let inner = Group { path: group.path.join("inner") };
            let group = if at == 0 { &inner } else { &group };
            group.take(Pid::from_child(program)).unwrap();
        }
        assert!(!group.is_empty() && !group.remove());
        group.kill_frozen();
        for program in &mut programs {
            let begun = Instant::now();
            assert!(!program.wait().unwrap().success());
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        assert!(group.is_empty() && group.remove());
    }
}
