//! What happened in a run: the last events, and a digest of all of them. Judges nothing.

use std::collections::VecDeque;
use std::fmt;

use super::clock;

/// Events that are remembered; a run that fails shows them.
const KEPT: usize = 60;

/// One event: what it was, and up to two numbers that belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds since the run began.
    pub at_ms: u64,
    /// What happened.
    pub what: &'static str,
    /// A number, an id, a length.
    pub a: u64,
    /// Another.
    pub b: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, what, a, b } = self;
        write!(f, "{:>4}.{:03} s  {what} {a} {b}", at_ms / 1_000, at_ms % 1_000)
    }
}

/// The history of one run.
#[derive(Debug)]
pub struct History {
    digest: u64,
    /// How many events there were.
    pub events: u64,
    /// The last of them.
    pub last: VecDeque<Event>,
    /// Everything is kept.
    pub whole: bool,
}

impl History {
    /// Nothing has happened; with `whole` all of it will be kept.
    pub fn new(whole: bool) -> Self {
        Self { digest: 0xcbf2_9ce4_8422_2325, events: 0, last: VecDeque::new(), whole }
    }

    /// Something happened now.
    pub fn note(&mut self, what: &'static str, a: u64, b: u64) {
        let event = Event { at_ms: clock::elapsed_ms(), what, a, b };
        // FNV-1a, by words.
        let word = what.bytes().fold(0u64, |word, byte| word.rotate_left(7) ^ u64::from(byte));
        for part in [event.at_ms, word, a, b] {
            self.digest = (self.digest ^ part).wrapping_mul(0x0000_0100_0000_01b3);
            self.digest ^= self.digest >> 29;
        }
        self.events += 1;
        if self.last.len() == KEPT && !self.whole {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// The same for the same events.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}
