//! Frames that the device accepted and the host has not acknowledged.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::tracked_frame::TrackedFrame;

/// The most bytes of durable frames in flight. One longer frame is admitted when it is alone.
const DURABLE_BYTES_MAX: usize = 4 << 20;

/// The most best-effort frames in flight that have an entry of their own. Later frames share the newest entry, which
/// is acknowledged as a whole.
const BEST_EFFORT_ENTRIES_MAX: usize = 1_024;

/// Both kinds of frame in the order in which they were written, each with its end: the number of bytes that the port
/// had written after its last byte.
///
/// A durable frame stays here as a whole, so that the next host gets it when this one disconnects. Of a best-effort
/// frame (telemetry) only the weight in readings stays, so that its loss can be counted.
#[derive(Debug)]
pub(super) struct InFlight {
    durable: VecDeque<(u64, TrackedFrame)>,
    durable_bytes: usize,
    /// The sequence number of the last durable frame that was acknowledged.
    acknowledged: watch::Sender<u64>,
    best_effort: VecDeque<(u64, u64)>,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self {
            durable: VecDeque::new(),
            durable_bytes: 0,
            acknowledged: watch::Sender::new(0),
            best_effort: VecDeque::new(),
        }
    }

    /// The sequence number of the last acknowledged durable frame. It covers all frames before it.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.acknowledged.subscribe()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.durable.is_empty() && self.best_effort.is_empty()
    }

    pub(super) fn has_durable(&self) -> bool {
        !self.durable.is_empty()
    }

    /// Whether a durable frame of `length` bytes fits within the bound.
    pub(super) fn admits_durable(&self, length: usize) -> bool {
        self.durable.is_empty() || self.durable_bytes + length <= DURABLE_BYTES_MAX
    }

    /// The end of the newest durable frame, or 0.
    pub(super) fn durable_end(&self) -> u64 {
        self.durable.back().map_or(0, |(end, _)| *end)
    }

    /// The end of the newest best-effort frame, or 0.
    pub(super) fn best_effort_end(&self) -> u64 {
        self.best_effort.back().map_or(0, |(end, _)| *end)
    }

    pub(super) fn push_durable(&mut self, end: u64, tracked: TrackedFrame) {
        self.durable_bytes += tracked.frame.bytes.len();
        self.durable.push_back((end, tracked));
    }

    pub(super) fn push_best_effort(&mut self, end: u64, weight: u64) {
        let is_full = self.best_effort.len() == BEST_EFFORT_ENTRIES_MAX;
        match self.best_effort.back_mut().filter(|_| is_full) {
            _ if weight == 0 => {}
            Some(newest) => *newest = (end, newest.1 + weight),
            None => self.best_effort.push_back((end, weight)),
        }
    }

    /// Removes the durable frames up to byte `delivered` and the best-effort ones up to byte `read`. Returns whether
    /// there was such a durable frame.
    pub(super) fn acknowledge(&mut self, delivered: u64, read: u64) -> bool {
        let mut last = None;
        while let Some((_, tracked)) = self.durable.pop_front_if(|(end, _)| *end <= delivered) {
            self.durable_bytes -= tracked.frame.bytes.len();
            last = Some(tracked.seq);
        }
        if let Some(seq) = last {
            self.acknowledged.send_replace(seq);
        }
        while self.best_effort.pop_front_if(|(end, _)| *end <= read).is_some() {}
        last.is_some()
    }

    /// Takes out the durable frames, oldest first.
    pub(super) fn take_durable(&mut self) -> impl Iterator<Item = TrackedFrame> + use<> {
        self.durable_bytes = 0;
        std::mem::take(&mut self.durable).into_iter().map(|(_, tracked)| tracked)
    }

    /// Takes out the best-effort frames; returns their weight in readings.
    pub(super) fn take_best_effort(&mut self) -> u64 {
        self.best_effort.drain(..).map(|(_, weight)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_effort_frames_in_flight_are_counted_in_bounded_memory() {
        let mut in_flight = InFlight::new();
        for end in 1..=5_000 {
            in_flight.push_best_effort(end, 1);
        }
        assert_eq!(in_flight.best_effort.len(), BEST_EFFORT_ENTRIES_MAX);
        in_flight.acknowledge(0, 1_000);
        assert_eq!(in_flight.take_best_effort(), 4_000);
        assert!(in_flight.is_empty());
    }
}
