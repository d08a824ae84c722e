//! The output buffer: frames gathered for one write, and how far they are written. Pure: no device.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::tracked_frame::Audience;
use crate::model::Frame;

/// The most for one write: what the driver takes at once (32 KiB, `port_fops_write` in
/// `drivers/char/virtio_console.c`).
pub const WRITE_BYTES_MAX: usize = 32 * 1024;

/// A frame on its way out, and what becomes of it when its host leaves.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: Frame,
    pub(super) what: What,
}

/// What kind of frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// Said to this host only: dropped with it.
    Reply,
    /// Must be read by some host: kept until it is.
    Durable { seq: u64, again: bool, asked: Option<Instant>, audience: Audience },
    /// Counted as given when it is written; the rest of one that was cut goes to the next host.
    Telemetry,
    /// A question whose answer tells that all before it was read: of this host only.
    Barrier(u64),
    /// The number that the host asked for: of this host only, and answered as a barrier is.
    Echo(u64),
}

/// Frames gathered for one write, at most [`WRITE_BYTES_MAX`] together unless one alone is longer.
///
/// # Why whole frames
/// The port takes a write of up to 32 KiB whole or not at all, and throws away what is in flight when
/// the host leaves. With whole lines in each write no host ever starts inside a line, even when one
/// host follows another too fast for the guest to notice. Only a longer line can be cut.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    /// Copies of the frames, where there is more than one; a single frame is written from its own bytes.
    copies: Vec<u8>,
    frames: VecDeque<Placed>,
    bytes: usize,
    /// Everything before this was accepted.
    at: usize,
}

#[derive(Debug)]
struct Placed {
    outgoing: Outgoing,
    end: usize,
}

impl WriteBuffer {
    /// Whether nothing waits to be written.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes that wait to be written.
    pub(super) fn pending(&self) -> usize {
        self.bytes - self.at
    }

    /// Whether something among what waits must be read by some host.
    pub(super) fn has_must(&self) -> bool {
        self.frames.iter().any(|placed| matches!(placed.outgoing.what, What::Durable { .. }))
    }

    /// Whether there are readings among what waits.
    pub(super) fn has_telemetry(&self) -> bool {
        let readings = |placed: &Placed| {
            placed.outgoing.what == What::Telemetry && placed.outgoing.frame.readings > 0
        };
        self.frames.iter().any(readings)
    }

    /// How long a frame may be to go out with what is there: any length into an empty outbox.
    pub(super) fn room(&self) -> usize {
        if self.is_empty() { usize::MAX } else { WRITE_BYTES_MAX.saturating_sub(self.bytes) }
    }

    /// Adds a frame of at most [`room`](Self::room) bytes, before anything was written.
    pub(super) fn push(&mut self, outgoing: Outgoing) {
        debug_assert!(self.at == 0 && outgoing.frame.bytes.len() <= self.room());
        if let [first] = self.frames.make_contiguous() {
            self.copies.extend_from_slice(&first.outgoing.frame.bytes);
        }
        if !self.frames.is_empty() {
            self.copies.extend_from_slice(&outgoing.frame.bytes);
        }
        self.bytes += outgoing.frame.bytes.len();
        self.frames.push_back(Placed { outgoing, end: self.bytes });
    }

    /// What to write now.
    pub(super) fn piece(&self) -> &[u8] {
        let rest = &self.all()[self.at..];
        &rest[..rest.len().min(WRITE_BYTES_MAX)]
    }

    /// So many bytes of the piece were accepted; `done` gets each frame whose last byte was among them,
    /// and how many of the accepted bytes came after it.
    pub(super) fn accept(&mut self, bytes: usize, mut done: impl FnMut(Outgoing, usize)) {
        self.at += bytes;
        while let Some(first) = self.frames.pop_front_if(|first| first.end <= self.at) {
            done(first.outgoing, self.at - first.end);
        }
        if self.frames.is_empty() {
            self.copies.clear();
            (self.bytes, self.at) = (0, 0);
        }
    }

    /// Takes everything out again, in order, because its host has left: `left` gets each frame, and
    /// how many of its lines were written. The first one may be in the middle of a line; then it is given from the
    /// first byte of that line, unless it must arrive, and then from its own. Tells whether a line was cut.
    pub(super) fn dissolve(&mut self, mut left: impl FnMut(Outgoing, usize)) -> bool {
        let mut was_cut = false;
        while let Some(Placed { mut outgoing, end }) = self.frames.pop_front() {
            let length = outgoing.frame.bytes.len();
            let written = (self.at + length).saturating_sub(end);
            let lines = memchr::memchr_iter(b'\n', &outgoing.frame.bytes[..written]);
            let (lines, line) = lines.fold((0, 0), |(lines, _), at| (lines + 1, at + 1));
            was_cut |= line < written;
            if outgoing.what == What::Telemetry {
                outgoing.frame.bytes = outgoing.frame.bytes.slice(line..);
            }
            left(outgoing, lines);
        }
        self.copies.clear();
        (self.bytes, self.at) = (0, 0);
        was_cut
    }

    /// Readings whose last byte is not written.
    pub(super) fn held(&self) -> u64 {
        self.frames.iter().map(|placed| u64::from(placed.outgoing.frame.readings)).sum()
    }

    fn all(&self) -> &[u8] {
        match self.frames.front() {
            Some(only) if self.copies.is_empty() => &only.outgoing.frame.bytes,
            _ => &self.copies,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;

    fn frame(bytes: impl Into<Bytes>) -> Outgoing {
        let frame = Frame { bytes: bytes.into(), readings: 1, oldest: Instant::now() };
        Outgoing { frame, what: What::Telemetry }
    }

    fn accept(outbox: &mut WriteBuffer, bytes: usize) -> usize {
        let mut done = 0;
        outbox.accept(bytes, |_, _| done += 1);
        done
    }

    fn dissolve(outbox: &mut WriteBuffer) -> (bool, Vec<(Bytes, bool)>) {
        let mut left = Vec::new();
        let was_cut =
            outbox.dissolve(|outgoing, begun| left.push((outgoing.frame.bytes, begun > 0)));
        assert_eq!((outbox.is_empty(), outbox.pending(), outbox.room()), (true, 0, usize::MAX));
        (was_cut, left)
    }

    #[test]
    fn frames_leave_together_and_each_is_done_with_its_last_byte() {
        let mut outbox = WriteBuffer::default();
        for text in ["one\n", "two\nthree\n", "4\n"] {
            outbox.push(frame(text));
        }
        assert_eq!(outbox.piece(), b"one\ntwo\nthree\n4\n");
        assert_eq!(accept(&mut outbox, 3), 0);
        assert_eq!((accept(&mut outbox, 2), outbox.held(), outbox.pending()), (1, 2, 11));
        assert_eq!(outbox.piece(), b"wo\nthree\n4\n");
        assert_eq!(accept(&mut outbox, 11), 2);
        assert!(outbox.is_empty());
        outbox.push(frame("next\n"));
        assert_eq!(outbox.piece(), b"next\n");
    }

    #[test]
    fn it_is_told_how_far_before_the_last_byte_each_frame_ended() {
        let mut outbox = WriteBuffer::default();
        for text in ["one\n", "two\n", "three\n"] {
            outbox.push(frame(text));
        }
        let mut ends = Vec::new();
        outbox.accept(10, |outgoing, after| ends.push((outgoing.frame.bytes, after)));
        assert_eq!(ends, [(Bytes::from("one\n"), 6), (Bytes::from("two\n"), 2)]);
    }

    #[test]
    fn a_cut_line_starts_again_and_lines_before_it_do_not() {
        let mut outbox = WriteBuffer::default();
        outbox.push(frame("one\ntwo\n"));
        outbox.push(frame("three\n"));
        accept(&mut outbox, 6);
        let left = [(Bytes::from("two\n"), true), (Bytes::from("three\n"), false)];
        assert_eq!(dissolve(&mut outbox), (true, left.to_vec()));

        outbox.push(frame("one\ntwo\n"));
        accept(&mut outbox, 4);
        let left = vec![(Bytes::from("two\n"), true)];
        assert_eq!(dissolve(&mut outbox), (false, left), "between two lines nothing is cut");
    }

    #[test]
    fn what_must_arrive_starts_again_as_a_whole() {
        let mut outbox = WriteBuffer::default();
        let what = What::Durable { seq: 1, again: false, asked: None, audience: Audience::Any };
        outbox.push(Outgoing { what, ..frame("one\ntwo\n") });
        assert!(outbox.has_must());
        accept(&mut outbox, 6);
        assert_eq!(dissolve(&mut outbox), (true, vec![(Bytes::from("one\ntwo\n"), true)]));
    }

    #[test]
    fn a_long_frame_goes_alone_uncopied_and_in_pieces() {
        let mut outbox = WriteBuffer::default();
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
        let mut outbox = WriteBuffer::default();
        assert_eq!(outbox.room(), usize::MAX);
        outbox.push(frame("12345\n"));
        assert_eq!(outbox.room(), WRITE_BYTES_MAX - 6);
    }
}
