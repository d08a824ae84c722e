//! The terminal while something is drawn on it again and again: keys one by one and without an echo, a screen of its own, and everything as it was
//! afterwards.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, tcgetwinsize};
use tokio::runtime::Runtime;

use crate::cli::raw_input::{END_OF_INPUT, RawInput};
use crate::cli::{interrupted, print};

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// Another screen, without a cursor (xterm's `1049`, VT220's `25`); those that do not know it leave it out.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Quit,
    Pause,
    Up,
    Down,
    PageUp,
    PageDown,
    /// A letter that is none of these, in lower case.
    Letter(char),
    Other,
}

/// The terminal, which is as it was before once this is dropped.
pub(super) struct Terminal {
    /// A signal that ends the program has come.
    is_over: Arc<AtomicBool>,
    /// Waits for signals.
    _signals: Runtime,
    _raw_input: RawInput,
}

impl Terminal {
    /// Takes it.
    ///
    /// # Errors
    /// It cannot be set, or signals cannot be waited for.
    pub(super) fn take() -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let is_over = Arc::<AtomicBool>::default();
        let over = Arc::clone(&is_over);
        runtime.spawn(async move {
            interrupted().await;
            over.store(true, Relaxed);
        });
        let raw_input = RawInput::take(LocalModes::ISIG)?;
        let terminal = Self { is_over, _signals: runtime, _raw_input: raw_input };
        print(ENTER.as_bytes())?;
        Ok(terminal)
    }

    /// The next key, if one comes within `wait`; a signal or the end of the terminal counts as [`Key::Quit`].
    ///
    /// # Errors
    /// The terminal cannot be read.
    pub(super) fn key(&self, wait: Duration) -> io::Result<Option<Key>> {
        /// How often it is looked whether a signal has come.
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let end = std::time::Instant::now() + wait;
        let stdin = io::stdin();
        loop {
            if self.is_over.load(Relaxed) {
                return Ok(Some(Key::Quit));
            }
            let left = end.saturating_duration_since(std::time::Instant::now());
            let left = left.min(LOOK_EVERY);
            let time = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut ready = [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
            match poll(&mut ready, Some(&time)) {
                Ok(0) if left.is_zero() || std::time::Instant::now() >= end => return Ok(None),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            let mut bytes = [0; 64];
            let count = stdin.lock().read(&mut bytes)?;
            return Ok(Some(meaning(bytes.get(..count).unwrap_or_default())));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = print(LEAVE.as_bytes()); // it may be gone
    }
}

/// What was typed; of several keys the last one that means something.
fn meaning(bytes: &[u8]) -> Key {
    match bytes {
        [] => Key::Quit,
        [0x1b, b'[' | b'O', b'A', ..] => Key::Up,
        [0x1b, b'[' | b'O', b'B', ..] => Key::Down,
        [0x1b, b'[', b'5', b'~', ..] => Key::PageUp,
        [0x1b, b'[', b'6', b'~', ..] => Key::PageDown,
        [0x1b, ..] => Key::Other,
        [INTERRUPT | END_OF_INPUT | b'q' | b'Q', ..] => Key::Quit,
        [b' ' | b'p', ..] => Key::Pause,
        [b'k', ..] => Key::Up,
        [b'j', ..] => Key::Down,
        [letter, ..] if letter.is_ascii_alphabetic() => {
            Key::Letter(letter.to_ascii_lowercase().into())
        }
        [_] => Key::Other,
        [_, rest @ ..] => meaning(rest),
    }
}

/// Columns and rows; 80 and 24 where the terminal does not say, as a serial console.
pub(super) fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// The screen with these lines: each over what stood there, so that nothing flickers on a slow line.
pub(super) fn drawn(lines: &[String]) -> String {
    let mut text = String::from("\x1b[H");
    for (number, line) in lines.iter().enumerate() {
        if number > 0 {
            text.push_str("\r\n");
        }
        text.push_str("\x1b[K"); // before the text: behind a full line it would take its last character
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_as_terminals_send_them() {
        let keys: [(&[u8], Key); 9] = [
            (b"q", Key::Quit),
            (b"\x03", Key::Quit),
            (b"", Key::Quit),
            (b"\tA", Key::Letter('a')),
            (b" ", Key::Pause),
            (b"\x1b[A", Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[6~", Key::PageDown),
            (b"\x1b[Z", Key::Other),
        ];
        for (bytes, key) in keys {
            assert_eq!(meaning(bytes), key, "{bytes:?}");
        }
    }
}
