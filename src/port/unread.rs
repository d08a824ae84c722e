//! What was written, must be read by some host, and is not known to be. Writes nothing.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::tracked_frame::TrackedFrame;

/// Bytes that wait for their answer; more is not written before one comes, unless it is alone.
const UNREAD_BYTES_MAX: usize = 4 << 20;

/// Frames in the order they were written, each with the byte it ended with.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    frames: VecDeque<(u64, TrackedFrame)>,
    bytes: usize,
    /// The number of the last one that was read.
    read: watch::Sender<u64>,
}

impl Unacknowledged {
    pub(super) fn new() -> Self {
        Self { frames: VecDeque::new(), bytes: 0, read: watch::Sender::new(0) }
    }

    /// Tells the number of the last frame that was read; all before it were too.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.read.subscribe()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether a frame of so many bytes may be written beside what waits.
    pub(super) fn admits(&self, length: usize) -> bool {
        self.frames.is_empty() || self.bytes + length <= UNREAD_BYTES_MAX
    }

    /// With which byte the last one ended; 0 where there is none.
    pub(super) fn end(&self) -> u64 {
        self.frames.back().map_or(0, |(end, _)| *end)
    }

    /// A frame was written, and ended with byte `end`.
    pub(super) fn push(&mut self, end: u64, kept: TrackedFrame) {
        self.bytes += kept.frame.bytes.len();
        self.frames.push_back((end, kept));
    }

    /// Everything up to this byte was read.
    pub(super) fn read_up_to(&mut self, byte: u64) {
        let mut last = None;
        while let Some((_, kept)) = self.frames.pop_front_if(|(end, _)| *end <= byte) {
            self.bytes -= kept.frame.bytes.len();
            last = Some(kept.seq);
        }
        if let Some(seq) = last {
            self.read.send_replace(seq);
        }
    }

    /// Takes out all that is not known to be read, oldest first.
    pub(super) fn take(&mut self) -> VecDeque<(u64, TrackedFrame)> {
        self.bytes = 0;
        std::mem::take(&mut self.frames)
    }
}
