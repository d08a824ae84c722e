//! Standard output and input as the port: for a person, or a pipe. It never changes the flags of a descriptor that
//! other processes share, and never blocks in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::event::{PollFlags, epoll::EventFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::device::{Device, NotOpen, Received, Sent};
use super::readiness::{Readiness, level};

/// Linux `PIPE_BUF`: a pipe that polls writable takes this much without blocking (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Standard output, and standard input if it is a terminal, a pipe or a socket.
///
/// The end of input is no error and stops nothing. When the reader of the output has gone, a write returns
/// [`Sent::Over`].
///
/// # Why
/// `O_NONBLOCK` belongs to the open file, not to the descriptor: set here, it would break the shell that shares it.
/// So both are reopened through `/proc/self/fd`, which gives separate open files; where that is impossible (a
/// socket, another user's terminal), poll(2) is called before each step and the steps are small.
/// `tokio::io::{stdin, stdout}` hand a blocking call to a thread, and a read that waits there keeps the runtime
/// from shutting down.
#[derive(Debug)]
pub(super) struct Stdio {
    output: End,
    input: Option<End>,
    watch: Readiness,
}

/// Takes standard output and input. Must be called inside a runtime.
pub(super) fn open() -> Result<Stdio, NotOpen> {
    let refused =
        |error: io::Error| NotOpen::Refused(format!("cannot use standard output: {error}"));
    Stdio::new(rustix::stdio::stdin(), rustix::stdio::stdout()).map_err(refused)
}

impl Stdio {
    fn new(input: BorrowedFd<'_>, output: BorrowedFd<'_>) -> io::Result<Self> {
        let watch = Readiness::new()?;
        let output = End::new(output, OFlags::WRONLY)?;
        if output.can_wait {
            watch.add(output.fd.as_fd(), EventFlags::OUT)?;
        }
        // A closed standard input is no input, like an empty one.
        let input = End::new(input, OFlags::RDONLY).ok().filter(|end| end.can_wait);
        if let Some(end) = &input {
            watch.add(end.fd.as_fd(), EventFlags::IN)?;
        }
        Ok(Self { output, input, watch })
    }

    fn close_input(&mut self) -> io::Result<Received> {
        if let Some(end) = self.input.take() {
            self.watch.remove(end.fd.as_fd())?;
        }
        Ok(Received::Idle)
    }
}

impl Device for Stdio {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        let Some(input) = &self.input else { return Ok(Received::Idle) };
        let fd = input.fd.as_fd();
        if input.is_anothers_terminal() || level(fd, PollFlags::IN)?.is_empty() {
            return Ok(Received::Idle);
        }
        match rustix::io::read(fd, &mut *into) {
            Ok(0) | Err(Errno::IO) => self.close_input(),
            Ok(bytes) => Ok(Received::Bytes(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Received::Idle),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Sent> {
        let fd = self.output.fd.as_fd();
        if self.output.can_wait && level(fd, PollFlags::OUT)?.is_empty() {
            return Ok(Sent::Full);
        }
        let step = from.len().min(self.output.step);
        match rustix::io::retry_on_intr(|| rustix::io::write(fd, &from[..step])) {
            Ok(0) | Err(Errno::AGAIN) => Ok(Sent::Full),
            Ok(bytes) => Ok(Sent::Took(bytes)),
            // EIO: the terminal was hung up.
            Err(Errno::PIPE | Errno::CONNRESET | Errno::IO) => Ok(Sent::Over),
            Err(error) => Err(error.into()),
        }
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch.poll_changed(cx)
    }

    /// A terminal or pipe holds no half line of an earlier run.
    fn needs_newline(&self) -> bool {
        false
    }
}

/// One of the two, reopened where possible.
#[derive(Debug)]
struct End {
    fd: OwnedFd,
    /// The longest write that does not block.
    step: usize,
    /// A terminal, pipe or socket. A file or `/dev/null` is always ready.
    can_wait: bool,
}

impl End {
    fn new(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<Self> {
        let can_wait = match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Fifo | FileType::Socket => true,
            FileType::CharacterDevice => rustix::termios::isatty(fd),
            _ => false,
        };
        // A file shares its offset with its other writers; reopened, it would start at 0.
        if can_wait && let Ok(fd) = open_anew(fd, access) {
            return Ok(Self { fd, step: usize::MAX, can_wait });
        }
        let step = if can_wait { PIPE_BUF } else { usize::MAX };
        Ok(Self { fd: rustix::io::fcntl_dupfd_cloexec(fd, 0)?, step, can_wait })
    }

    /// Reading a terminal that is not ours to read stops the whole process (`SIGTTIN`).
    fn is_anothers_terminal(&self) -> bool {
        rustix::termios::tcgetpgrp(&self.fd).is_ok_and(|group| group != rustix::process::getpgrp())
    }
}

fn open_anew(fd: BorrowedFd<'_>, access: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::time::Duration;

    use super::*;

    async fn changed(stdio: &mut Stdio) -> bool {
        let change = poll_fn(|cx| stdio.poll_changed(cx));
        tokio::time::timeout(Duration::from_millis(20), change).await.is_ok()
    }

    fn is_nonblocking(fd: impl AsFd) -> bool {
        rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    #[tokio::test]
    async fn pipes_are_read_and_written_without_changing_their_flags() {
        let (stdin, mut typed) = std::io::pipe().unwrap();
        let (mut shown, stdout) = std::io::pipe().unwrap();
        let mut stdio = Stdio::new(stdin.as_fd(), stdout.as_fd()).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(stdio.read(&mut buffer).unwrap(), Received::Idle);
        assert_eq!(stdio.write(b"line\n").unwrap(), Sent::Took(5));
        shown.read_exact(&mut buffer[..5]).unwrap();
        assert_eq!(&buffer[..5], b"line\n");

        while changed(&mut stdio).await {}
        typed.write_all(b"hi").unwrap();
        assert!(changed(&mut stdio).await);
        assert_eq!(stdio.read(&mut buffer).unwrap(), Received::Bytes(2));
        assert!(!is_nonblocking(&stdin) && !is_nonblocking(&stdout));
    }

    #[tokio::test]
    async fn the_end_of_input_stops_nothing_and_wakes_the_task_once() {
        let (stdin, typed) = std::io::pipe().unwrap();
        let (_shown, stdout) = std::io::pipe().unwrap();
        let mut stdio = Stdio::new(stdin.as_fd(), stdout.as_fd()).unwrap();
        drop(typed);
        assert_eq!(stdio.read(&mut [0; 16]).unwrap(), Received::Idle);
        while changed(&mut stdio).await {}
        assert_eq!(stdio.read(&mut [0; 16]).unwrap(), Received::Idle);
        assert_eq!(stdio.write(b"still here\n").unwrap(), Sent::Took(11));
    }

    #[tokio::test]
    async fn a_full_pipe_is_full_until_its_reader_reads_and_over_when_it_has_gone() {
        let (mut shown, stdout) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut stdio = Stdio::new(null.as_fd(), stdout.as_fd()).unwrap();
        let mut written = 0;
        while let Sent::Took(bytes) = stdio.write(&[b'x'; 32 * 1024]).unwrap() {
            written += bytes;
        }
        while changed(&mut stdio).await {}
        shown.read_exact(&mut vec![0; written]).unwrap();
        assert!(changed(&mut stdio).await);
        assert_eq!(stdio.write(b"x").unwrap(), Sent::Took(1));
        drop(shown);
        assert_eq!(stdio.write(b"x").unwrap(), Sent::Over);
    }

    #[tokio::test]
    async fn a_socket_cannot_be_opened_anew_and_is_written_in_small_steps() {
        let (ours, mut host) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut stdio = Stdio::new(ours.as_fd(), ours.as_fd()).unwrap();
        assert_eq!(stdio.write(&[b'x'; 32 * 1024]).unwrap(), Sent::Took(PIPE_BUF));
        while let Sent::Took(_) = stdio.write(&[b'x'; 32 * 1024]).unwrap() {}
        host.write_all(b"hello").unwrap();
        assert_eq!(stdio.read(&mut [0; 16]).unwrap(), Received::Bytes(5));
        assert!(!is_nonblocking(&ours));
    }

    #[tokio::test]
    async fn a_file_as_input_is_no_input_and_as_output_is_written_on_where_it_is() {
        let mut out = tempfile::tempfile().unwrap();
        out.write_all(b"before ").unwrap();
        let input = tempfile::tempfile().unwrap();
        (&input).write_all(b"never read").unwrap();
        let mut stdio = Stdio::new(input.as_fd(), out.as_fd()).unwrap();
        assert_eq!(stdio.read(&mut [0; 16]).unwrap(), Received::Idle);
        assert_eq!(stdio.write(b"after\n").unwrap(), Sent::Took(6));
        std::io::Seek::rewind(&mut out).unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after\n");
    }
}
