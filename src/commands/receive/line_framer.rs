//! Cuts the chunks of the port into lines.

use bytes::Bytes;
use tokio::time::Instant;

use crate::commands::receive::inbound::{ReadLease, SharedInbound};
use crate::pipeline::{EventCount, Output, Transform};
use crate::port::Inbound;
use crate::wire::LINE_BYTES_MAX;

/// One line of the host, without its newline. A clone costs a reference count.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(pub Bytes);

/// Cuts chunks into lines of at most [`LINE_BYTES_MAX`]; drops a partial line when its host disconnects.
///
/// # Counters
/// The unit is the newline: a chunk weighs as many as it has, and each becomes a [`Line`] or is dropped as `blank` or
/// `long`. A partial line has no newline, so no counter has it: the log reports it when it is dropped.
///
/// ```
/// use infiniservice::internals::commands::receive::line_framer::Frame;
/// use infiniservice::pipeline::{Output, Transform, EventCount};
/// use infiniservice::internals::port::Inbound;
/// use tokio::time::Instant;
///
/// let chunk = Inbound::Bytes("{\"a\":1}\n\n{\"b\":".into());
/// let mut out = Output::default();
/// Frame::new().apply(Instant::now(), &chunk, &mut out);
/// assert_eq!(chunk.weight(), 2);
/// assert_eq!(out.discarded(), [("blank", 1)]);
/// assert_eq!(out.drain().next().unwrap().0, "{\"a\":1}");
/// ```
#[derive(Debug)]
pub struct Frame {
    lease: ReadLease,
    max: usize,
}

impl Frame {
    /// Accepts lines of at most [`LINE_BYTES_MAX`].
    pub fn new() -> Self {
        Self::with_max(LINE_BYTES_MAX)
    }

    /// Accepts lines of at most `max` bytes.
    pub fn with_max(max: usize) -> Self {
        let (_, receiver) = tokio::sync::mpsc::channel(1);
        Self::of(SharedInbound::new(receiver).lease(), max)
    }

    /// The same, continuing the partial line of the flow before.
    pub fn of(lease: ReadLease, max: usize) -> Self {
        Self { lease, max }
    }
}

impl Default for Frame {
    fn default() -> Self {
        Self::new()
    }
}

/// A partial line longer than this is processed off the async worker: to verify and parse it takes about a millisecond for
/// each 100 kB.
const COSTLY: usize = 256 * 1024;

impl Transform for Frame {
    type In = Inbound;
    type Out = Line;

    fn is_costly(&self) -> bool {
        self.lease.lines().held() > COSTLY
    }

    fn apply(&mut self, _now: Instant, input: &Inbound, out: &mut Output<Line>) {
        let mut lines = self.lease.lines();
        lines.set_max(self.max);
        let mut chunk = match input {
            Inbound::Bytes(chunk) => chunk.clone(),
            Inbound::Reset => {
                let bytes = lines.held();
                if bytes > 0 {
                    tracing::debug!(bytes, "the host left in the middle of a line: dropped");
                }
                return lines.reset();
            }
        };
        let mut blank = input.weight();
        while let Some(line) = lines.next(&mut chunk) {
            blank -= 1;
            match line {
                Ok(line) => out.push(Line(line)),
                Err(_) => out.drop_items("long", 1),
            }
        }
        out.discard_items("blank", blank);
    }
}

impl EventCount for Inbound {
    fn weight(&self) -> u64 {
        match self {
            Self::Bytes(chunk) => memchr::memchr_iter(b'\n', chunk).count() as u64,
            Self::Reset => 0,
        }
    }
}

impl EventCount for Line {}

/// Tells how long it is: what it says may be secret.
impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Line({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(text: &[u8]) -> Inbound {
        Inbound::Bytes(Bytes::copy_from_slice(text))
    }

    proptest! {
        #[test]
        fn every_end_of_a_line_is_given_or_lost(
            chunks in prop::collection::vec(
                prop::collection::vec(prop::sample::select(b"a\r\n\n\xff".to_vec()), 0..20),
                0..20,
            ),
            reset in any::<prop::sample::Index>(),
        ) {
            let mut frame = Frame::with_max(3);
            let (mut taken, mut given, mut lost) = (0, 0, 0);
            let mut inputs: Vec<_> = chunks.iter().map(|chunk| bytes(chunk)).collect();
            inputs.insert(reset.index(inputs.len() + 1), Inbound::Reset);
            for input in inputs {
                let mut out = Output::default();
                frame.apply(Instant::now(), &input, &mut out);
                taken += input.weight();
                lost += out.not_sent_total();
                given += out.drain().map(|line| line.weight()).sum::<u64>();
                prop_assert_eq!(taken, given + lost);
            }
        }
    }

    #[test]
    fn half_a_line_is_dropped_with_its_host_and_a_long_one_is_counted() {
        let (mut frame, mut out) = (Frame::with_max(4), Output::default());
        for chunk in [bytes(b"half"), Inbound::Reset, bytes(b"one\ntoo lo"), bytes(b"ng\ntwo\n")] {
            frame.apply(Instant::now(), &chunk, &mut out);
        }
        assert_eq!(out.dropped(), [("long", 1)]);
        assert_eq!(out.drain().map(|line| line.0).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn a_line_is_not_told_to_the_log() {
        assert_eq!(format!("{:?}", Line(Bytes::from("password"))), "Line(8 bytes)");
    }
}
