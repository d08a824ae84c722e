//! Which frame is written next: replies first, then durable frames, then telemetry.

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
use super::write_buffer::{FrameKind, Outgoing};
use crate::model::Frame;
use crate::pipeline::StageStats;

/// Capacity of the replies channel. When it is full, the sender drops or waits.
pub(crate) const REPLIES_KEPT: usize = 64;
/// Capacity of the durable channel between the spool and the port.
pub const DURABLE_KEPT: usize = 16;

/// What [`Scheduler::next`] found.
#[derive(Debug)]
pub(super) enum Next {
    /// The next frame.
    Frame(Outgoing),
    /// The next frame does not fit now. It stays first.
    NoRoom,
    /// Nothing is ready; the task is woken when something is.
    Nothing,
    /// Every channel has ended and is empty.
    Ended,
}

type Telemetry = Pin<Box<dyn Stream<Item = Frame> + Send>>;

/// Merges the replies channel, the durable channel and any number of telemetry streams.
///
/// At most one frame of each kind is pulled in advance, so that waiting frames stay with their owners, who decide
/// what to drop.
#[derive(Default)]
pub(super) struct Scheduler {
    replies: Option<mpsc::Receiver<Frame>>,
    durable: Option<mpsc::Receiver<TrackedFrame>>,
    telemetry: Vec<Telemetry>,
    /// The telemetry stream that is polled first: round robin, so that none starves another.
    turn: usize,
    next_reply: Option<Frame>,
    /// Pulled in advance, or returned because their host disconnected.
    next_durable: VecDeque<TrackedFrame>,
    next_telemetry: VecDeque<Frame>,
    discarded: Discarded,
    /// When the current session started.
    session_start: Option<Instant>,
    /// Every connection that began before this time has ended.
    disconnected_before: Option<Instant>,
    acks: AckTracker,
    undelivered: Undelivered,
    /// The sender of durable frames waits until the host acknowledges one.
    durable_waits: bool,
    node: Arc<StageStats>,
}

impl Scheduler {
    pub(super) fn new(node: Arc<StageStats>, acks: AckTracker) -> Self {
        Self { node, acks, ..Self::default() }
    }

    /// Opens the replies channel. Call it once: a second call orphans the first sender.
    pub(super) fn open_replies(&mut self) -> mpsc::Sender<Frame> {
        let (sender, receiver) = mpsc::channel(REPLIES_KEPT);
        self.replies = Some(receiver);
        sender
    }

    /// Opens the durable channel. Call it once.
    pub(super) fn open_durable(&mut self) -> mpsc::Sender<TrackedFrame> {
        let (sender, receiver) = mpsc::channel(DURABLE_KEPT);
        self.durable = Some(receiver);
        sender
    }

    pub(super) fn discarded(&self) -> Discarded {
        self.discarded.clone()
    }

    pub(super) fn undelivered(&self) -> Undelivered {
        self.undelivered.clone()
    }

    /// Whether the sender of durable frames waits until the host acknowledges one.
    pub(super) fn durable_waits(&self) -> bool {
        self.durable_waits
    }

    /// The host acknowledged durable frames.
    pub(super) fn acknowledged(&mut self) {
        self.durable_waits = false;
    }

    pub(super) fn add_telemetry(&mut self, channel: impl Stream<Item = Frame> + Send + 'static) {
        self.telemetry.push(Box::pin(channel));
    }

    /// The next frame, if it has at most `room` bytes and `admits` accepts its length and share.
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
            return frame.map_or(Next::Nothing, |frame| ready(frame, FrameKind::Reply));
        }
        self.pull_durable(cx);
        if let Some(durable) = self.next_durable.front() {
            if durable.frame.bytes.len() > room
                || !admits(durable.frame.bytes.len(), Share::Durable)
            {
                return Next::NoRoom;
            }
            let durable = self.next_durable.pop_front().map(TrackedFrame::split);
            return durable.map_or(Next::Nothing, |(frame, tracking)| {
                ready(frame, FrameKind::Durable(tracking))
            });
        }
        if self.next_telemetry.is_empty() {
            self.pull_telemetry(cx);
        }
        if let Some(frame) = self.next_telemetry.front() {
            if frame.bytes.len() > room || !admits(frame.bytes.len(), Share::Telemetry) {
                return Next::NoRoom;
            }
            let frame = self.next_telemetry.pop_front();
            return frame.map_or(Next::Nothing, |frame| ready(frame, FrameKind::Telemetry));
        }
        let open = self.replies.is_some() || self.durable.is_some();
        if open || !self.telemetry.is_empty() { Next::Nothing } else { Next::Ended }
    }

    /// Takes back an unacknowledged frame of a host that disconnected. Call it newest first: each goes before all
    /// others of its kind.
    pub(super) fn give_back(&mut self, outgoing: Outgoing) {
        let Outgoing { frame, what } = outgoing;
        match what {
            FrameKind::Durable(tracking) => self.next_durable.push_front(tracking.with(frame)),
            FrameKind::Telemetry => self.next_telemetry.push_front(frame),
            FrameKind::Reply | FrameKind::Barrier(_) | FrameKind::Echo(_) => {
                self.node.dropped("session", weight(&frame))
            }
        }
    }

    /// A session starts: drops replies to earlier hosts, now and from now on, and marks durable frames that an
    /// earlier host requested. `is_new`: the device showed the host's connect, so every earlier connection has
    /// ended.
    pub(super) fn session_started(&mut self, now: Instant, is_new: bool) {
        self.session_start = Some(now);
        if is_new {
            self.disconnected_before = self.session_start;
        }
        for tracked in &mut self.next_durable {
            tracked.mark(self.session_start);
        }
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Some(reply) = self.next_reply.take().or_else(|| self.pull_reply(&mut cx)) {
            self.node.dropped("session", weight(&reply));
        }
    }

    /// Readings in frames that were pulled and not yet taken.
    pub(super) fn held(&self) -> u64 {
        let durable = self.next_durable.iter().map(|tracked| &tracked.frame);
        self.next_reply.iter().chain(durable).chain(&self.next_telemetry).map(weight).sum()
    }

    /// Drops everything that is ready in all channels. Returns the readings dropped, and those in durable frames,
    /// which their sender still has. Stops after `frames`, for a stream that never pauses.
    pub(super) fn discard(&mut self, frames: usize) -> (u64, u64) {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let (mut readings, mut tracked) = (0, 0);
        for _ in 0..frames {
            match self.next(&mut cx, usize::MAX, |_, _| true) {
                Next::Frame(Outgoing { frame, what: FrameKind::Durable(_) }) => {
                    tracked += weight(&frame)
                }
                Next::Frame(outgoing) => readings += weight(&outgoing.frame),
                Next::NoRoom | Next::Nothing | Next::Ended => break,
            }
        }
        (readings, tracked)
    }

    fn pull_reply(&mut self, cx: &mut Context<'_>) -> Option<Frame> {
        loop {
            match self.replies.as_mut()?.poll_recv(cx) {
                Poll::Ready(Some(frame)) => {
                    let frame = self.count_received(frame);
                    if self.session_start.is_none_or(|session_start| frame.oldest >= session_start)
                    {
                        return Some(frame);
                    }
                    self.node.dropped("session", weight(&frame));
                }
                Poll::Ready(None) => {
                    self.replies = None;
                    return None;
                }
                Poll::Pending => return None,
            }
        }
    }

    /// Pulls the next durable frame that is not discarded to the front.
    fn pull_durable(&mut self, cx: &mut Context<'_>) {
        loop {
            while let Some(discarded) =
                self.next_durable.pop_front_if(|tracked| self.discarded.covers(tracked.seq))
            {
                self.node.dropped("cloned", weight(&discarded.frame));
            }
            if let Some(next) = self.next_durable.front() {
                if let Some(reason) = self.drop_reason(next) {
                    self.drop_content(reason);
                }
                return;
            }
            let Some(channel) = &mut self.durable else { return };
            match channel.poll_recv(cx) {
                Poll::Ready(Some(mut tracked)) => {
                    if tracked.redelivered {
                        tracked.frame.bytes = marked(&tracked.frame.bytes);
                    }
                    tracked.mark(self.session_start);
                    self.durable_waits |= tracked.sender_waits;
                    self.node.received(weight(&tracked.frame));
                    self.next_durable.push_back(tracked);
                }
                Poll::Ready(None) => self.durable = None,
                Poll::Pending => return,
            }
        }
    }

    /// Why no connected host may receive the frame, if so.
    fn drop_reason(&self, tracked: &TrackedFrame) -> Option<&'static str> {
        match tracked.audience {
            Audience::Any => None,
            Audience::UnderstandsEvents => {
                (!self.acks.events_understood()).then_some("not_understood")
            }
            // A request without a time came in an earlier run, before any connect that this run saw.
            Audience::Requester if self.acks.is_own_host() => None,
            Audience::Requester => {
                let is_gone = |disconnected_before| {
                    tracked
                        .requested_at
                        .is_none_or(|requested_at| requested_at < disconnected_before)
                };
                self.disconnected_before.is_some_and(is_gone).then_some("host_left")
            }
        }
    }

    /// Drops the content of the next durable frame. Its sequence number is still written and acknowledged, so that
    /// the sender releases it.
    fn drop_content(&mut self, reason: &'static str) {
        let Some(next) = self.next_durable.front_mut() else { return };
        match next.audience {
            Audience::UnderstandsEvents => self.node.discarded(reason, weight(&next.frame)),
            _ => self.node.dropped(reason, weight(&next.frame)),
        }
        if next.audience == Audience::Requester {
            self.undelivered.notify(&next.frame.bytes);
        }
        (next.frame.bytes, next.frame.readings) = (Bytes::new(), 0);
        next.audience = Audience::Any;
    }

    fn pull_telemetry(&mut self, cx: &mut Context<'_>) {
        let mut polled = 0;
        while polled < self.telemetry.len() {
            self.turn %= self.telemetry.len();
            match self.telemetry[self.turn].as_mut().poll_next(cx) {
                Poll::Ready(Some(frame)) => {
                    self.turn += 1;
                    let frame = self.count_received(frame);
                    return self.next_telemetry.push_back(frame);
                }
                Poll::Ready(None) => drop(self.telemetry.remove(self.turn)),
                Poll::Pending => {
                    self.turn += 1;
                    polled += 1;
                }
            }
        }
    }

    fn count_received(&self, frame: Frame) -> Frame {
        self.node.received(weight(&frame));
        frame
    }
}

fn ready(frame: Frame, what: FrameKind) -> Next {
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
        Frame::new(Bytes::from_static(text.as_bytes()), 1, Instant::now())
    }

    fn next(scheduler: &mut Scheduler, room: usize) -> String {
        match scheduler.next(&mut Context::from_waker(std::task::Waker::noop()), room, |_, _| true)
        {
            Next::Frame(outgoing) => String::from_utf8(outgoing.frame.bytes.to_vec()).unwrap(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn replies_go_first_and_telemetry_lanes_take_turns() {
        let mut scheduler = Scheduler::default();
        let replies = scheduler.open_replies();
        scheduler.add_telemetry(stream::iter([frame("a1"), frame("a2"), frame("a3")]));
        scheduler.add_telemetry(stream::iter([frame("b1")]));
        assert_eq!(next(&mut scheduler, 9), "a1");
        replies.try_send(frame("r")).unwrap();
        for expected in ["r", "b1", "a2", "a3", "Nothing"] {
            assert_eq!(next(&mut scheduler, 9), expected);
        }
        drop(replies);
        assert_eq!(next(&mut scheduler, 9), "Ended");
    }

    #[test]
    fn discarded_durable_frames_are_not_written() {
        let mut scheduler = Scheduler::default();
        let durable = scheduler.open_durable();
        let tracked = |seq| TrackedFrame {
            seq,
            frame: frame("{\"old\":1}\n"),
            redelivered: false,
            requested_at: None,
            audience: Audience::Any,
            sender_waits: false,
        };
        for seq in 1..=3 {
            durable.try_send(tracked(seq)).unwrap();
        }
        next(&mut scheduler, 99);
        let (frame_1, tracking) = TrackedFrame { redelivered: true, ..tracked(1) }.split();
        scheduler.give_back(Outgoing { frame: frame_1, what: FrameKind::Durable(tracking) });
        scheduler.discarded().up_to(3);
        durable.try_send(TrackedFrame { frame: frame("new"), ..tracked(4) }).unwrap();
        assert_eq!(next(&mut scheduler, 99), "new");
        assert_eq!(scheduler.node.count().dropped, [("cloned", 3)]);
        assert_eq!(next(&mut scheduler, 99), "Nothing");
    }

    #[test]
    fn a_frame_without_room_stays_first_and_a_reply_still_overtakes_it() {
        let mut scheduler = Scheduler::default();
        let replies = scheduler.open_replies();
        scheduler.add_telemetry(stream::iter([frame("long"), frame("s")]));
        assert_eq!(next(&mut scheduler, 3), "NoRoom");
        assert_eq!((scheduler.held(), scheduler.node.count().received), (1, 1));
        replies.try_send(frame("r")).unwrap();
        for expected in ["r", "NoRoom"] {
            assert_eq!(next(&mut scheduler, 3), expected);
        }
        assert_eq!(next(&mut scheduler, 4), "long");
        assert_eq!(scheduler.held(), 0);
    }

    #[test]
    fn discarding_stops_at_its_bound_where_a_stream_never_pauses() {
        let mut scheduler = Scheduler::default();
        scheduler.add_telemetry(stream::repeat_with(|| frame("x")));
        assert_eq!(scheduler.discard(100), (100, 0));
    }
}
