//! The write buffer: frames gathered for one write, and how far they are written. Pure: it holds no device.

use std::collections::VecDeque;

use super::tracked_frame::Tracking;
use crate::model::Frame;

/// The most for one write: what the driver takes at once (32 KiB, `port_fops_write` in
/// `drivers/char/virtio_console.c`).
pub const WRITE_BYTES_MAX: usize = 32 * 1024;

/// A frame on its way out, with its kind.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: Frame,
    pub(super) what: FrameKind,
}

/// What a frame is, and what becomes of it when its host disconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    /// For this host only: dropped when it disconnects.
    Reply,
    /// Tracked until some host acknowledges it.
    Durable(Tracking),
    /// Counted as sent when it is written. The rest of a line that was cut goes to the next host.
    Telemetry,
    /// A keep-alive of the port: for this host only. Its answer acknowledges everything before it.
    Barrier(u64),
    /// The echo of a host's keep-alive: for this host only. Its answer acknowledges like that of a barrier.
    Echo(u64),
}

/// Frames gathered for one write, at most [`WRITE_BYTES_MAX`] together unless one alone is longer.
///
/// # Why whole frames
/// The device accepts a write of up to 32 KiB whole or not at all, and discards data in flight when the host
/// disconnects. With whole lines in each write, no host ever starts inside a line, even when one host follows
/// another too fast for the guest to notice. Only a longer line can be cut.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    /// The bytes of several frames. A single frame is written from its own bytes.
    copies: Vec<u8>,
    frames: VecDeque<Pending>,
    bytes: usize,
    /// Bytes accepted so far.
    written_to: usize,
}

#[derive(Debug)]
struct Pending {
    outgoing: Outgoing,
    end: usize,
}

impl WriteBuffer {
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes not yet accepted.
    pub(super) fn pending(&self) -> usize {
        self.bytes - self.written_to
    }

    pub(super) fn has_durable(&self) -> bool {
        self.frames
            .iter()
            .any(|pending_frame| matches!(pending_frame.outgoing.what, FrameKind::Durable(_)))
    }

    pub(super) fn has_telemetry(&self) -> bool {
        let readings = |pending_frame: &Pending| {
            pending_frame.outgoing.what == FrameKind::Telemetry
                && pending_frame.outgoing.frame.readings > 0
        };
        self.frames.iter().any(readings)
    }

    /// The longest frame that fits into this write. An empty buffer takes any length.
    pub(super) fn room(&self) -> usize {
        if self.is_empty() { usize::MAX } else { WRITE_BYTES_MAX.saturating_sub(self.bytes) }
    }

    /// Adds a frame of at most [`room`](Self::room) bytes. Nothing may be written yet.
    pub(super) fn push(&mut self, outgoing: Outgoing) {
        debug_assert!(self.written_to == 0 && outgoing.frame.bytes.len() <= self.room());
        if let [first] = self.frames.make_contiguous() {
            self.copies.extend_from_slice(&first.outgoing.frame.bytes);
        }
        if !self.frames.is_empty() {
            self.copies.extend_from_slice(&outgoing.frame.bytes);
        }
        self.bytes += outgoing.frame.bytes.len();
        self.frames.push_back(Pending { outgoing, end: self.bytes });
    }

    /// The bytes for the next write.
    pub(super) fn next_chunk(&self) -> &[u8] {
        let rest = &self.all()[self.written_to..];
        &rest[..rest.len().min(WRITE_BYTES_MAX)]
    }

    /// The device accepted `bytes`. Calls `done` with each completed frame and the number of accepted bytes after
    /// it.
    pub(super) fn accept(&mut self, bytes: usize, mut done: impl FnMut(Outgoing, usize)) {
        self.written_to += bytes;
        while let Some(first) = self.frames.pop_front_if(|first| first.end <= self.written_to) {
            done(first.outgoing, self.written_to - first.end);
        }
        if self.frames.is_empty() {
            self.copies.clear();
            (self.bytes, self.written_to) = (0, 0);
        }
    }

    /// The host disconnected: takes all frames out, in order. Calls `left` with each frame and the number of its
    /// lines that were written. A telemetry frame that was cut starts with the cut line, and is empty where there is
    /// none; every other frame stays whole. Returns whether a line was cut.
    ///
    /// With `newline_follows` the next host is sent a bare newline first. That completes a telemetry line of which
    /// only the newline was missing, if what was written of it reaches that host, so such a line counts as written.
    pub(super) fn take_all(
        &mut self,
        newline_follows: bool,
        mut left: impl FnMut(Outgoing, usize),
    ) -> bool {
        let mut was_cut = false;
        while let Some(Pending { mut outgoing, end }) = self.frames.pop_front() {
            let length = outgoing.frame.bytes.len();
            let mut written = (self.written_to + length).saturating_sub(end);
            let is_telemetry = outgoing.what == FrameKind::Telemetry;
            if newline_follows && is_telemetry && written > 0 {
                written += usize::from(outgoing.frame.bytes.get(written) == Some(&b'\n'));
            }
            let lines = memchr::memchr_iter(b'\n', &outgoing.frame.bytes[..written]);
            let (lines, line) = lines.fold((0, 0), |(lines, _), newline| (lines + 1, newline + 1));
            was_cut |= line < written;
            if is_telemetry {
                outgoing.frame.bytes = outgoing.frame.bytes.slice(line..);
            }
            left(outgoing, lines);
        }
        self.copies.clear();
        (self.bytes, self.written_to) = (0, 0);
        was_cut
    }

    /// Readings in frames that are not completely written.
    pub(super) fn held(&self) -> u64 {
        self.frames
            .iter()
            .map(|pending_frame| u64::from(pending_frame.outgoing.frame.readings))
            .sum()
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
        let frame = Frame::new(bytes, 1, Instant::now());
        Outgoing { frame, what: FrameKind::Telemetry }
    }

    fn accept(write_buffer: &mut WriteBuffer, bytes: usize) -> usize {
        let mut done = 0;
        write_buffer.accept(bytes, |_, _| done += 1);
        done
    }

    fn take_all(write_buffer: &mut WriteBuffer) -> (bool, Vec<(Bytes, bool)>) {
        let mut left = Vec::new();
        let was_cut = write_buffer.take_all(true, |outgoing, lines| {
            left.push((outgoing.frame.bytes, lines > 0));
        });
        assert_eq!(
            (write_buffer.is_empty(), write_buffer.pending(), write_buffer.room()),
            (true, 0, usize::MAX)
        );
        (was_cut, left)
    }

    #[test]
    fn frames_leave_together_and_each_is_done_with_its_last_byte() {
        let mut write_buffer = WriteBuffer::default();
        for text in ["one\n", "two\nthree\n", "4\n"] {
            write_buffer.push(frame(text));
        }
        assert_eq!(write_buffer.next_chunk(), b"one\ntwo\nthree\n4\n");
        assert_eq!(accept(&mut write_buffer, 3), 0);
        assert_eq!(
            (accept(&mut write_buffer, 2), write_buffer.held(), write_buffer.pending()),
            (1, 2, 11)
        );
        assert_eq!(write_buffer.next_chunk(), b"wo\nthree\n4\n");
        assert_eq!(accept(&mut write_buffer, 11), 2);
        assert!(write_buffer.is_empty());
        write_buffer.push(frame("next\n"));
        assert_eq!(write_buffer.next_chunk(), b"next\n");
    }

    #[test]
    fn each_completed_frame_comes_with_the_number_of_bytes_after_it() {
        let mut write_buffer = WriteBuffer::default();
        for text in ["one\n", "two\n", "three\n"] {
            write_buffer.push(frame(text));
        }
        let mut ends = Vec::new();
        write_buffer.accept(10, |outgoing, after| ends.push((outgoing.frame.bytes, after)));
        assert_eq!(ends, [(Bytes::from("one\n"), 6), (Bytes::from("two\n"), 2)]);
    }

    #[test]
    fn a_cut_line_starts_again_and_lines_before_it_do_not() {
        let mut write_buffer = WriteBuffer::default();
        write_buffer.push(frame("one\ntwo\n"));
        write_buffer.push(frame("three\n"));
        accept(&mut write_buffer, 6);
        let left = [(Bytes::from("two\n"), true), (Bytes::from("three\n"), false)];
        assert_eq!(take_all(&mut write_buffer), (true, left.to_vec()));

        write_buffer.push(frame("one\ntwo\n"));
        accept(&mut write_buffer, 4);
        let left = vec![(Bytes::from("two\n"), true)];
        assert_eq!(take_all(&mut write_buffer), (false, left), "between two lines nothing is cut");
    }

    #[test]
    fn a_line_that_lacks_only_its_newline_is_written_if_a_newline_follows() {
        let mut write_buffer = WriteBuffer::default();
        for (text, rest) in [("one\ntwo\n", "two\n"), ("one\n", "")] {
            write_buffer.push(frame(text));
            accept(&mut write_buffer, 3);
            assert_eq!(take_all(&mut write_buffer), (false, vec![(Bytes::from(rest), true)]));
        }
        write_buffer.push(frame("one\ntwo\n"));
        accept(&mut write_buffer, 3);
        let mut left = Vec::new();
        assert!(write_buffer.take_all(false, |outgoing, lines| left.push((outgoing, lines))));
        assert_eq!((&left[0].0.frame.bytes[..], left[0].1), (&b"one\ntwo\n"[..], 0));
    }

    #[test]
    fn a_durable_frame_starts_again_as_a_whole() {
        let mut write_buffer = WriteBuffer::default();
        let (seq, redelivered, requested_at, audience) = (1, false, None, <_>::default());
        let what = FrameKind::Durable(Tracking { seq, redelivered, requested_at, audience });
        write_buffer.push(Outgoing { what, ..frame("one\ntwo\n") });
        assert!(write_buffer.has_durable());
        accept(&mut write_buffer, 6);
        assert_eq!(take_all(&mut write_buffer), (true, vec![(Bytes::from("one\ntwo\n"), true)]));
    }

    #[test]
    fn a_long_frame_goes_alone_uncopied_and_in_pieces() {
        let mut write_buffer = WriteBuffer::default();
        let long = Bytes::from([vec![b'x'; 70_000], vec![b'\n']].concat());
        write_buffer.push(frame(long.clone()));
        assert_eq!(write_buffer.room(), 0);
        assert_eq!(write_buffer.next_chunk().as_ptr(), long.as_ptr());
        let mut pieces = Vec::new();
        while !write_buffer.is_empty() {
            pieces.push(write_buffer.next_chunk().len());
            let next_chunk = write_buffer.next_chunk().len();
            accept(&mut write_buffer, next_chunk);
        }
        assert_eq!(pieces, [32_768, 32_768, 4_465]);
        assert_eq!(write_buffer.copies.capacity(), 0);
    }

    #[test]
    fn the_room_is_what_is_left_of_one_write() {
        let mut write_buffer = WriteBuffer::default();
        assert_eq!(write_buffer.room(), usize::MAX);
        write_buffer.push(frame("12345\n"));
        assert_eq!(write_buffer.room(), WRITE_BYTES_MAX - 6);
    }
}
