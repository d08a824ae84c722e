//! What Linux reports of the machine: its clocks, its ids, and a wake-up when one of them jumps.
//! Judges nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::detect::{Clocks, Generation};
use super::identity;
use crate::values::hex;

/// Tries to read three clocks without being interrupted in between.
const TRIES: usize = 5;
/// Three clocks read within this were read at once.
const AT_ONCE_NS: i64 = 1_000_000;
/// The longest file read; the page with the generation's id is the longest there is.
const FILE_MAX: usize = 4096;
/// Where the id is in that page (`VMGENID_GUID_OFFSET` of QEMU's include/hw/acpi/vmgenid.h).
const GUID: std::ops::Range<usize> = 40..56;
/// More than an event has (`UEVENT_BUFFER_SIZE` of linux/kobject.h, 2 KiB, and its path).
const EVENT_MAX: usize = 8 * 1024;
/// The group of the kernel's own events; udev's are in group 2 (`lib/kobject_uevent.c`).
const FROM_KERNEL: u32 = 1;

/// One look at this machine; `reported` is how many new generations the kernel has reported, `due_ns` when the
/// look was to happen. Files are below `root`, which is `/` but in a test. Blocks for some milliseconds
/// where the battery-backed clock is just being updated: not for an async worker.
pub(super) fn read_clocks(root: &Path, reported: u64, due_ns: i64) -> Clocks {
    let file = |path: &str| read(&root.join(path));
    let rtc_seconds =
        file("sys/class/rtc/rtc0/since_epoch").and_then(|text| text.trim().parse().ok());
    let page = root.join("sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw");
    let id = bytes(&page).and_then(|page| Some(identity::digest("vmgenid", &hex(page.get(GUID)?))));
    let read_once = || {
        let monotonic_ns = nanoseconds(ClockId::Monotonic);
        let boottime_ns = nanoseconds(ClockId::Boottime);
        let realtime_ns = nanoseconds(ClockId::Realtime);
        let slack_ns = nanoseconds(ClockId::Monotonic).saturating_sub(monotonic_ns);
        Clocks { monotonic_ns, boottime_ns, realtime_ns, slack_ns, ..Clocks::default() }
    };
    let mut clocks = read_once();
    for _ in 1..TRIES {
        if clocks.slack_ns <= AT_ONCE_NS {
            break;
        }
        let again = read_once();
        if again.slack_ns < clocks.slack_ns {
            clocks = again;
        }
    }
    let generation = Generation { reported, id };
    Clocks { due_ns, rtc_seconds, generation, identity: identity_of(root), ..clocks }
}

/// The machine's identity, from the files below `root`: see [`identity()`](super::identity()).
pub(super) fn identity_of(root: &Path) -> String {
    // The order of machine-id(5) and of D-Bus before it.
    let mut machine_ids = ["etc/machine-id", "var/lib/dbus/machine-id"].iter();
    let machine_id = machine_ids.find_map(|path| read(&root.join(path)));
    // Only root may read it.
    let product_uuid = read(&root.join("sys/class/dmi/id/product_uuid"));
    identity::identity_of_ids(machine_id.as_deref(), product_uuid.as_deref())
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(super) fn monotonic_ns() -> i64 {
    nanoseconds(ClockId::Monotonic)
}

/// Wakes when the wall clock jumps against the monotonic one: when it is set, and when the machine comes
/// back from a suspend. Costs nothing else.
///
/// `TFD_TIMER_CANCEL_ON_SET` (timerfd_create(2), `fs/timerfd.c`): a timer far away, cancelled by a jump.
/// The kernel compares the offset of the two clocks, and a resume changes that too
/// (`timerfd_resume`, called from `timekeeping_resume` of kernel/time/timekeeping.c).
#[derive(Debug)]
pub(super) struct ClockChanges(AsyncFd<OwnedFd>);

impl ClockChanges {
    /// Watches from now on. Must be called inside a runtime that has its I/O driver on.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        arm(&timer)?;
        Ok(Self(watched(timer)?))
    }

    /// Comes back after a jump. Dropping the future loses none.
    pub(super) async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut expirations = [0; 8];
            match rustix::io::read(self.0.get_ref(), &mut expirations) {
                Err(rustix::io::Errno::CANCELED) | Ok(_) => {
                    ready.clear_ready();
                    arm(self.0.get_ref())?;
                    return Ok(());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The kernel's word that the hypervisor has given the machine a new generation id: it was restored from
/// a snapshot, or copied.
///
/// `NEW_VMGENID=1` in an event of the device (`vmgenid_notify` of drivers/virt/vmgenid.c, Linux 6.8), where
/// the machine has one (`-device vmgenid`; `<genid/>` in libvirt). Every other event of the kernel wakes too:
/// on a quiet machine there is none, and a storm of them costs one wake for what has gathered.
#[derive(Debug)]
pub(super) struct Generations(AsyncFd<OwnedFd>);

impl Generations {
    /// Listens from now on. Must be called inside a runtime that has its I/O driver on.
    pub(super) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            flags,
            Some(netlink::KOBJECT_UEVENT),
        )?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, FROM_KERNEL))?;
        Ok(Self(watched(socket)?))
    }

    /// Comes back after a new generation. Dropping the future loses none.
    pub(super) async fn next(&self) -> io::Result<()> {
        let mut event = vec![0; EVENT_MAX];
        loop {
            let mut ready = self.0.readable().await?;
            match rustix::net::recvfrom(self.0.get_ref(), &mut event[..], RecvFlags::DONTWAIT) {
                Ok((_, length, from)) => {
                    let from = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                    let is_kernel = from.is_some_and(|from| from.pid() == 0);
                    if is_kernel && is_new_generation(event.get(..length).unwrap_or_default()) {
                        return Ok(());
                    }
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                // Events were lost; was this one among them, its id tells at the next look.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// An event is a header and its variables, each ended by a NUL.
fn is_new_generation(event: &[u8]) -> bool {
    event.split(|byte| *byte == 0).any(|variable| variable == b"NEW_VMGENID=1")
}

/// For the latest time there is: all that is wanted is the cancellation.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Timespec { tv_sec: i64::MAX, tv_nsec: 0 };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: never };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    match timerfd_settime(timer.as_fd(), flags, &once) {
        // Armed all the same; the clock jumped since the timer was last read.
        Ok(_) | Err(rustix::io::Errno::CANCELED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "the successor is an unsafe fn; an OwnedFd keeps its promise")]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

fn read(path: &Path) -> Option<String> {
    bytes(path).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_MAX as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(root: &Path, path: &str, content: &[u8]) {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn a_look_finds_the_clocks_of_this_machine_in_their_order() {
        let clocks = read_clocks(Path::new("/"), 3, 7);
        let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(clocks.monotonic_ns > 0 && clocks.boottime_ns >= clocks.monotonic_ns);
        assert!((real.as_nanos() as i64 - clocks.realtime_ns) < 10_000_000_000);
        assert_eq!((clocks.due_ns, clocks.generation.reported), (7, 3));
        assert!(clocks.slack_ns >= 0);
    }

    #[test]
    fn what_a_machine_says_of_itself_is_read_below_the_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(identity_of(root.path()), "1.0.0");
        let bare = read_clocks(root.path(), 0, 0);
        assert_eq!((bare.rtc_seconds, bare.generation.id), (None, None));

        below(root.path(), "var/lib/dbus/machine-id", b"3d1219c7c4c5404aaa1f6d2a48adfda4\n");
        below(root.path(), "sys/class/rtc/rtc0/since_epoch", b"1700000000\n");
        let uuid = b"8f3c2d10-6f0e-4b0e-9a55-0c6a3f1d2b11\n";
        below(root.path(), "sys/class/dmi/id/product_uuid", uuid);
        let page = "sys/firmware/qemu_fw_cfg/by_name/etc/vmgenid_guid/raw";
        below(root.path(), page, &[7; 4096]);
        let one = read_clocks(root.path(), 0, 0);
        assert_eq!(one.rtc_seconds, Some(1_700_000_000));
        assert_eq!(one.identity.len(), 2 + 32 + 1 + 32, "both parts are known: {}", one.identity);
        below(root.path(), page, &[8; 4096]);
        let other = read_clocks(root.path(), 0, 0);
        assert!(one.generation.id.is_some() && one.generation != other.generation);
        assert_eq!(one.identity, other.identity, "a generation changes at a mere restart of QEMU");
        below(root.path(), page, &[8; 50]);
        assert_eq!(read_clocks(root.path(), 0, 0).generation.id, None, "half a page has no id");
    }

    #[test]
    fn only_the_event_of_a_new_generation_is_one() {
        let event =
            b"change@/devices/LNXSYSTM:00/QEMUVGID:00\0ACTION=change\0NEW_VMGENID=1\0SEQNUM=9\0";
        assert!(is_new_generation(event));
        for other in [&b""[..], b"add@/x\0ACTION=add\0", b"NEW_VMGENID=10\0", b"X=NEW_VMGENID=1\0"]
        {
            assert!(!is_new_generation(other));
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_wakes_as_long_as_nothing_jumps() {
        let jumps = ClockChanges::new().unwrap();
        let patience = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(patience, jumps.next()).await.is_err());
        if let Ok(generations) = Generations::new() {
            assert!(tokio::time::timeout(patience, generations.next()).await.is_err());
        }
    }
}
