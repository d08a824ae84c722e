//! The kernel's files and clocks: reading into one reused buffer, when the machine booted, how many processors it has.
//! Texts are parsed by `parse`.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom};
use rustix::path::Arg;
use rustix::time::{ClockId, clock_gettime};

use super::parse;

/// The longest file taken: a table of 100,000 sockets is 15 MiB.
const FILE_MAX: usize = 32 * 1024 * 1024;
/// A buffer that one odd reading has blown up is given back when it is larger than this.
const KEPT: usize = 256 * 1024;

/// The list of the processors that run now, and of those that the machine can have while this kernel runs
/// (`Documentation/admin-guide/cputopology.rst`).
pub(super) const ONLINE: &str = "/sys/devices/system/cpu/online";
pub(super) const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// Reads whole files into one buffer, which is kept from file to file.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// The content of a file.
    pub(super) fn read(&mut self, path: impl Arg) -> io::Result<&[u8]> {
        self.read_at(CWD, path)
    }

    /// The content of a file below a directory.
    pub(super) fn read_at(&mut self, dir: BorrowedFd<'_>, path: impl Arg) -> io::Result<&[u8]> {
        let file = self.open(dir, path)?;
        loop {
            self.buffer.reserve(4096.max(self.buffer.len()));
            if retry(|| rustix::io::read(&file, spare_capacity(&mut self.buffer)))? == 0 {
                return Ok(&self.buffer);
            }
            if self.buffer.len() > FILE_MAX {
                return Err(io::Error::other("the file is longer than 32 MiB"));
            }
        }
    }

    /// What one read of at most `max` bytes gives: enough for the small files of one process, which
    /// the kernel hands over whole, and one system call less for each.
    pub(super) fn read_once_at(
        &mut self,
        dir: BorrowedFd<'_>,
        path: impl Arg,
        max: usize,
    ) -> io::Result<&[u8]> {
        let file = self.open(dir, path)?;
        self.buffer.resize(max, 0);
        let read = retry(|| rustix::io::read(&file, self.buffer.as_mut_slice()))?;
        Ok(&self.buffer[..read.min(max)])
    }

    /// How many processors are in `list`; as many as this process may use where it cannot be read.
    pub(super) fn processors(&mut self, list: &str) -> usize {
        let listed = self.read(list).ok().and_then(parse::count_listed);
        listed.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1)
    }

    fn open(&mut self, dir: BorrowedFd<'_>, path: impl Arg) -> io::Result<OwnedFd> {
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
        self.buffer.clear();
        Ok(rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

/// `/proc`, held open: the one descriptor that stands for all processes.
#[derive(Debug)]
pub(super) struct Processes {
    dir: OwnedFd,
    path: String,
    entries: Vec<u8>,
}

impl Processes {
    /// Opens `/proc`.
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self { dir: directory(CWD, "/proc")?, path: String::new(), entries: Vec::new() })
    }

    /// Whether the ids here are those of this process's own namespace.
    pub(super) fn is_of_this_namespace(&self) -> bool {
        let mut target = [0_u8; 16];
        let length = rustix::fs::readlinkat_raw(&self.dir, "self", &mut target).unwrap_or(0);
        parse::number(&target[..length]) == Some(std::process::id().into())
    }

    /// Opens a file of a process.
    pub(super) fn open_file(&mut self, pid: u32, name: &str) -> io::Result<OwnedFd> {
        let (dir, path) = self.file(pid, name);
        Ok(rustix::fs::openat(dir, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// The process ids there are now, in ascending order, into a list that is reused.
    pub(super) fn pids(&mut self, pids: &mut Vec<u32>) -> io::Result<()> {
        pids.clear();
        each_number(&self.dir, &mut self.entries, |pid| pids.push(pid))?;
        pids.sort_unstable();
        Ok(())
    }

    /// The directory and a path in it that belongs to a process: `("/proc", "7/stat")`.
    pub(super) fn file(&mut self, pid: u32, name: &str) -> (BorrowedFd<'_>, &str) {
        self.path.clear();
        let _ = write!(self.path, "{pid}/{name}");
        (self.dir.as_fd(), &self.path)
    }

    /// Where a link of a process leads; `None` where it may not be read or leads nowhere. What the
    /// kernel adds to the name of a file that is gone is taken off.
    pub(super) fn link(&mut self, pid: u32, name: &str) -> Option<String> {
        let mut target = [0_u8; 4096];
        let (dir, path) = self.file(pid, name);
        let length = rustix::fs::readlinkat_raw(dir, path, &mut target).ok()?;
        let target = target.get(..length)?;
        Some(parse::lossy(target.strip_suffix(b" (deleted)").unwrap_or(target)))
    }

    /// The descriptors of a process, each with the inode of the socket it is, where it is one.
    pub(super) fn sockets(&mut self, pid: u32, mut each: impl FnMut(u32, u32)) -> io::Result<()> {
        let (proc, path) = self.file(pid, "fd");
        let dir = directory(proc, path)?;
        let mut target = [0_u8; 64];
        each_number(&dir, &mut self.entries, |descriptor| {
            let mut name = [0_u8; 12];
            if let Some(inode) = socket_link(&dir, digits(descriptor, &mut name), &mut target) {
                each(descriptor, inode);
            }
        })
    }

    /// Whether a descriptor of a process still is the socket with this inode.
    pub(super) fn holds(&mut self, pid: u32, descriptor: u32, inode: u32) -> bool {
        let mut name = [0_u8; 12];
        let name = format_args!("fd/{}", digits(descriptor, &mut name)).to_string();
        let (dir, path) = self.file(pid, &name);
        socket_link(dir, path, &mut [0_u8; 64]) == Some(inode)
    }
}

/// When the machine booted, by the wall clock.
///
/// # Why not `btime`
/// `/proc/stat` gives whole seconds and costs a walk over all interrupts. The two clocks give
/// it exactly; their difference wanders by the time between the two calls, so a new value is taken
/// only when the wall clock has been set, that is when it differs by more than 100 ms.
#[derive(Debug, Default)]
pub(super) struct BootTime(Option<SystemTime>);

impl BootTime {
    /// The time, the same at every call until the clock is set.
    pub(super) fn get(&mut self) -> SystemTime {
        let now = SystemTime::now().checked_sub(since_boot()).unwrap_or(SystemTime::UNIX_EPOCH);
        match self.0 {
            Some(known) if distance(known, now) <= Duration::from_millis(100) => known,
            _ => *self.0.insert(now),
        }
    }
}

/// Time since the machine booted, suspended time included.
pub(super) fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
}

/// Opens a directory.
pub(super) fn directory(dir: BorrowedFd<'_>, path: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, path, flags, Mode::empty())?)
}

/// Calls `each` for every entry of an open directory whose name is a number.
pub(super) fn each_number(
    dir: impl AsFd,
    entries: &mut Vec<u8>,
    mut each: impl FnMut(u32),
) -> io::Result<()> {
    rustix::fs::seek(dir.as_fd(), SeekFrom::Start(0))?;
    entries.clear();
    entries.reserve(8192);
    let mut listing = RawDir::new(dir, entries.spare_capacity_mut());
    while let Some(entry) = listing.next() {
        if let Some(value) = parse::number(entry?.file_name().to_bytes()) {
            each(u32::try_from(value).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

fn socket_link(dir: impl AsFd, name: &str, target: &mut [u8; 64]) -> Option<u32> {
    let length = rustix::fs::readlinkat_raw(dir, name, &mut target[..]).ok()?;
    let inode = target.get(..length)?.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    parse::number(inode)?.try_into().ok()
}

fn digits(mut value: u32, into: &mut [u8; 12]) -> &str {
    let mut start = into.len();
    loop {
        start -= 1;
        into[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return std::str::from_utf8(&into[start..]).unwrap_or_default();
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    Ok(rustix::io::retry_on_intr(&mut call)?)
}

fn distance(a: SystemTime, b: SystemTime) -> Duration {
    a.duration_since(b).unwrap_or_else(|earlier| earlier.duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_longer_than_the_buffer_comes_whole() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let content: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        std::fs::write(path.path(), &content).unwrap();
        let mut reader = Reader::default();
        assert_eq!(reader.read(path.path()).unwrap(), content);
        assert_eq!(reader.read("/proc/self/comm").unwrap().last(), Some(&b'\n'));
        let error = reader.read("/proc/no-such-file").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_process_is_found_with_its_sockets() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut processes = Processes::open().unwrap();
        let (mut pids, mut inodes) = (Vec::new(), Vec::new());
        processes.pids(&mut pids).unwrap();
        let me = std::process::id();
        assert!(pids.contains(&me) && pids.is_sorted());
        processes.sockets(me, |descriptor, inode| inodes.push((descriptor, inode))).unwrap();
        let mine = std::os::fd::AsRawFd::as_raw_fd(&socket) as u32;
        let inode = inodes.iter().find(|(descriptor, _)| *descriptor == mine).unwrap().1;
        assert!(processes.holds(me, mine, inode));
        assert!(!processes.holds(me, mine, inode + 1));
    }

    #[test]
    fn boot_time_agrees_with_the_kernel_and_does_not_wander() {
        let mut boot = BootTime::default();
        let first = boot.get();
        assert_eq!(first, boot.get());
        let text = std::fs::read("/proc/stat").unwrap();
        let btime = parse::value(&text, b"btime ").and_then(parse::number).unwrap();
        let kernel = SystemTime::UNIX_EPOCH + Duration::from_secs(btime);
        assert!(distance(first, kernel) <= Duration::from_millis(1_100), "{first:?} {kernel:?}");
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for value in [0, 7, 10, 4_294_967_295] {
            assert_eq!(digits(value, &mut [0; 12]), value.to_string());
        }
    }
}
