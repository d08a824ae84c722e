//! Throws frames away and counts them. Does not look at the clock.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::Frame;
use crate::pipeline::{Fault, Sink};

/// Takes every frame at once and keeps none. What came is told by its [`Tally`].
#[derive(Debug, Default)]
pub struct Null {
    tally: Arc<Tally>,
    checks: bool,
}

/// What a [`Null`] has seen; may be read while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    frames: AtomicU64,
    readings: AtomicU64,
    bytes: AtomicU64,
    checksum: AtomicU64,
}

impl Null {
    /// Counts only.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts, and adds up the [`checksum`] of all frames.
    pub fn checking() -> Self {
        Self { checks: true, ..Self::default() }
    }

    /// The counters, to keep after the sink has gone into a pipeline.
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }
}

impl Tally {
    /// Frames taken.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Readings in them.
    pub fn readings(&self) -> u64 {
        self.readings.load(Ordering::Relaxed)
    }

    /// Bytes in them.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The [`checksum`] of everything that came; 0 when it was not asked for.
    pub fn checksum(&self) -> u64 {
        self.checksum.load(Ordering::Relaxed)
    }
}

impl Sink for Null {
    type In = Frame;

    async fn write(&mut self, frame: &Frame) -> Result<(), Fault> {
        self.tally.frames.fetch_add(1, Ordering::Relaxed);
        self.tally.readings.fetch_add(frame.readings.into(), Ordering::Relaxed);
        self.tally.bytes.fetch_add(frame.bytes.len() as u64, Ordering::Relaxed);
        if self.checks {
            self.tally.checksum.fetch_add(checksum(&frame.bytes), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The sum of the hashes of all lines: the same however the lines are cut into frames and in
/// whatever order they come. The same lines have the same sum within one build of the program; it is
/// no defence against anyone.
///
/// ```
/// use infiniservice::sinks::checksum;
/// assert_eq!(checksum(b"one\ntwo\n"), checksum(b"two\n").wrapping_add(checksum(b"one\n")));
/// assert_ne!(checksum(b"one\n"), checksum(b"one\none\n"));
/// ```
pub fn checksum(lines: &[u8]) -> u64 {
    let hash = |line: &[u8]| {
        let mut hasher = DefaultHasher::new();
        hasher.write(line);
        hasher.finish()
    };
    lines.split_inclusive(|byte| *byte == b'\n').map(hash).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test]
    async fn what_came_is_counted_however_it_was_cut() {
        let frame = |text: &'static str, readings| Frame {
            bytes: text.as_bytes().into(),
            readings,
            oldest: Instant::now(),
        };
        let mut sink = Null::checking();
        let tally = sink.tally();
        sink.write(&frame("b\nc\n", 2)).await.unwrap();
        sink.write(&frame("a\n", 1)).await.unwrap();
        drop(sink);
        assert_eq!((tally.frames(), tally.readings(), tally.bytes()), (2, 3, 6));
        assert_eq!(tally.checksum(), checksum(b"a\nb\nc\n"));
    }
}
