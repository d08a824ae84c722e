//! A bounded queue of log lines, for a log that may not be read.

use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::sync::IgnorePoison;

/// The most that waits to be written; as much again is being written.
pub(super) const WAITING_BYTES: usize = 64 * 1024;

/// The longest line: the rest of it is cut off.
pub(super) const LINE_BYTES: usize = 16 * 1024;

/// Memory that is kept between two lines.
const KEPT_BYTES: usize = 4 * 1024;

/// A queue of lines that never makes the caller wait: where there is no room for one, it and those that follow are
/// dropped and counted, until the writer takes what waits. The count is written in their place.
///
/// # Why a thread that blocks
/// `O_NONBLOCK` belongs to the open file, which others share: their writes would begin to fail. `poll(2)`
/// reports a file on a frozen file system as writable, and of a terminal that takes one byte, too.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    dropped: u64,
    is_writing: bool,
    has_ended: bool,
}

impl Lines {
    /// An empty queue.
    pub(super) const fn new() -> Self {
        let state = State { waiting: Vec::new(), dropped: 0, is_writing: false, has_ended: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Queues `line`, which ends with a newline, or drops it. Does not wait.
    pub(super) fn push(&self, line: &str) {
        let cut = match line.len() > LINE_BYTES {
            true => &line[..line.floor_char_boundary(LINE_BYTES)],
            false => line,
        };
        let mut state = self.lock();
        // A writer that takes what waits begins the count anew.
        if state.dropped > 0 || state.waiting.len() + cut.len() + 4 > WAITING_BYTES {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(cut.as_bytes());
        if cut.len() < line.len() {
            state.waiting.extend_from_slice("…\n".as_bytes());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Writes what is queued to `out` until [`end`](Self::end), one after the other; `missing` makes the line that
    /// says how many were dropped. What `out` refuses counts as dropped, too. Blocks.
    pub(super) fn write_to(&self, out: impl AsFd, missing: impl Fn(u64) -> String) {
        let (mut batch, mut refused) = (Vec::new(), 0);
        let mut state = self.lock();
        loop {
            let has_none = |state: &mut State| state.waiting.is_empty() && !state.has_ended;
            state = self.changed.wait_while(state, has_none).ignore_poison();
            if state.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            let dropped = std::mem::take(&mut state.dropped);
            state.is_writing = true;
            drop(state);
            if refused > 0 && write_all(&out, missing(refused).as_bytes()) == 0 {
                refused = 0;
            }
            refused += write_all(&out, &batch);
            if dropped > 0 && write_all(&out, missing(dropped).as_bytes()) > 0 {
                refused += dropped;
            }
            batch.clear();
            batch.shrink_to(KEPT_BYTES);
            state = self.lock();
            state.is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Waits until all that is queued is written, but not longer than `limit`. Whether it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let has_some = |state: &mut State| !state.waiting.is_empty() || state.is_writing;
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, limit, has_some);
        !waited.ignore_poison().1.timed_out()
    }

    /// Lets a writer begin, also after an [`end`](Self::end).
    pub(super) fn begin(&self) {
        self.lock().has_ended = false;
    }

    /// Lets the writer return once all is written.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().ignore_poison()
    }
}

/// Writes all of `bytes`; returns how many lines of them were refused.
fn write_all(out: impl AsFd, mut bytes: &[u8]) -> u64 {
    while !bytes.is_empty() {
        match rustix::io::write(&out, bytes) {
            Ok(count) if count > 0 => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Another process that shares the file has made it non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
            }
            Ok(_) | Err(_) => return memchr::memchr_iter(b'\n', bytes).count() as u64,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::sync::Arc;
    use std::thread;

    fn missing(count: u64) -> String {
        format!("{count} missing\n")
    }

    #[test]
    fn a_log_that_is_not_read_blocks_no_caller_and_counts_the_missing_lines() {
        let lines = Arc::new(Lines::new());
        // Full from the beginning, so that not all lines fit in, however late the thread begins.
        let (reader, mut writer) = std::io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        while writer.write(&[b'\n'; 64]).is_ok() {}
        rustix::io::ioctl_fionbio(&writer, false).unwrap();
        let thread = thread::spawn({
            let lines = Arc::clone(&lines);
            move || lines.write_to(writer, missing)
        });
        let count = 5_000;
        let line = |number| format!("{number} {}\n", "x".repeat(100));
        for number in 0..count {
            lines.push(&line(number));
        }
        assert!(!lines.flush(Duration::from_millis(1)), "the pipe is full");
        assert!(lines.lock().waiting.capacity() <= 2 * WAITING_BYTES);
        lines.end();

        let read = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut next, mut dropped) = (0, 0);
        for said in read.skip_while(String::is_empty) {
            if let Some(number) = said.strip_suffix(" missing") {
                dropped += number.parse::<u64>().unwrap();
                next += number.parse::<u64>().unwrap();
            } else {
                assert_eq!(
                    said,
                    line(next).trim_end(),
                    "the count stands where the lines are missing"
                );
                next += 1;
            }
        }
        assert!(next == count && dropped > 0, "{next} {dropped}");
        thread.join().unwrap();
        assert!(lines.flush(Duration::ZERO));
    }

    #[test]
    fn refused_lines_are_counted_when_the_log_takes_lines_again() {
        let lines = Arc::new(Lines::new());
        let socket = rustix::net::SocketFlags::NONBLOCK;
        let (socket, peer) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::DGRAM,
            socket,
            None,
        )
        .unwrap();
        // Not connected: refused until there is a peer.
        drop(peer);
        let heard = tempfile::TempDir::new().unwrap();
        let address = heard.path().join("log");
        let thread = thread::spawn({
            let (lines, socket) = (Arc::clone(&lines), socket.try_clone().unwrap());
            move || lines.write_to(socket, missing)
        });
        lines.push("one\ntwo\n");
        assert!(lines.flush(Duration::from_secs(9)));
        let peer = std::os::unix::net::UnixDatagram::bind(&address).unwrap();
        let address = rustix::net::SocketAddrUnix::new(&address).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        lines.push("three\n");
        lines.end();
        thread.join().unwrap();
        let mut said = [0; 99];
        let mut next = || {
            let count = peer.recv(&mut said).unwrap();
            String::from_utf8_lossy(&said[..count]).into_owned()
        };
        assert_eq!([next(), next()], ["2 missing\n", "three\n"]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let lines = Lines::new();
        lines.push(&format!("{}\n", "é".repeat(LINE_BYTES)));
        lines.end();
        let (reader, writer) = std::io::pipe().unwrap();
        lines.write_to(writer, missing);
        let said: Vec<_> = BufReader::new(reader).lines().map(Result::unwrap).collect();
        assert!(said.len() == 1 && said[0].len() <= LINE_BYTES + 3 && said[0].ends_with("é…"));
    }
}
