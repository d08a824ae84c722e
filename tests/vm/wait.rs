//! Waiting with a deadline, on file descriptors and without sleeping. Knows no protocol.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until `fd` can be read, or has hung up, or `until` has passed. True where it can be read.
pub fn readable(fd: impl AsFd, until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Accepts one connection until `until`; asks `alive` five times a second whether that still makes
/// sense.
pub fn accept(
    listener: &UnixListener,
    until: Instant,
    mut alive: impl FnMut() -> Result<(), String>,
) -> Result<UnixStream, String> {
    loop {
        let slice = until.min(Instant::now() + Duration::from_millis(200));
        if readable(listener, slice).map_err(|error| error.to_string())? {
            return listener.accept().map(|(stream, _)| stream).map_err(|error| error.to_string());
        }
        alive()?;
        if Instant::now() >= until {
            return Err("nobody connected in time".into());
        }
    }
}

/// A socket that is read by lines, each with a deadline. A line that is not whole yet stays.
#[derive(Debug)]
pub struct Lines {
    pub stream: UnixStream,
    held: Vec<u8>,
}

/// Why there is no line.
#[derive(Debug, PartialEq, Eq)]
pub enum NoLine {
    /// The deadline has passed.
    Late,
    /// The other end has closed.
    Closed,
}

impl Lines {
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, held: Vec::new() }
    }

    /// The next line, without its newline.
    pub fn next(&mut self, until: Instant) -> Result<Vec<u8>, NoLine> {
        let mut looked = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.held[looked..]) {
                let mut line: Vec<u8> = self.held.drain(..=looked + end).collect();
                line.pop();
                return Ok(line);
            }
            looked = self.held.len();
            self.fill(64 << 10, until)?;
        }
    }

    /// Reads once, at most `bytes`.
    pub fn fill(&mut self, bytes: usize, until: Instant) -> Result<(), NoLine> {
        if !readable(&self.stream, until).expect("the socket can be polled") {
            return Err(NoLine::Late);
        }
        let mut chunk = vec![0; bytes];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(NoLine::Closed),
            Ok(read) => {
                self.held.extend_from_slice(&chunk[..read]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(NoLine::Closed),
            Err(error) => panic!("cannot read the socket: {error}"),
        }
    }

    /// What was read and not yet given.
    pub fn rest(&self) -> &[u8] {
        &self.held
    }
}
