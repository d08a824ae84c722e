//! Bytes to lines: pure and incremental. Does not look into a line, and does not read.

use bytes::{Bytes, BytesMut};

/// The longest line taken from the host.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Cuts what comes in, in chunks that end anywhere, into lines.
///
/// A line ends with `\n` or `\r\n` and is given without it; blank lines are left out. A line over the
/// maximum is dropped, counted, and reported as [`TooLong`] where it ends; the next line is whole again.
///
/// At most the maximum is held, in one growing buffer that goes with the line it became. A line that
/// lies within one chunk is not copied.
///
/// ```
/// use bytes::Bytes;
/// use infiniservice::wire::Lines;
///
/// let mut lines = Lines::new(16);
/// let mut chunk = Bytes::from("{\"a\":1}\r\n\n{\"b\"");
/// assert_eq!(lines.next(&mut chunk), Some(Ok(Bytes::from("{\"a\":1}"))));
/// assert_eq!(lines.next(&mut chunk), None, "the chunk is used up, half a line is kept");
/// assert_eq!(lines.next(&mut Bytes::from(":2}\n")), Some(Ok(Bytes::from("{\"b\":2}"))));
/// ```
#[derive(Debug)]
pub struct Lines {
    max: usize,
    /// The line so far; empty while it is being dropped.
    partial: BytesMut,
    /// Bytes of the line that is being dropped.
    dropping: Option<u64>,
    too_long: u64,
}

/// A line was longer than the maximum and was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Its length without the newline.
    pub bytes: u64,
    /// The maximum.
    pub max: usize,
}

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a line of {} bytes was dropped: the longest one taken is {} bytes",
            self.bytes, self.max
        )
    }
}

impl std::error::Error for TooLong {}

impl Lines {
    /// Takes lines of at most `max` bytes, newline (and carriage return) not counted.
    pub fn new(max: usize) -> Self {
        Self { max, partial: BytesMut::new(), dropping: None, too_long: 0 }
    }

    /// Takes lines of at most `max` bytes from now on, also the one that is begun.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Takes from the front of `chunk` until one line is whole; `None` when the chunk is used up.
    /// Call it until then.
    pub fn next(&mut self, chunk: &mut Bytes) -> Option<Result<Bytes, TooLong>> {
        while !chunk.is_empty() {
            let Some(end) = memchr::memchr(b'\n', chunk) else {
                self.keep(&std::mem::take(chunk));
                return None;
            };
            let rest = chunk.split_off(end + 1);
            let head = std::mem::replace(chunk, rest).slice(..end);
            if let Some(line) = self.finish(head) {
                return Some(line);
            }
        }
        None
    }

    /// Forgets half a line: its sender has gone.
    pub fn reset(&mut self) {
        self.partial = BytesMut::new();
        self.dropping = None;
    }

    /// Lines dropped because they were too long.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Bytes held of a line that is not whole yet.
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    /// Goes on with a line that is not whole yet. One byte over the maximum may be its `\r`.
    fn keep(&mut self, part: &[u8]) {
        if let Some(bytes) = &mut self.dropping {
            *bytes += part.len() as u64;
        } else if self.partial.len() + part.len() > self.max + 1 {
            self.dropping = Some((self.partial.len() + part.len()) as u64);
            self.partial = BytesMut::new();
        } else {
            self.partial.extend_from_slice(part);
        }
    }

    /// The line ends with `tail`; `None` where it is blank.
    fn finish(&mut self, tail: Bytes) -> Option<Result<Bytes, TooLong>> {
        if let Some(bytes) = self.dropping.take() {
            return Some(Err(self.too_long_of(bytes + tail.len() as u64)));
        }
        let line = if self.partial.is_empty() {
            tail
        } else if self.partial.len() + tail.len() > self.max + 1 {
            let bytes = self.partial.len() + tail.len();
            self.partial = BytesMut::new();
            return Some(Err(self.too_long_of(bytes as u64)));
        } else {
            self.partial.extend_from_slice(&tail);
            std::mem::take(&mut self.partial).freeze()
        };
        let line = match line.strip_suffix(b"\r") {
            Some(stripped) => line.slice(..stripped.len()),
            None => line,
        };
        match line.len() {
            0 => None,
            bytes if bytes > self.max => Some(Err(self.too_long_of(bytes as u64))),
            _ => Some(Ok(line)),
        }
    }

    fn too_long_of(&mut self, bytes: u64) -> TooLong {
        self.too_long += 1;
        TooLong { bytes, max: self.max }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(lines: &mut Lines, chunk: &[u8]) -> Vec<Result<Bytes, TooLong>> {
        let mut chunk = Bytes::copy_from_slice(chunk);
        std::iter::from_fn(|| lines.next(&mut chunk)).collect()
    }

    /// What the lines of `text` are, with all of it in hand.
    fn naive(text: &[u8], max: usize) -> Vec<Option<Vec<u8>>> {
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        text[..end]
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .filter(|line| !line.is_empty())
            .map(|line| (line.len() <= max).then(|| line.to_vec()))
            .collect()
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_lines_of_the_whole_text_in_bounded_memory(
            text in prop::collection::vec(prop::sample::select(b"ab\xff\r\n\n".to_vec()), 0..200),
            cuts in prop::collection::vec(1..9_usize, 1..40),
            max in 1..8_usize,
        ) {
            let (mut lines, mut found, mut rest) = (Lines::new(max), Vec::new(), &text[..]);
            for cut in cuts.iter().cycle() {
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                found.extend(split(&mut lines, chunk).into_iter().map(|line| line.ok().map(|line| line.to_vec())));
                prop_assert!(lines.held() <= max + 1);
                rest = after;
                if rest.is_empty() { break }
            }
            let expected = naive(&text, max);
            prop_assert_eq!(lines.too_long() as usize, expected.iter().filter(|line| line.is_none()).count());
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept_and_the_next_one_is_whole() {
        let mut lines = Lines::new(LINE_BYTES_MAX);
        let mebibyte = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            assert_eq!(split(&mut lines, &mebibyte), []);
            assert!(lines.held() <= LINE_BYTES_MAX + 1);
        }
        let found = split(&mut lines, b"x\nwhole\n");
        let dropped = TooLong { bytes: (40 << 20) + 1, max: LINE_BYTES_MAX };
        assert_eq!(found, [Err(dropped), Ok(Bytes::from("whole"))]);
    }

    #[test]
    fn half_a_line_is_forgotten_when_its_sender_has_gone() {
        let mut lines = Lines::new(8);
        split(&mut lines, b"half");
        lines.reset();
        assert_eq!(split(&mut lines, b"new\n"), [Ok(Bytes::from("new"))]);
        split(&mut lines, b"much too long");
        lines.reset();
        assert_eq!(split(&mut lines, b"new\n"), [Ok(Bytes::from("new"))]);
    }

    #[test]
    fn a_line_within_one_chunk_is_not_copied() {
        let chunk = Bytes::from(b"one\ntwo\n".to_vec());
        let mut rest = chunk.clone();
        let line = Lines::new(8).next(&mut rest).unwrap().unwrap();
        assert_eq!(line.as_ptr(), chunk.as_ptr());
    }
}
