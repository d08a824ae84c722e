//! A Unix stream socket in the place of the port: how a test, or a host without QEMU, plays the other
//! end. Does not listen.

use std::io;
use std::path::Path;
use std::task::{Context, Poll};

use tokio::net::UnixStream;

use super::device::{Device, NotOpen, Received, Sent};

/// A connection to the socket. Unlike the port, its end is final: a new host is a new connection.
#[derive(Debug)]
pub(super) struct UnixPort {
    stream: UnixStream,
    /// The last read, or write, found nothing to do, so that its readiness is worth waiting for.
    wants: Wants,
}

#[derive(Debug, Default)]
struct Wants {
    bytes: bool,
    room: bool,
}

/// Connects to the socket at `path`: at once or not at all, as Unix sockets do.
pub(super) async fn connect(path: &Path) -> Result<UnixPort, NotOpen> {
    match UnixStream::connect(path).await {
        Ok(stream) => Ok(UnixPort { stream, wants: Wants::default() }),
        Err(error) => Err(refusal(path, &error)),
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
        // Readiness that nobody waits for is there nearly always: asking for it would spin.
        let bytes = self.wants.bytes && self.stream.poll_read_ready(cx)?.is_ready();
        let room = self.wants.room && self.stream.poll_write_ready(cx)?.is_ready();
        self.wants.bytes &= !bytes;
        self.wants.room &= !room;
        if bytes || room { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
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
