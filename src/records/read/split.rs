//! Cuts what is read into whole lines. Over-long lines are skipped and counted. Reads nothing itself.

use bytes::Bytes;

use crate::records::buffers::Buffers;

/// Whole lines of one piece, and how many were too long.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The lines, each with its newline.
    pub bytes: Bytes,
    /// The end of each line, newline included; ascending.
    pub ends: Vec<u32>,
    /// Lines that were skipped because they are too long.
    pub too_long: u64,
}

/// Cuts pieces into lines, and keeps what is left of a line until its rest comes.
#[derive(Debug)]
pub(crate) struct Splitter {
    max_line: usize,
    /// The start of a line whose end has not come.
    begun: Vec<u8>,
    /// The line that has begun is too long, and counted: its rest is skipped.
    is_skipping: bool,
    buffers: Buffers,
    /// How many lines the last piece had.
    count: usize,
}

impl Splitter {
    /// For lines of at most `max_line` bytes, newline not counted.
    pub(crate) fn new(max_line: usize) -> Self {
        Self {
            max_line,
            begun: Vec::new(),
            is_skipping: false,
            buffers: Buffers::default(),
            count: 0,
        }
    }

    /// Takes its buffers from the pool of its flow.
    #[must_use]
    pub(crate) fn with_buffers(self, buffers: Buffers) -> Self {
        Self { buffers, ..self }
    }

    /// Another one, for the same lines and with the same buffers, with nothing begun.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.max_line).with_buffers(self.buffers.clone())
    }

    /// How many bytes of a line have begun.
    pub(crate) fn begun(&self) -> usize {
        self.begun.len()
    }

    /// Skips the line that has begun, because there is no room for it; returns how many are counted as too long.
    pub(crate) fn give_up(&mut self) -> u64 {
        let is_new = self.forget() > 0 && !std::mem::replace(&mut self.is_skipping, true);
        u64::from(is_new)
    }

    /// Forgets the line that has begun, for a reader that will read it again; returns its length so far.
    pub(crate) fn forget(&mut self) -> usize {
        let length = self.begun.len();
        self.begun = Vec::new();
        length
    }

    /// A buffer with the line that has begun, and room for `piece` bytes. Give it back with what was read behind that:
    /// [`split`](Self::split), or [`keep`](Self::keep) if nothing was.
    pub(crate) fn buffer(&mut self, piece: usize) -> Vec<u8> {
        let mut buffer = self.buffers.take(self.begun.len() + piece);
        buffer.append(&mut self.begun);
        buffer
    }

    /// Takes a buffer back that nothing was read into.
    pub(crate) fn keep(&mut self, buffer: Vec<u8>) {
        self.begun = buffer;
    }

    /// The whole lines of `buffer`. Where the input `has_ended`, the last line needs no newline.
    pub(crate) fn split(&mut self, mut buffer: Vec<u8>, has_ended: bool) -> Lines {
        if has_ended && buffer.last().is_some_and(|last| *last != b'\n') {
            buffer.push(b'\n');
        }
        let mut ends = Vec::with_capacity(self.count + 16);
        let end = |at| u32::try_from(at + 1).unwrap_or(u32::MAX);
        ends.extend(memchr::memchr_iter(b'\n', &buffer).map(end));
        self.count = ends.len();
        let whole = ends.last().map_or(0, |end: &u32| *end as usize);
        self.begun.extend_from_slice(buffer.get(whole..).unwrap_or_default());
        buffer.truncate(whole);
        let too_long = self.take_out(&mut buffer, &mut ends) + self.give_up_the_line_begun();
        Lines { bytes: self.buffers.share(buffer), ends, too_long }
    }

    /// Takes lines that are too long out of whole `lines`; returns how many are counted here.
    fn take_out(&mut self, lines: &mut Vec<u8>, ends: &mut Vec<u32>) -> u64 {
        let mut start = 0;
        let is_long = |start: usize, end: u32| end as usize - start > self.max_line + 1;
        let mut has_long = self.is_skipping;
        for end in &*ends {
            has_long |= is_long(start, *end);
            start = *end as usize;
        }
        if !has_long {
            return 0;
        }
        let (mut from, mut to, mut count) = (0, 0, 0);
        let mut is_rest = !ends.is_empty() && std::mem::take(&mut self.is_skipping);
        ends.retain_mut(|end| {
            let (line, is_rest) = (from..*end as usize, std::mem::take(&mut is_rest));
            from = line.end;
            if is_rest || is_long(line.start, *end) {
                count += u64::from(!is_rest);
                return false;
            }
            let length = line.len();
            lines.copy_within(line, to);
            to += length;
            *end = u32::try_from(to).unwrap_or(u32::MAX);
            true
        });
        lines.truncate(to);
        count
    }

    /// Forgets the line that has begun where it is too long already.
    fn give_up_the_line_begun(&mut self) -> u64 {
        if !self.is_skipping && self.begun.len() <= self.max_line {
            return 0;
        }
        self.begun.clear();
        u64::from(!std::mem::replace(&mut self.is_skipping, true))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All lines of `text` that are short enough, and how many are not.
    fn by_hand(text: &[u8], max_line: usize) -> (Vec<u8>, u64) {
        let lines = text.split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line));
        let (short, long): (Vec<_>, Vec<_>) = lines.partition(|line| line.len() <= max_line);
        (short.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect(), long.len() as u64)
    }

    proptest! {
        #![proptest_config(crate::records::any_of(2_000))]

        #[test]
        fn however_the_input_is_cut_the_lines_are_the_same(
            text in proptest::collection::vec(prop_oneof![3 => Just(b'x'), 1 => Just(b'\n')], 0..200),
            cuts in proptest::collection::vec(0..40_usize, 0..30),
            max_line in 1..12_usize,
        ) {
            let mut splitter = Splitter::new(max_line);
            let (mut lines, mut too_long, mut rest) = (Vec::new(), 0, text.as_slice());
            let mut cuts = cuts.into_iter();
            loop {
                let (piece, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
                rest = after;
                let mut buffer = splitter.buffer(piece.len());
                prop_assert!(buffer.len() <= max_line);
                buffer.extend_from_slice(piece);
                let has_ended = rest.is_empty() && cuts.len() == 0;
                let split = splitter.split(buffer, has_ended);
                let newlines: Vec<u32> =
                    memchr::memchr_iter(b'\n', &split.bytes).map(|at| at as u32 + 1).collect();
                prop_assert_eq!(&newlines, &split.ends);
                lines.extend_from_slice(&split.bytes);
                too_long += split.too_long;
                if has_ended {
                    break;
                }
            }
            prop_assert_eq!((lines, too_long), by_hand(&text, max_line));
        }
    }
}
