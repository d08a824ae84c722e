//! Which frame goes next: replies before telemetry. Does not write, and pulls nothing unasked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;

use crate::model::Frame;
use crate::pipeline::Node;

/// Frames the replies lane holds; when it is full, whoever replies waits.
pub const REPLIES_KEPT: usize = 64;

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    /// This frame.
    Frame(Frame),
    /// A frame that is longer than the room offered. It stays first.
    NoRoom,
    /// Nothing now; the task is woken when there is.
    Nothing,
    /// Nothing now or ever.
    Ended,
}

/// The replies lane and any number of telemetry lanes.
///
/// At most one frame of each kind is out of its lane and not yet taken, so that what it is worth to
/// wait stays in the lanes, whose owners decide what to keep.
#[derive(Default)]
pub(super) struct Lanes {
    replies: Option<mpsc::Receiver<Frame>>,
    telemetry: Vec<Pin<Box<dyn Stream<Item = Frame> + Send>>>,
    /// The telemetry lane that is asked first, so that none starves another.
    turn: usize,
    next_reply: Option<Frame>,
    next_telemetry: Option<Frame>,
    node: Arc<Node>,
}

impl Lanes {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node, ..Self::default() }
    }

    /// Opens the replies lane. A second call would orphan the first, so it is made once.
    pub(super) fn open_replies(&mut self) -> mpsc::Sender<Frame> {
        let (sender, receiver) = mpsc::channel(REPLIES_KEPT);
        self.replies = Some(receiver);
        sender
    }

    pub(super) fn add_telemetry(&mut self, lane: impl Stream<Item = Frame> + Send + 'static) {
        self.telemetry.push(Box::pin(lane));
    }

    /// The next frame of at most `room` bytes.
    pub(super) fn next(&mut self, cx: &mut Context<'_>, room: usize) -> Next {
        if self.next_reply.is_none() {
            self.next_reply = self.pull_reply(cx);
        }
        if self.next_reply.is_some() {
            return take(&mut self.next_reply, room);
        }
        if self.next_telemetry.is_none() {
            self.next_telemetry = self.pull_telemetry(cx);
        }
        if self.next_telemetry.is_some() {
            return take(&mut self.next_telemetry, room);
        }
        if self.replies.is_none() && self.telemetry.is_empty() {
            Next::Ended
        } else {
            Next::Nothing
        }
    }

    /// Readings out of their lanes and not yet taken.
    pub(super) fn held(&self) -> u64 {
        [&self.next_reply, &self.next_telemetry].into_iter().flatten().map(weight).sum()
    }

    /// Takes what is ready out of every lane and throws it away; tells how many readings that were.
    /// Gives up after `frames`, for a lane that never pauses.
    pub(super) fn discard(&mut self, frames: usize) -> u64 {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut readings = 0;
        for _ in 0..frames {
            match self.next(&mut cx, usize::MAX) {
                Next::Frame(frame) => readings += weight(&frame),
                Next::NoRoom | Next::Nothing | Next::Ended => break,
            }
        }
        readings
    }

    fn pull_reply(&mut self, cx: &mut Context<'_>) -> Option<Frame> {
        match self.replies.as_mut()?.poll_recv(cx) {
            Poll::Ready(Some(frame)) => Some(self.enter(frame)),
            Poll::Ready(None) => {
                self.replies = None;
                None
            }
            Poll::Pending => None,
        }
    }

    fn pull_telemetry(&mut self, cx: &mut Context<'_>) -> Option<Frame> {
        let mut asked = 0;
        while asked < self.telemetry.len() {
            self.turn %= self.telemetry.len();
            match self.telemetry[self.turn].as_mut().poll_next(cx) {
                Poll::Ready(Some(frame)) => {
                    self.turn += 1;
                    return Some(self.enter(frame));
                }
                Poll::Ready(None) => drop(self.telemetry.remove(self.turn)),
                Poll::Pending => {
                    self.turn += 1;
                    asked += 1;
                }
            }
        }
        None
    }

    fn enter(&self, frame: Frame) -> Frame {
        self.node.took(weight(&frame));
        frame
    }
}

fn take(next: &mut Option<Frame>, room: usize) -> Next {
    next.take_if(|frame| frame.bytes.len() <= room).map_or(Next::NoRoom, Next::Frame)
}

fn weight(frame: &Frame) -> u64 {
    u64::from(frame.readings)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;
    use tokio::time::Instant;

    use super::*;

    fn frame(text: &'static str) -> Frame {
        Frame { bytes: Bytes::from_static(text.as_bytes()), readings: 1, oldest: Instant::now() }
    }

    fn next(lanes: &mut Lanes, room: usize) -> String {
        match lanes.next(&mut Context::from_waker(std::task::Waker::noop()), room) {
            Next::Frame(frame) => String::from_utf8(frame.bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn replies_go_first_and_telemetry_lanes_take_turns() {
        let mut lanes = Lanes::default();
        let replies = lanes.open_replies();
        lanes.add_telemetry(stream::iter([frame("a1"), frame("a2"), frame("a3")]));
        lanes.add_telemetry(stream::iter([frame("b1")]));
        assert_eq!(next(&mut lanes, 9), "a1");
        replies.try_send(frame("r")).unwrap();
        for expected in ["r", "b1", "a2", "a3", "Nothing"] {
            assert_eq!(next(&mut lanes, 9), expected);
        }
        drop(replies);
        assert_eq!(next(&mut lanes, 9), "Ended");
    }

    #[test]
    fn a_frame_without_room_stays_first_and_a_reply_still_overtakes_it() {
        let mut lanes = Lanes::default();
        let replies = lanes.open_replies();
        lanes.add_telemetry(stream::iter([frame("long"), frame("s")]));
        assert_eq!(next(&mut lanes, 3), "NoRoom");
        assert_eq!((lanes.held(), lanes.node.count().taken), (1, 1));
        replies.try_send(frame("r")).unwrap();
        for expected in ["r", "NoRoom"] {
            assert_eq!(next(&mut lanes, 3), expected);
        }
        assert_eq!(next(&mut lanes, 4), "long");
        assert_eq!(lanes.held(), 0);
    }

    #[test]
    fn discarding_stops_at_its_bound_where_a_lane_never_pauses() {
        let mut lanes = Lanes::default();
        lanes.add_telemetry(stream::repeat_with(|| frame("x")));
        assert_eq!(lanes.discard(100), 100);
    }
}
