//! The output buffer: frames gathered for one write, and how far they are written. Pure: no device.

use std::collections::VecDeque;

use crate::model::Frame;

/// The most for one write: what the driver takes at once (32 KiB, `port_fops_write` in
/// `drivers/char/virtio_console.c`).
pub const WRITE_BYTES_MAX: usize = 32 * 1024;

/// Frames gathered for one write, at most [`WRITE_BYTES_MAX`] together unless one alone is longer.
///
/// # Why whole frames
/// The port takes a write of up to 32 KiB whole or not at all, and throws away what is in flight when
/// the host leaves. With whole lines in each write no host ever starts inside a line, even when one
/// host follows another too fast for the guest to notice. Only a longer line can be cut.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Copies of the frames, where there is more than one; a single frame is written from its own bytes.
    copies: Vec<u8>,
    frames: VecDeque<Placed>,
    bytes: usize,
    /// Everything before this was accepted.
    at: usize,
}

#[derive(Debug)]
struct Placed {
    frame: Frame,
    end: usize,
}

impl Outbox {
    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How long a frame may be to go out with what is there: any length into an empty outbox.
    pub(super) fn room(&self) -> usize {
        if self.is_empty() { usize::MAX } else { WRITE_BYTES_MAX.saturating_sub(self.bytes) }
    }

    /// Adds a frame of at most [`room`](Self::room) bytes, before anything was written.
    pub(super) fn push(&mut self, frame: Frame) {
        debug_assert!(self.at == 0 && frame.bytes.len() <= self.room());
        if let [first] = self.frames.make_contiguous() {
            self.copies.extend_from_slice(&first.frame.bytes);
        }
        if !self.frames.is_empty() {
            self.copies.extend_from_slice(&frame.bytes);
        }
        self.bytes += frame.bytes.len();
        self.frames.push_back(Placed { frame, end: self.bytes });
    }

    /// What to write now.
    pub(super) fn piece(&self) -> &[u8] {
        let rest = &self.all()[self.at..];
        &rest[..rest.len().min(WRITE_BYTES_MAX)]
    }

    /// So many bytes of the piece were accepted; `done` sees each frame whose last byte was among them.
    pub(super) fn accept(&mut self, bytes: usize, mut done: impl FnMut(&Frame)) {
        self.at += bytes;
        while let Some(first) = self.frames.pop_front_if(|first| first.end <= self.at) {
            done(&first.frame);
        }
        if self.frames.is_empty() {
            self.copies.clear();
            (self.bytes, self.at) = (0, 0);
        }
    }

    /// Goes back to the first byte of the line that is being written; tells whether it was cut.
    /// Lines that were accepted whole are not written again.
    pub(super) fn rewind(&mut self) -> bool {
        let written = &self.all()[..self.at];
        let line = memchr::memrchr(b'\n', written).map_or(0, |newline| newline + 1);
        let was_cut = line < self.at;
        self.at = line;
        was_cut
    }

    /// Readings whose last byte is not written.
    pub(super) fn held(&self) -> u64 {
        self.frames.iter().map(|placed| u64::from(placed.frame.readings)).sum()
    }

    /// Throws away what waits; tells how many readings that were.
    pub(super) fn discard(&mut self) -> u64 {
        let readings = self.held();
        *self = Self { copies: std::mem::take(&mut self.copies), ..Self::default() };
        self.copies.clear();
        readings
    }

    fn all(&self) -> &[u8] {
        match self.frames.front() {
            Some(only) if self.copies.is_empty() => &only.frame.bytes,
            _ => &self.copies,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;

    fn frame(bytes: impl Into<Bytes>) -> Frame {
        Frame { bytes: bytes.into(), readings: 1, oldest: Instant::now() }
    }

    fn accept(outbox: &mut Outbox, bytes: usize) -> usize {
        let mut done = 0;
        outbox.accept(bytes, |_| done += 1);
        done
    }

    #[test]
    fn frames_leave_together_and_each_is_done_with_its_last_byte() {
        let mut outbox = Outbox::default();
        for text in ["one\n", "two\nthree\n", "4\n"] {
            outbox.push(frame(text));
        }
        assert_eq!(outbox.piece(), b"one\ntwo\nthree\n4\n");
        assert_eq!(accept(&mut outbox, 3), 0);
        assert_eq!((accept(&mut outbox, 2), outbox.held()), (1, 2));
        assert_eq!(outbox.piece(), b"wo\nthree\n4\n");
        assert_eq!(accept(&mut outbox, 11), 2);
        assert!(outbox.is_empty());
        outbox.push(frame("next\n"));
        assert_eq!(outbox.piece(), b"next\n");
    }

    #[test]
    fn a_cut_line_starts_again_and_lines_before_it_do_not() {
        let mut outbox = Outbox::default();
        outbox.push(frame("one\ntwo\n"));
        outbox.push(frame("three\n"));
        accept(&mut outbox, 6);
        assert!(outbox.rewind());
        assert_eq!(outbox.piece(), b"two\nthree\n");
        accept(&mut outbox, 4);
        assert!(!outbox.rewind(), "between two lines nothing is cut");
        assert_eq!(outbox.piece(), b"three\n");
        assert!(!outbox.rewind());
    }

    #[test]
    fn a_long_frame_goes_alone_uncopied_and_in_pieces() {
        let mut outbox = Outbox::default();
        let long = Bytes::from([vec![b'x'; 70_000], vec![b'\n']].concat());
        outbox.push(frame(long.clone()));
        assert_eq!(outbox.room(), 0);
        assert_eq!(outbox.piece().as_ptr(), long.as_ptr());
        let mut pieces = Vec::new();
        while !outbox.is_empty() {
            pieces.push(outbox.piece().len());
            let piece = outbox.piece().len();
            accept(&mut outbox, piece);
        }
        assert_eq!(pieces, [32_768, 32_768, 4_465]);
        assert_eq!(outbox.copies.capacity(), 0);
    }

    #[test]
    fn the_room_is_what_is_left_of_one_write() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.room(), usize::MAX);
        outbox.push(frame("12345\n"));
        assert_eq!(outbox.room(), WRITE_BYTES_MAX - 6);
        assert_eq!((outbox.discard(), outbox.room()), (1, usize::MAX));
    }
}
