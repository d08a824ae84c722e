//! The host's end of the agent's port: a client of the socket that QEMU listens on.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::shape;
use super::wait::{Lines, NoLine};

/// How long the next line of a running flow may take.
const NEXT: Duration = Duration::from_secs(20);

/// How the lines begin that are said to every host first.
const GREETING: [&[u8]; 2] =
    [b"{\"type\":\"agent_event\"", b"{\"type\":\"request_pending_scripts\""];

/// A connected host. Dropping it closes the connection at once, whatever has not been read.
#[derive(Debug)]
pub struct Host {
    lines: Lines,
}

impl Host {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("QEMU listens on the port's socket");
        Self { lines: Lines::new(stream) }
    }

    /// The next line, the bare ones included; none within `limit`.
    pub fn line(&mut self, limit: Duration) -> Option<Vec<u8>> {
        match self.lines.next(Instant::now() + limit) {
            Ok(line) => Some(line),
            Err(NoLine::Late) => None,
            Err(NoLine::Closed) => panic!("QEMU closed the port's socket"),
        }
    }

    /// The next metrics line within `limit`, held to the wire's shape. An agent that takes commands
    /// greets first; those lines are passed over.
    ///
    /// # Panics
    /// Where there is none, or it is not whole, or not of that shape.
    pub fn metrics(&mut self, limit: Duration) -> Value {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.line(left).unwrap_or_else(|| {
                panic!("no metrics line within {limit:?}, {} bytes of one", self.lines.rest().len())
            });
            if !line.is_empty() && !GREETING.iter().any(|kind| line.starts_with(kind)) {
                return shape::metrics(&line);
            }
        }
    }

    /// The next `count` metrics lines.
    pub fn take(&mut self, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.metrics(NEXT)).collect()
    }

    /// Reads until the present, that is until two whole metrics lines came after a wait; gives the lines
    /// that were not whole.
    pub fn cut_lines(&mut self, limit: Duration) -> Vec<String> {
        let (mut cut, mut waited) = (Vec::new(), 0);
        while waited < 2 {
            let line = match self.line(Duration::from_millis(20)) {
                Some(line) => line,
                None => {
                    waited += 1;
                    self.line(limit).expect("the flow goes on")
                }
            };
            if !line.is_empty() && serde_json::from_slice::<Value>(&line).is_err() {
                cut.push(String::from_utf8_lossy(&line).into_owned());
            }
        }
        cut
    }

    /// Sends `bytes` from a thread of its own, which ends when they are taken or the port is.
    pub fn send(&self, bytes: Vec<u8>) {
        let mut stream = self.lines.stream.try_clone().expect("a socket can be shared");
        // The guest may end first; then nobody takes the rest.
        std::thread::spawn(move || drop(stream.write_all(&bytes)));
    }

    /// Reads a little of the next line, then leaves.
    pub fn leave_in_mid_line(mut self) {
        while self.lines.rest().is_empty() {
            self.lines.fill(100, Instant::now() + NEXT).expect("the flow goes on");
            while self.lines.rest().contains(&b'\n') {
                self.lines.next(Instant::now()).expect("there is a whole line");
            }
        }
    }
}
