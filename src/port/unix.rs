//! A Unix stream socket as the port: for tests, and for a host without QEMU. This side connects.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::task::{Context, Poll};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::device::{Device, NotOpen, Received, Sent};

/// A connection to the socket. Unlike a virtio-serial port, its end is final: a new host is a new connection.
#[derive(Debug)]
pub(super) struct UnixPort {
    stream: UnixStream,
    /// Which readiness to wait for: set by a read or write that found nothing to do.
    wants: WaitsFor,
}

#[derive(Debug, Default)]
struct WaitsFor {
    bytes: bool,
    room: bool,
}

impl UnixPort {
    /// Over a connected stream socket.
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, wants: WaitsFor::default() }
    }
}

/// Connects to the socket at `path`: at once or not at all, as Unix sockets do.
pub(super) async fn connect(path: &Path) -> Result<UnixPort, NotOpen> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(UnixPort::new(stream)),
        Err(error) => Err(refusal(path, &error)),
    }
}

/// Waits until something is created at `path` or moved there. Never returns if the folder cannot be watched.
pub(super) async fn appears(path: &Path) {
    if made(path).await.is_none() {
        std::future::pending().await
    }
}

async fn made(path: &Path) -> Option<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
    let mask = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, folder, mask).ok()?;
    #[expect(deprecated, reason = "the successor is an unsafe fn; an OwnedFd keeps its promise")]
    let fd = AsyncFd::with_interest(fd, Interest::READABLE).ok()?;
    loop {
        let mut ready = fd.readable().await.ok()?;
        // An event with the longest name there is takes 272 bytes (inotify(7)).
        let mut buffer = [MaybeUninit::uninit(); 1024];
        let mut events = Reader::new(fd.get_ref(), &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes());
                    if name == path.file_name().map(|name| name.as_bytes()) {
                        return Some(());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => return None,
            }
        }
        ready.clear_ready();
    }
}

impl Device for UnixPort {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        match self.stream.try_read(into) {
            Ok(0) => Ok(Received::Gone),
            Ok(bytes) => Ok(Received::Bytes(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wants.bytes = true;
                Ok(Received::Idle)
            }
            Err(error) if is_broken(&error) => Ok(Received::Gone),
            Err(error) => Err(error),
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Sent> {
        match self.stream.try_write(from) {
            Ok(bytes) => Ok(Sent::Took(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wants.room = true;
                Ok(Sent::Full)
            }
            Err(error) if is_broken(&error) => Ok(Sent::Gone),
            Err(error) => Err(error),
        }
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Readiness that is not awaited is nearly always there: polling it would spin.
        let bytes = self.wants.bytes && self.stream.poll_read_ready(cx)?.is_ready();
        let room = self.wants.room && self.stream.poll_write_ready(cx)?.is_ready();
        self.wants.bytes &= !bytes;
        self.wants.room &= !room;
        if bytes || room { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

fn refusal(path: &Path, error: &io::Error) -> NotOpen {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            NotOpen::Absent(format!("there is no socket {path} yet (is the host's side started?)"))
        }
        io::ErrorKind::ConnectionRefused => NotOpen::Absent(format!(
            "nobody listens at the socket {path} yet (is the host's side started?)"
        )),
        _ => NotOpen::Refused(format!("cannot connect to the socket {path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    #[tokio::test]
    async fn a_socket_that_is_made_or_moved_there_is_seen_at_once_and_another_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, beside) = (dir.path().join("vm.sock"), dir.path().join("beside"));
        for moved in [false, true] {
            let mut seen = std::pin::pin!(appears(&path));
            assert!(futures::poll!(&mut seen).is_pending());
            drop(UnixListener::bind(&beside).unwrap());
            let early = tokio::time::timeout(Duration::from_millis(20), &mut seen).await;
            assert!(early.is_err(), "another one");
            match moved {
                true => std::fs::rename(&beside, &path).unwrap(),
                false => drop(UnixListener::bind(&path).unwrap()),
            }
            tokio::time::timeout(Duration::from_secs(30), seen).await.unwrap();
            let _ = std::fs::remove_file(&beside);
            std::fs::remove_file(&path).unwrap();
        }
    }
}
