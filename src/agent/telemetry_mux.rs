//! The telemetry channel of a port: the newest frames of every pipeline that writes there, across reloads.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::{FutureExt, Stream, StreamExt};
use tokio::task::unconstrained;

use crate::model::Frame;
use crate::pipeline::{EventCount, MemoryBudget, StageStats, Subscriber};
use crate::sync::IgnorePoison;

/// Retired feeds that may still hold frames. With one more, the oldest drops its frames.
const RETIRED_MAX: usize = 4;

/// The pipelines' side of the channel. A clone is the same channel.
///
/// A pipeline that replaces one of the same name continues its feed: the frames left in the old ring go first, at most as
/// many as the new ring holds, and older ones are counted as `overwritten`. Feeds take turns, so none starves another.
/// After [`close`](Self::close) the channel ends with its last feed.
///
/// # Why
/// The port takes its channels when it is created, and reads from them only while a host is connected. A channel for each
/// generation of a pipeline would leave a full ring behind at every reload while no host is connected.
#[derive(Debug, Clone, Default)]
pub struct TelemetryMux(Arc<Mutex<State>>);

/// The port's side of the channel.
#[derive(Debug)]
pub struct Lane(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    feeds: Vec<Feed>,
    turn: usize,
    closed: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Feed {
    name: String,
    /// Left over from replaced rings, oldest first.
    kept: VecDeque<Frame>,
    subscriber: Option<Subscriber<Frame>>,
    retired: bool,
    node: Arc<StageStats>,
}

impl TelemetryMux {
    /// The channel for the port, which takes it once.
    pub fn lane(&self) -> Lane {
        Lane(Arc::clone(&self.0))
    }

    /// Feeds what a pipeline publishes as `name` into the channel. At most `keep` frames of its predecessor are kept, and only
    /// the newest while `memory_budget` is tight. Frames are counted in `node`, as the subscriber does.
    pub fn plug(
        &self,
        name: &str,
        subscriber: Subscriber<Frame>,
        keep: usize,
        node: Arc<StageStats>,
        memory_budget: &MemoryBudget,
    ) {
        let mut state = self.state();
        match state.feeds.iter_mut().find(|feed| feed.name == name) {
            Some(feed) => {
                feed.collect();
                feed.cut(keep, "overwritten");
                while memory_budget.is_tight() && feed.kept.len() > 1 {
                    feed.cut(feed.kept.len() - 1, "shed");
                }
                (feed.subscriber, feed.retired) = (Some(subscriber), false);
                feed.move_counts(node);
            }
            None => {
                let (name, kept, subscriber) = (name.to_owned(), VecDeque::new(), Some(subscriber));
                state.feeds.push(Feed { name, kept, subscriber, retired: false, node });
            }
        }
        state.wake();
    }

    /// Marks the feed `name` as ended: it is removed once its frames are read.
    pub fn retire(&self, name: &str) {
        let mut state = self.state();
        if let Some(at) = state.feeds.iter().position(|feed| feed.name == name) {
            let mut feed = state.feeds.remove(at);
            feed.retired = true;
            state.feeds.push(feed); // the last to be given up
        }
        let retired = state.feeds.iter().filter(|feed| feed.retired).count();
        if retired > RETIRED_MAX
            && let Some(at) = state.feeds.iter().position(|feed| feed.retired)
        {
            let mut oldest = state.feeds.remove(at);
            oldest.collect();
            oldest.cut(0, "retired");
        }
        state.wake();
    }

    /// Accepts no more feeds: the channel ends with the existing ones.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wake();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().ignore_poison()
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut polled = 0;
        while polled < self.feeds.len() {
            self.turn %= self.feeds.len();
            let feed = &mut self.feeds[self.turn];
            if let Some(frame) = feed.next(cx) {
                self.turn += 1;
                return Poll::Ready(Some(frame));
            }
            if feed.subscriber.is_none() && feed.retired {
                self.feeds.remove(self.turn);
            } else {
                self.turn += 1;
                polled += 1;
            }
        }
        if self.closed && self.feeds.iter().all(|feed| feed.subscriber.is_none()) {
            return Poll::Ready(None);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Feed {
    fn next(&mut self, cx: &mut Context<'_>) -> Option<Frame> {
        let frame = match self.kept.pop_front() {
            Some(frame) => {
                self.update_buffered();
                frame
            }
            None => match self.subscriber.as_mut()?.poll_next_unpin(cx) {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => {
                    self.subscriber = None;
                    return None;
                }
                Poll::Pending => return None,
            },
        };
        self.node.sent(frame.weight());
        Some(frame)
    }

    /// Takes all frames out of the ring, whose publisher has ended, so that its memory is freed.
    fn collect(&mut self) {
        let Some(mut subscriber) = self.subscriber.take() else { return };
        // A cooperative budget would end this early and lose the rest.
        while let Some(Some(frame)) = unconstrained(subscriber.next()).now_or_never() {
            self.kept.push_back(frame);
        }
        self.update_buffered();
    }

    /// Drops all but the newest `keep` frames.
    fn cut(&mut self, keep: usize, reason: &'static str) {
        let more = self.kept.len().saturating_sub(keep);
        let weight = self.kept.drain(..more).map(|frame| frame.weight()).sum();
        self.node.dropped(reason, weight);
        self.update_buffered();
    }

    /// Moves the counts of the kept frames to `node`.
    fn move_counts(&mut self, node: Arc<StageStats>) {
        let weight = self.kept.iter().map(EventCount::weight).sum();
        self.node.sent(weight);
        self.node.buffered(0);
        node.received(weight);
        node.buffered(weight);
        self.node = node;
    }

    fn update_buffered(&self) {
        self.node.buffered(self.kept.iter().map(EventCount::weight).sum());
    }
}

impl Stream for Lane {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.0.lock().ignore_poison().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::pipeline::{Ring, StatsRegistry};

    fn frame(text: &str) -> Frame {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Frame::new(bytes, 1, Instant::now())
    }

    fn publish(ring: &Ring<Frame>, texts: &[&str]) {
        assert!(texts.iter().all(|text| ring.publish(frame(text))));
    }

    struct Lab {
        health: StatsRegistry,
        mux: TelemetryMux,
        lane: Lane,
        memory_budget: MemoryBudget,
    }

    impl Lab {
        fn new() -> Self {
            let mux = TelemetryMux::default();
            let (health, memory_budget) = (StatsRegistry::default(), MemoryBudget::new(100_000));
            Self { health, lane: mux.lane(), mux, memory_budget }
        }

        /// A ring of `pipeline` that feeds the channel.
        fn ring(&self, pipeline: &str, keep: usize) -> Ring<Frame> {
            let (ring, node) =
                (Ring::new(keep), self.health.replacement().node(pipeline.to_owned()));
            let subscriber = ring.subscribe(Arc::clone(&node));
            self.mux.plug(pipeline, subscriber, keep, node, &self.memory_budget);
            ring
        }

        fn next(&mut self) -> String {
            match self.lane.next().now_or_never() {
                None => "nothing".to_owned(),
                Some(None) => "end".to_owned(),
                Some(Some(frame)) => String::from_utf8(frame.bytes.to_vec()).unwrap(),
            }
        }

        /// (received, sent, dropped, buffered) of a pipeline.
        fn counts(&self, pipeline: &str) -> (u64, u64, u64, u64) {
            let counts = self.health.counts();
            let count = counts.iter().find(|count| count.node == pipeline).unwrap();
            let lost = count.not_sent_total();
            assert_eq!(count.received, count.sent + lost + count.buffered, "{count:?}");
            (count.received, count.sent, lost, count.buffered)
        }
    }

    #[test]
    fn a_replaced_pipeline_continues_in_order_and_loses_nothing_within_its_bound() {
        let mut lab = Lab::new();
        let old = lab.ring("a", 4);
        publish(&old, &["1", "2", "3"]);
        assert_eq!(lab.next(), "1");
        drop(old);
        let new = lab.ring("a", 4);
        new.publish(frame("4"));
        assert_eq!([lab.next(), lab.next(), lab.next(), lab.next()], ["2", "3", "4", "nothing"]);
        lab.mux.close();
        assert_eq!(lab.next(), "nothing", "it may still publish");
        drop(new);
        assert_eq!(lab.next(), "end");
    }

    #[test]
    fn with_no_host_two_hundred_reloads_keep_the_newest_and_count_the_rest() {
        let mut lab = Lab::new();
        let mut ring = lab.ring("a", 4);
        for number in 0..200 {
            for part in 0..3 {
                publish(&ring, &[&format!("{number}.{part}")]);
            }
            drop(ring);
            ring = lab.ring("a", 4);
        }
        assert_eq!(lab.mux.state().feeds[0].kept.len(), 4);
        assert_eq!(lab.counts("a").2, 596);
        let left: Vec<String> = (0..5).map(|_| lab.next()).collect();
        assert_eq!(left, ["198.2", "199.0", "199.1", "199.2", "nothing"]);
        let (_, _, lost, held) = lab.counts("a");
        assert_eq!((lost, held), (596, 0));
    }

    #[test]
    fn frames_kept_over_a_reload_are_shed_when_memory_is_tight() {
        let lab = Lab::new();
        let ring = lab.ring("a", 64);
        for _ in 0..20 {
            let bytes = lab.memory_budget.hold(vec![b'x'; 5_000].into());
            ring.publish(Frame::new(bytes, 1, Instant::now()));
        }
        drop(ring);
        assert!(lab.memory_budget.is_tight());
        let _next = lab.ring("a", 64);
        assert!(!lab.memory_budget.is_tight());
        let (taken, _, lost, held) = lab.counts("a");
        assert!(lost > 5 && held > 5, "{lost} lost, {held} held of {taken}");
    }

    #[test]
    fn pipelines_take_turns_and_a_retired_one_ends_with_its_last_frame() {
        let mut lab = Lab::new();
        let (a, b) = (lab.ring("a", 8), lab.ring("b", 8));
        publish(&a, &["a1", "a2"]);
        publish(&b, &["b1", "b2"]);
        drop(a);
        lab.mux.retire("a");
        let mut seen: Vec<String> = (0..4).map(|_| lab.next()).collect();
        assert_ne!(seen[0][..1], seen[1][..1], "in turns: {seen:?}");
        seen.sort();
        assert_eq!(seen, ["a1", "a2", "b1", "b2"]);
        assert_eq!(lab.next(), "nothing");
        assert_eq!(lab.mux.state().feeds.len(), 1);
    }

    #[test]
    fn retired_feeds_are_bounded_and_their_drops_counted() {
        let lab = Lab::new();
        for number in 0..10 {
            let name = format!("p{number}");
            publish(&lab.ring(&name, 4), &["x"]);
            lab.mux.retire(&name);
        }
        assert_eq!(lab.mux.state().feeds.len(), RETIRED_MAX);
        assert_eq!(lab.counts("p0"), (1, 0, 1, 0));
    }
}
