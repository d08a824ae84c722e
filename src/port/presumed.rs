//! Readings and replies that were written, are kept nowhere, and are not known to be read. Writes nothing.

use std::collections::VecDeque;

/// Frames that are told apart; behind that the newest are one, which counts as read when all of it is.
const FRAMES_MAX: usize = 1_024;

/// What a host that leaves takes with it: of each frame the byte it ended with, and its weight.
#[derive(Debug, Default)]
pub(super) struct Presumed {
    frames: VecDeque<(u64, u64)>,
}

impl Presumed {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// With which byte the last one ended; 0 where there is none.
    pub(super) fn end(&self) -> u64 {
        self.frames.back().map_or(0, |(end, _)| *end)
    }

    /// A frame was written, and ended with byte `end`.
    pub(super) fn push(&mut self, end: u64, weight: u64) {
        let newest = self.frames.len() == FRAMES_MAX;
        match self.frames.back_mut().filter(|_| newest) {
            _ if weight == 0 => {}
            Some(newest) => *newest = (end, newest.1 + weight),
            None => self.frames.push_back((end, weight)),
        }
    }

    /// Everything up to this byte was read.
    pub(super) fn read_up_to(&mut self, byte: u64) {
        while self.frames.pop_front_if(|(end, _)| *end <= byte).is_some() {}
    }

    /// The host has left: takes out the weight of all that it may not have read.
    pub(super) fn take(&mut self) -> u64 {
        self.frames.drain(..).map(|(_, weight)| weight).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_to_be_read_is_weighed_and_many_small_ones_take_no_more_room() {
        let mut afloat = Presumed::default();
        for end in 1..=5_000 {
            afloat.push(end, 1);
        }
        assert_eq!(afloat.frames.len(), FRAMES_MAX);
        afloat.read_up_to(1_000);
        assert_eq!(afloat.take(), 4_000);
        assert!(afloat.is_empty());
    }
}
