//! A virtio-serial port under Linux: opens it once and interprets its states.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFlags, epoll::EventFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::time::Sleep;

use super::device::{Device, HostPresence, NotOpen, Received, Sent};
use super::discovery::must_be_character_device;
use super::flow_control::WINDOW_BYTES;
use super::readiness::{Readiness, level};
use crate::tasks::spawn_blocking;

/// How soon a write that returned 0 is tried again where no change is reported. The driver calls such
/// a port writable (`drivers/char/virtio_console.c`: a full ring is noted only after a buffer went
/// in), so no edge need follow.
const ZERO_RETRY: Duration = Duration::from_secs(1);

/// An open virtio-serial port.
///
/// What its results mean (`drivers/char/virtio_console.c`, confirmed on a real port): a read of 0 means that no
/// host is connected, which is not an end; `EAGAIN` from a write means either that or a full ring, and only poll(2)
/// says which; `ENODEV` means unplugged.
#[derive(Debug)]
pub(super) struct VirtioPort {
    fd: OwnedFd,
    watch: Readiness,
    retry: Option<Pin<Box<Sleep>>>,
}

/// Opens the character device `path` for both directions: the driver admits one opener, of any kind,
/// so a second descriptor for reading could never be had. Blocks, briefly.
pub(super) fn open(path: &Path, name: &str) -> Result<OwnedFd, NotOpen> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    // Checked before it is opened: opening a named pipe or a terminal has effects of its own.
    let look = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.file_type());
    look(path).map_err(|error| refusal(name, &error)).and_then(|what| {
        must_be_character_device(path, what).map_err(|error| NotOpen::Refused(error.to_string()))
    })?;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| refusal(name, &errno.into()))
}

impl VirtioPort {
    /// Takes over an open, non-blocking descriptor. Must be called inside a runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let watch = Readiness::new()?;
        watch.add(fd.as_fd(), EventFlags::IN | EventFlags::OUT)?;
        Ok(Self { fd, watch, retry: None })
    }
}

impl Device for VirtioPort {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.fd, &mut *into)) {
            Ok(0) => Ok(Received::Away),
            Ok(bytes) => Ok(Received::Bytes(bytes)),
            Err(Errno::AGAIN) => Ok(Received::Idle),
            Err(Errno::NODEV) => Ok(Received::Gone),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Sent> {
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, from)) {
            Ok(0) => {
                self.retry = Some(Box::pin(tokio::time::sleep(ZERO_RETRY)));
                Ok(Sent::Full)
            }
            Ok(bytes) => Ok(Sent::Took(bytes)),
            Err(Errno::AGAIN) if self.is_hung_up()? => Ok(Sent::Away),
            Err(Errno::AGAIN) => Ok(Sent::Full),
            Err(Errno::NODEV) => Ok(Sent::Gone),
            Err(error) => Err(error.into()),
        }
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(retry) = &mut self.retry
            && retry.as_mut().poll(cx).is_ready()
        {
            self.retry = None;
            return Poll::Ready(Ok(()));
        }
        self.watch.poll_changed(cx)
    }

    fn window(&self) -> Option<usize> {
        Some(WINDOW_BYTES)
    }

    fn level(&self) -> io::Result<Option<HostPresence>> {
        let now = level(self.fd.as_fd(), PollFlags::IN | PollFlags::OUT)?;
        let is = |flag| now.contains(flag);
        let (readable, writable) = (is(PollFlags::IN), is(PollFlags::OUT));
        Ok(Some(HostPresence { readable, writable, hung_up: is(PollFlags::HUP) }))
    }
}

impl VirtioPort {
    fn is_hung_up(&self) -> io::Result<bool> {
        Ok(level(self.fd.as_fd(), PollFlags::OUT)?.contains(PollFlags::HUP))
    }
}

/// Opens the port on the blocking pool.
pub(super) async fn open_on_pool(
    find: impl FnOnce() -> Option<PathBuf> + Send + 'static,
    name: String,
) -> Result<VirtioPort, NotOpen> {
    let label = name.clone();
    let opened = spawn_blocking(move || match find() {
        Some(path) => open(&path, &name),
        None => Err(NotOpen::Absent(format!(
            "there is no port {name:?} yet (is the channel defined in the VM?)"
        ))),
    });
    let fd = opened.await.unwrap_or_else(|panic| Err(NotOpen::Refused(panic.to_string())))?;
    VirtioPort::new(fd).map_err(|error| {
        NotOpen::Refused(format!(
            "port {label:?} cannot be waited on: {error} (is it a virtio-serial port?)"
        ))
    })
}

fn refusal(name: &str, error: &io::Error) -> NotOpen {
    match Errno::from_io_error(error) {
        Some(Errno::BUSY) => NotOpen::Busy(format!(
            "another process holds port {name:?}; only one may (end it, or give this one another port)"
        )),
        // ENXIO and ENODEV: the node is still there but the port behind it is not.
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => {
            NotOpen::Absent(format!("there is no port {name:?} yet ({error})"))
        }
        Some(Errno::ACCESS | Errno::PERM) => NotOpen::Refused(format!(
            "port {name:?} may not be opened: {error} (run as root, or let this user open it)"
        )),
        _ => NotOpen::Refused(format!("cannot open port {name:?}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    use super::*;

    /// A named pipe is the nearest thing to the port that every machine has: its reader sees 0 and a
    /// hang-up while there is no writer, and works again.
    struct Pipe {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    impl Pipe {
        fn new() -> (Self, VirtioPort) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("port");
            rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                Mode::RUSR | Mode::WUSR,
                0,
            )
            .unwrap();
            let fd =
                rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap();
            (Self { _dir: dir, path }, VirtioPort::new(fd).unwrap())
        }

        fn connect(&self) -> std::fs::File {
            let flags = OFlags::NONBLOCK.bits() as i32;
            std::fs::OpenOptions::new().write(true).custom_flags(flags).open(&self.path).unwrap()
        }
    }

    /// Whether a change is reported before everything else on this thread is idle for 20 ms.
    async fn changed(port: &mut VirtioPort) -> bool {
        let change = poll_fn(|cx| port.poll_changed(cx));
        tokio::time::timeout(Duration::from_millis(20), change).await.is_ok()
    }

    #[tokio::test]
    async fn a_hang_up_wakes_once_and_the_same_descriptor_lives_again() {
        let (pipe, mut port) = Pipe::new();
        let mut buffer = [0; 64];
        while changed(&mut port).await {}
        assert_eq!(port.read(&mut buffer).unwrap(), Received::Away);
        assert!(!changed(&mut port).await, "nobody there: no wake-up");

        for _ in 0..3 {
            let mut host = pipe.connect();
            host.write_all(b"hello").unwrap();
            assert!(changed(&mut port).await);
            assert_eq!(port.read(&mut buffer).unwrap(), Received::Bytes(5));
            assert_eq!(port.read(&mut buffer).unwrap(), Received::Idle);
            host.write_all(b"last").unwrap();
            drop(host);
            assert!(changed(&mut port).await);
            assert_eq!(port.read(&mut buffer).unwrap(), Received::Bytes(4), "data first");
            assert_eq!(port.read(&mut buffer).unwrap(), Received::Away, "then the hang-up");
            assert!(!changed(&mut port).await, "the hang-up lasts, its wake-up does not");
        }
    }

    #[tokio::test]
    async fn a_full_port_is_full_and_room_wakes_the_writer() {
        let (ours, host) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut port = VirtioPort::new(ours.into()).unwrap();
        let mut written = 0;
        while let Sent::Took(bytes) = port.write(&[b'x'; 32 * 1024]).unwrap() {
            written += bytes;
        }
        assert_eq!(port.write(b"x").unwrap(), Sent::Full);
        while changed(&mut port).await {}
        let mut taken = vec![0; written];
        std::io::Read::read_exact(&mut (&host), &mut taken).unwrap();
        assert!(changed(&mut port).await);
        assert!(matches!(port.write(b"x").unwrap(), Sent::Took(1)));
    }

    #[tokio::test]
    async fn what_is_no_port_is_refused_with_a_reason() {
        let open = |path: &'static str| open_on_pool(move || Some(path.into()), path.to_owned());
        let absent = open("/dev/vport99p99").await.unwrap_err();
        assert!(
            matches!(&absent, NotOpen::Absent(why) if why.contains("there is no port \"/dev/vport99p99\" yet")),
            "{absent}"
        );
        let file = open("/proc/self/status").await.unwrap_err();
        assert!(
            matches!(&file, NotOpen::Refused(why) if why.contains("a regular file, not a character device")),
            "{file}"
        );
        let null = open("/dev/null").await.unwrap_err();
        assert!(
            matches!(&null, NotOpen::Refused(why) if why.contains("cannot be waited on")),
            "{null}"
        );
        let busy = refusal("p", &Errno::BUSY.into());
        assert!(
            matches!(&busy, NotOpen::Busy(why) if why.starts_with("another process holds port \"p\"; only one may"))
        );
    }
}
