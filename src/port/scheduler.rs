//! Which frame goes next: replies before telemetry. Does not write, and pulls nothing unasked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ack_tracker::AckTracker;
use super::flow_control::Share;
use super::tracked_frame::{Audience, Discarded, TrackedFrame, Undelivered, marked};
use super::write_buffer::{Outgoing, What};
use crate::model::Frame;
use crate::pipeline::StageStats;

/// Frames the replies lane holds; when it is full, whoever replies drops or waits.
pub const REPLIES_KEPT: usize = 64;
/// Frames that must arrive, between whoever keeps them and the port.
pub const DURABLE_KEPT: usize = 16;

/// What is next.
#[derive(Debug)]
pub(super) enum Next {
    /// This frame.
    Frame(Outgoing),
    /// A frame for which there is no room now. It stays first.
    NoRoom,
    /// Nothing now; the task is woken when there is.
    Nothing,
    /// Nothing now or ever.
    Ended,
}

type Telemetry = Pin<Box<dyn Stream<Item = Frame> + Send>>;

/// Replies to this host, what must be read by some host, and any number of telemetry lanes.
///
/// At most one frame of each kind is out of its lane and not yet taken, so that what it is worth to
/// wait stays in the lanes, whose owners decide what to keep.
#[derive(Default)]
pub(super) struct Scheduler {
    replies: Option<mpsc::Receiver<Frame>>,
    must: Option<mpsc::Receiver<TrackedFrame>>,
    telemetry: Vec<Telemetry>,
    /// The telemetry lane that is asked first, so that none starves another.
    turn: usize,
    next_reply: Option<Frame>,
    /// Taken out, or given back because their host has left.
    next_must: VecDeque<TrackedFrame>,
    next_telemetry: VecDeque<Frame>,
    void: Discarded,
    /// When the host that is there came.
    began: Option<Instant>,
    /// Before that every connection has ended.
    ended: Option<Instant>,
    answers: AckTracker,
    undelivered: Undelivered,
    node: Arc<StageStats>,
}

impl Scheduler {
    pub(super) fn new(node: Arc<StageStats>, answers: AckTracker) -> Self {
        Self { node, answers, ..Self::default() }
    }

    /// Opens the replies lane. A second call would orphan the first, so it is made once.
    pub(super) fn open_replies(&mut self) -> mpsc::Sender<Frame> {
        let (sender, receiver) = mpsc::channel(REPLIES_KEPT);
        self.replies = Some(receiver);
        sender
    }

    /// Opens the lane of what must arrive. Made once.
    pub(super) fn open_must(&mut self) -> mpsc::Sender<TrackedFrame> {
        let (sender, receiver) = mpsc::channel(DURABLE_KEPT);
        self.must = Some(receiver);
        sender
    }

    /// Where to say which of what must arrive must not any more.
    pub(super) fn void(&self) -> Discarded {
        self.void.clone()
    }

    /// Where to hear of what must not arrive any more.
    pub(super) fn undelivered(&self) -> Undelivered {
        self.undelivered.clone()
    }

    pub(super) fn add_telemetry(&mut self, lane: impl Stream<Item = Frame> + Send + 'static) {
        self.telemetry.push(Box::pin(lane));
    }

    /// The next frame of at most `room` bytes that the window `admits`, by its length and share.
    pub(super) fn next(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut admits: impl FnMut(usize, Share) -> bool,
    ) -> Next {
        if self.next_reply.is_none() {
            self.next_reply = self.pull_reply(cx);
        }
        if let Some(reply) = &self.next_reply {
            if reply.bytes.len() > room || !admits(reply.bytes.len(), Share::Reply) {
                return Next::NoRoom;
            }
            let frame = self.next_reply.take();
            return frame.map_or(Next::Nothing, |frame| found(frame, What::Reply));
        }
        self.pull_must(cx);
        if let Some(must) = self.next_must.front() {
            if must.frame.bytes.len() > room || !admits(must.frame.bytes.len(), Share::Durable) {
                return Next::NoRoom;
            }
            let must = self.next_must.pop_front();
            return must.map_or(
                Next::Nothing,
                |TrackedFrame { seq, frame, again, asked, audience }| {
                    found(frame, What::Durable { seq, again, asked, audience })
                },
            );
        }
        if self.next_telemetry.is_empty() {
            self.pull_telemetry(cx);
        }
        if let Some(frame) = self.next_telemetry.front() {
            if frame.bytes.len() > room || !admits(frame.bytes.len(), Share::Telemetry) {
                return Next::NoRoom;
            }
            let frame = self.next_telemetry.pop_front();
            return frame.map_or(Next::Nothing, |frame| found(frame, What::Telemetry));
        }
        let open = self.replies.is_some() || self.must.is_some();
        if open || !self.telemetry.is_empty() { Next::Nothing } else { Next::Ended }
    }

    /// Takes back what its host has not read, newest first: it goes again before all else of its kind.
    pub(super) fn give_back(&mut self, outgoing: Outgoing) {
        let Outgoing { frame, what } = outgoing;
        match what {
            What::Durable { seq, again, asked, audience } => {
                self.next_must.push_front(TrackedFrame { seq, frame, again, asked, audience });
            }
            What::Telemetry => self.next_telemetry.push_front(frame),
            What::Reply | What::Barrier(_) | What::Echo(_) => {
                self.node.lost("session", weight(&frame))
            }
        }
    }

    /// A host is there: drops what was said to one that has left, or to one that had not come yet, and from now on
    /// what was asked for before. Of what must arrive it marks that. `is_new`: it was seen to come, so every connection
    /// before it has ended.
    pub(super) fn begin(&mut self, now: Instant, is_new: bool) {
        self.began = Some(now);
        if is_new {
            self.ended = self.began;
        }
        for kept in &mut self.next_must {
            kept.mark(self.began);
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Some(reply) = self.next_reply.take().or_else(|| self.pull_reply(&mut cx)) {
            self.node.lost("session", weight(&reply));
        }
    }

    /// Readings out of their lanes and not yet taken.
    pub(super) fn held(&self) -> u64 {
        let must = self.next_must.iter().map(|kept| &kept.frame);
        self.next_reply.iter().chain(must).chain(&self.next_telemetry).map(weight).sum()
    }

    /// Takes what is ready out of every lane and throws it away; tells how many readings that were, and
    /// how many of them somebody else keeps. Gives up after `frames`, for a lane that never pauses.
    pub(super) fn discard(&mut self, frames: usize) -> (u64, u64) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut readings, mut kept) = (0, 0);
        for _ in 0..frames {
            match self.next(&mut cx, usize::MAX, |_, _| true) {
                Next::Frame(Outgoing { frame, what: What::Durable { .. } }) => {
                    kept += weight(&frame)
                }
                Next::Frame(outgoing) => readings += weight(&outgoing.frame),
                Next::NoRoom | Next::Nothing | Next::Ended => break,
            }
        }
        (readings, kept)
    }

    fn pull_reply(&mut self, cx: &mut Context<'_>) -> Option<Frame> {
        loop {
            match self.replies.as_mut()?.poll_recv(cx) {
                Poll::Ready(Some(frame)) => {
                    let frame = self.enter(frame);
                    if self.began.is_none_or(|began| frame.oldest >= began) {
                        return Some(frame);
                    }
                    self.node.lost("session", weight(&frame));
                }
                Poll::Ready(None) => {
                    self.replies = None;
                    return None;
                }
                Poll::Pending => return None,
            }
        }
    }

    /// Has the next one that is not void at the front, where there is one.
    fn pull_must(&mut self, cx: &mut Context<'_>) {
        loop {
            while let Some(void) = self.next_must.pop_front_if(|kept| self.void.has(kept.seq)) {
                self.node.lost("cloned", weight(&void.frame));
            }
            if let Some(next) = self.next_must.front() {
                if let Some(reason) = self.for_nobody(next) {
                    self.empty(reason);
                }
                return;
            }
            let Some(lane) = &mut self.must else { return };
            match lane.poll_recv(cx) {
                Poll::Ready(Some(mut kept)) => {
                    if kept.again {
                        kept.frame.bytes = marked(&kept.frame.bytes);
                    }
                    kept.mark(self.began);
                    self.node.took(weight(&kept.frame));
                    self.next_must.push_back(kept);
                }
                Poll::Ready(None) => self.must = None,
                Poll::Pending => return,
            }
        }
    }

    /// Why nobody has a use for it, if so.
    fn for_nobody(&self, kept: &TrackedFrame) -> Option<&'static str> {
        match kept.audience {
            Audience::Any => None,
            Audience::Understands => (!self.answers.is_understood()).then_some("not_understood"),
            // What was asked for in an earlier run is older than any connection that was seen to come.
            Audience::Asker if self.answers.is_own() => None,
            Audience::Asker => {
                let is_gone = |ended| kept.asked.is_none_or(|asked| asked < ended);
                self.ended.is_some_and(is_gone).then_some("host_left")
            }
        }
    }

    /// Leaves nothing of the next one but its number, which goes the way of all others to whoever keeps it.
    fn empty(&mut self, reason: &'static str) {
        let Some(next) = self.next_must.front_mut() else { return };
        self.node.lost(reason, weight(&next.frame));
        if next.audience == Audience::Asker {
            self.undelivered.is(&next.frame.bytes);
        }
        (next.frame.bytes, next.frame.readings) = (Bytes::new(), 0);
        next.audience = Audience::Any;
    }

    fn pull_telemetry(&mut self, cx: &mut Context<'_>) {
        let mut asked = 0;
        while asked < self.telemetry.len() {
            self.turn %= self.telemetry.len();
            match self.telemetry[self.turn].as_mut().poll_next(cx) {
                Poll::Ready(Some(frame)) => {
                    self.turn += 1;
                    let frame = self.enter(frame);
                    return self.next_telemetry.push_back(frame);
                }
                Poll::Ready(None) => drop(self.telemetry.remove(self.turn)),
                Poll::Pending => {
                    self.turn += 1;
                    asked += 1;
                }
            }
        }
    }

    fn enter(&self, frame: Frame) -> Frame {
        self.node.took(weight(&frame));
        frame
    }
}

fn found(frame: Frame, what: What) -> Next {
    Next::Frame(Outgoing { frame, what })
}

pub(super) fn weight(frame: &Frame) -> u64 {
    u64::from(frame.readings)
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tokio::time::Instant;

    use super::*;

    fn frame(text: &'static str) -> Frame {
        Frame { bytes: Bytes::from_static(text.as_bytes()), readings: 1, oldest: Instant::now() }
    }

    fn next(lanes: &mut Scheduler, room: usize) -> String {
        match lanes.next(&mut Context::from_waker(std::task::Waker::noop()), room, |_, _| true) {
            Next::Frame(outgoing) => String::from_utf8(outgoing.frame.bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn replies_go_first_and_telemetry_lanes_take_turns() {
        let mut lanes = Scheduler::default();
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
    fn what_must_arrive_and_was_said_in_another_life_goes_to_nobody() {
        let mut lanes = Scheduler::default();
        let must = lanes.open_must();
        let kept = |seq| {
            let (frame, audience) = (frame("{\"old\":1}\n"), Audience::Any);
            TrackedFrame { seq, frame, again: false, asked: None, audience }
        };
        for seq in 1..=3 {
            must.try_send(kept(seq)).unwrap();
        }
        next(&mut lanes, 99);
        let what = What::Durable { seq: 1, again: true, asked: None, audience: Audience::Any };
        lanes.give_back(Outgoing { frame: kept(1).frame, what });
        lanes.void().up_to(3);
        must.try_send(TrackedFrame { frame: frame("new"), ..kept(4) }).unwrap();
        assert_eq!(next(&mut lanes, 99), "new");
        assert_eq!(lanes.node.count().lost, [("cloned", 3)]);
        assert_eq!(next(&mut lanes, 99), "Nothing");
    }

    #[test]
    fn a_frame_without_room_stays_first_and_a_reply_still_overtakes_it() {
        let mut lanes = Scheduler::default();
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
        let mut lanes = Scheduler::default();
        lanes.add_telemetry(stream::repeat_with(|| frame("x")));
        assert_eq!(lanes.discard(100), (100, 0));
    }
}
