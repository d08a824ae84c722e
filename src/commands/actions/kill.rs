//! Ends one process, and never another one that got its id. Does not decide who may ask.
//!
//! # Why a pidfd
//! Between looking at a process and signalling it, it can end and its id go to another one. A pidfd
//! (`pidfd_open(2)`) stays with the process: it is opened first, then the process is looked at, then the
//! pidfd says that it has not ended, so what was looked at was this process; and the signal goes
//! through the pidfd.

use super::KillError;
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

/// How long to wait for the end, so that the answer can say whether it came.
const PATIENCE: Duration = Duration::from_secs(2);
/// `PF_KTHREAD` in include/linux/sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Killed {
    pub pid: u32,
    pub name: String,
    /// `SIGTERM` or `SIGKILL`.
    pub signal: &'static str,
    /// Whether it has ended since.
    pub ended: bool,
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, name, signal, ended } = self;
        let end = if *ended { "and it ended" } else { "but it has not ended yet" };
        write!(f, "{signal} was sent to process {pid} ({name}), {end}")
    }
}

/// Signals process `pid` and waits up to 2 s, or to the deadline, for its end. Blocks.
///
/// # Errors
/// Why it was not done, as the end of a sentence.
pub(super) fn end(pid: u32, force: bool, own: u32, deadline: Instant) -> Result<Killed, KillError> {
    if pid <= 1 {
        return Err(KillError::System(pid));
    }
    if pid == own {
        return Err(KillError::Agent(pid));
    }
    let none = || KillError::NotFound(pid);
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(none)?;
    let handle = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(Errno::SRCH) => return Err(none()),
        // A thread that leads no process: EINVAL, since Linux 6.9 ENOENT.
        Err(Errno::INVAL | Errno::NOENT) => return Err(thread(pid)),
        Err(error) => return Err(KillError::Refused { verb: "open", pid, error }),
    };
    let stat = std::fs::read(format!("/proc/{pid}/stat")).map_err(|_| none())?;
    let process = parse(&stat).ok_or(KillError::Unreadable(pid))?;
    // Not ended: so what was read is of this very process.
    if has_ended(&handle, Duration::ZERO) {
        return Err(if process.is_zombie { KillError::Zombie(pid, process.name) } else { none() });
    }
    if process.flags & KERNEL_THREAD != 0 {
        return Err(KillError::Kernel(pid, process.name));
    }
    let (signal, name) = if force { (Signal::KILL, "SIGKILL") } else { (Signal::TERM, "SIGTERM") };
    match pidfd_send_signal(&handle, signal) {
        Ok(()) => {}
        Err(Errno::SRCH) => return Err(none()),
        Err(Errno::PERM) => return Err(KillError::OtherUser(pid, process.name)),
        Err(error) => return Err(KillError::Refused { verb: "signal", pid, error }),
    }
    let patience = deadline.saturating_duration_since(Instant::now()).min(PATIENCE);
    let ended = has_ended(&handle, patience);
    Ok(Killed { pid, name: process.name, signal: name, ended })
}

fn thread(pid: u32) -> KillError {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let leader = status.lines().find_map(|line| line.strip_prefix("Tgid:")).map(str::trim);
    KillError::Thread { pid, leader: leader.unwrap_or("another").to_owned() }
}

/// A pidfd becomes readable when its process has ended, waited for or not.
fn has_ended(handle: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(Errno::INTR) => {}
            answer => return answer.is_ok_and(|ready| ready > 0),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    name: String,
    is_zombie: bool,
    flags: u64,
}

/// Name, state and flags of `/proc/PID/stat` (`proc_pid_stat(5)`). The name ends at the last `)`.
fn parse(stat: &[u8]) -> Option<Seen> {
    let open = memchr::memchr(b'(', stat)?;
    let close = memchr::memrchr(b')', stat)?;
    let name = String::from_utf8_lossy(stat.get(open + 1..close)?).replace('\0', "");
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut words = rest.split_whitespace();
    let is_zombie = matches!(words.next()?, "Z" | "X" | "x"); // field 3
    let flags = words.nth(5)?.parse().ok()?; // field 9
    Some(Seen { name, is_zombie, flags })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    fn own() -> u32 {
        std::process::id()
    }

    struct Started(Child);
    impl Started {
        /// Runs a shell line, and returns when it has written one byte.
        fn shell(line: &str) -> Self {
            let mut child =
                Command::new("sh").args(["-c", line]).stdout(Stdio::piped()).spawn().unwrap();
            let mut byte = [0];
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
            Self(child)
        }
    }
    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_process_is_asked_to_end_and_force_does_not_ask() {
        let mut polite = Started::shell("echo; exec sleep 60");
        let killed = end(polite.0.id(), false, own(), soon()).unwrap();
        assert!(killed.ended && killed.signal == "SIGTERM");
        assert_eq!(polite.0.wait().unwrap().signal(), Some(15));

        let mut deaf = Started::shell("trap '' TERM; echo; while :; do sleep 60 & wait; done");
        let near = Instant::now() + Duration::from_millis(100);
        let killed = end(deaf.0.id(), false, own(), near).unwrap();
        assert!(!killed.ended && killed.to_string().contains("has not ended yet"));
        let killed = end(deaf.0.id(), true, own(), soon()).unwrap();
        assert!(killed.ended && killed.signal == "SIGKILL");
        assert_eq!(deaf.0.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn what_holds_the_machine_up_is_refused() {
        for pid in [0, 1] {
            assert!(
                end(pid, true, own(), soon())
                    .unwrap_err()
                    .to_string()
                    .contains("the system itself")
            );
        }
        assert!(end(own(), true, own(), soon()).unwrap_err().to_string().contains("this agent"));
        // Process 2 starts all threads of the kernel, where the kernel's are to be seen at all.
        if std::fs::read("/proc/2/comm").is_ok_and(|name| name == b"kthreadd\n") {
            assert!(end(2, true, own(), soon()).unwrap_err().to_string().contains("kernel"));
        }
    }

    #[test]
    fn a_thread_of_the_agent_is_no_process() {
        let (tell, pids) = std::sync::mpsc::sync_channel(1);
        let (release, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
            let _ = wait.recv();
        });
        let id = pids.recv().unwrap().unsigned_abs();
        let error = end(id, true, own(), soon()).unwrap_err().to_string();
        assert!(error.contains(&format!("thread of process {}", own())), "{error}");
        drop(release);
        thread.join().unwrap();
    }

    #[test]
    fn one_that_has_ended_is_not_signalled() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        // It ends without being waited for: a zombie.
        let handle = pidfd_open(Pid::from_raw(pid as i32).unwrap(), PidfdFlags::empty()).unwrap();
        assert!(has_ended(&handle, Duration::from_secs(30)));
        let error = end(pid, true, own(), soon()).unwrap_err().to_string();
        assert!(error.contains("has ended already"), "{error}");
        child.wait().unwrap();
        for gone in [pid, u32::MAX, 4_194_305] {
            assert!(
                end(gone, true, own(), soon()).unwrap_err().to_string().contains("no process"),
                "{gone}"
            );
        }
    }

    #[test]
    fn flags_are_found_behind_any_name() {
        let stat = b"7 (a) Z (b) S 1 7 7 0 -1 2129984 0 0";
        let seen = parse(stat).unwrap();
        assert_eq!((seen.name.as_str(), seen.is_zombie), ("a) Z (b", false));
        assert_ne!(seen.flags & KERNEL_THREAD, 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>, text in "[0-9() SZ-]{0,80}") {
            let _ = (parse(&bytes), parse(text.as_bytes()));
        }
    }
}
