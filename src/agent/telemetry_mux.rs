//! The one telemetry lane of a port: the newest frames of every pipeline that writes there, over reloads.
//! Does not write, and pulls nothing unasked.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use futures::{FutureExt, Stream, StreamExt};
use tokio::task::unconstrained;

use crate::model::Frame;
use crate::pipeline::{EventCount, MemoryBudget, StageStats, Subscriber};
use crate::sync::IgnorePoison;

/// Pipelines that are no more and still have frames here; of one more, the oldest loses what is left.
const RETIRED_MAX: usize = 4;

/// The pipelines' end of the lane. A copy is the same lane.
///
/// A pipeline that takes the place of another of its name goes on in its feed: what the old ring still holds is
/// kept in front of the new one, at most as many frames as the new one keeps, and older ones are counted as
/// `overwritten`. Feeds take turns, so that none starves another. When it is closed it ends with
/// the last feed.
///
/// # Why a lane that others are plugged into
/// The port takes its lanes when it is made and pulls from them only while a host is there. A lane for each
/// generation would leave a ring full of frames behind at every reload while the host is away.
#[derive(Debug, Clone, Default)]
pub struct TelemetryMux(Arc<Mutex<State>>);

/// The port's end of it.
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
    /// Of rings that are no more, oldest first.
    kept: VecDeque<Frame>,
    tail: Option<Subscriber<Frame>>,
    retired: bool,
    node: Arc<StageStats>,
}

impl TelemetryMux {
    /// The lane for the port. One port takes it, once.
    pub fn lane(&self) -> Lane {
        Lane(Arc::clone(&self.0))
    }

    /// Plugs in what a pipeline publishes as `name`, of which `keep` frames are kept; what is taken of it is booked in
    /// `node`, where the tail books it as taken. Where `ledger` is tight, all but the newest
    /// are shed.
    pub fn plug(
        &self,
        name: &str,
        tail: Subscriber<Frame>,
        keep: usize,
        node: Arc<StageStats>,
        ledger: &MemoryBudget,
    ) {
        let mut state = self.state();
        match state.feeds.iter_mut().find(|feed| feed.name == name) {
            Some(feed) => {
                feed.collect();
                feed.cut(keep, "overwritten");
                while ledger.is_tight() && feed.kept.len() > 1 {
                    feed.cut(feed.kept.len() - 1, "shed");
                }
                (feed.tail, feed.retired) = (Some(tail), false);
                feed.change_books(node);
            }
            None => {
                let (name, kept, tail) = (name.to_owned(), VecDeque::new(), Some(tail));
                state.feeds.push(Feed { name, kept, tail, retired: false, node });
            }
        }
        state.wake();
    }

    /// What is called `name` will publish no more: its feed ends with what it holds.
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

    /// Nothing more is plugged in: the lane ends with its feeds.
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
        let mut asked = 0;
        while asked < self.feeds.len() {
            self.turn %= self.feeds.len();
            let feed = &mut self.feeds[self.turn];
            if let Some(frame) = feed.next(cx) {
                self.turn += 1;
                return Poll::Ready(Some(frame));
            }
            if feed.tail.is_none() && feed.retired {
                self.feeds.remove(self.turn);
            } else {
                self.turn += 1;
                asked += 1;
            }
        }
        if self.closed && self.feeds.iter().all(|feed| feed.tail.is_none()) {
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
                self.book();
                frame
            }
            None => match self.tail.as_mut()?.poll_next_unpin(cx) {
                Poll::Ready(Some(frame)) => frame,
                Poll::Ready(None) => {
                    self.tail = None;
                    return None;
                }
                Poll::Pending => return None,
            },
        };
        self.node.gave(frame.weight());
        Some(frame)
    }

    /// Takes all that is in the ring, whose publisher has ended, so that the ring can go.
    fn collect(&mut self) {
        let Some(mut tail) = self.tail.take() else { return };
        // Without a budget, which would end this early and lose the rest.
        while let Some(Some(frame)) = unconstrained(tail.next()).now_or_never() {
            self.kept.push_back(frame);
        }
        self.book();
    }

    /// Leaves the newest `keep` frames.
    fn cut(&mut self, keep: usize, reason: &'static str) {
        let more = self.kept.len().saturating_sub(keep);
        let weight = self.kept.drain(..more).map(|frame| frame.weight()).sum();
        self.node.lost(reason, weight);
        self.book();
    }

    /// What is kept moves over to the books of the next tail.
    fn change_books(&mut self, node: Arc<StageStats>) {
        let weight = self.kept.iter().map(EventCount::weight).sum();
        self.node.gave(weight);
        self.node.holds(0);
        node.took(weight);
        node.holds(weight);
        self.node = node;
    }

    fn book(&self) {
        self.node.holds(self.kept.iter().map(EventCount::weight).sum());
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
        Frame { bytes, readings: 1, oldest: Instant::now() }
    }

    fn publish(ring: &Ring<Frame>, texts: &[&str]) {
        assert!(texts.iter().all(|text| ring.publish(frame(text))));
    }

    struct Lab {
        health: StatsRegistry,
        relay: TelemetryMux,
        lane: Lane,
        ledger: MemoryBudget,
    }

    impl Lab {
        fn new() -> Self {
            let relay = TelemetryMux::default();
            let (health, ledger) = (StatsRegistry::default(), MemoryBudget::new(100_000));
            Self { health, lane: relay.lane(), relay, ledger }
        }

        /// A ring of `pipeline`, plugged in.
        fn ring(&self, pipeline: &str, keep: usize) -> Ring<Frame> {
            let (ring, node) = (Ring::new(keep), self.health.anew().node(pipeline.to_owned()));
            let tail = ring.subscribe(Arc::clone(&node));
            self.relay.plug(pipeline, tail, keep, node, &self.ledger);
            ring
        }

        fn next(&mut self) -> String {
            match self.lane.next().now_or_never() {
                None => "nothing".to_owned(),
                Some(None) => "end".to_owned(),
                Some(Some(frame)) => String::from_utf8(frame.bytes.to_vec()).unwrap(),
            }
        }

        /// (taken, given, lost, held) of a pipeline.
        fn books(&self, pipeline: &str) -> (u64, u64, u64, u64) {
            let counts = self.health.counts();
            let count = counts.iter().find(|count| count.node == pipeline).unwrap();
            let lost = count.lost.iter().map(|(_, weight)| weight).sum();
            assert_eq!(count.taken, count.given + lost + count.held, "{count:?}");
            (count.taken, count.given, lost, count.held)
        }
    }

    #[test]
    fn a_pipeline_that_is_replaced_goes_on_in_order_and_loses_nothing_there_is_room_for() {
        let mut lab = Lab::new();
        let old = lab.ring("a", 4);
        publish(&old, &["1", "2", "3"]);
        assert_eq!(lab.next(), "1");
        drop(old);
        let new = lab.ring("a", 4);
        new.publish(frame("4"));
        assert_eq!([lab.next(), lab.next(), lab.next(), lab.next()], ["2", "3", "4", "nothing"]);
        lab.relay.close();
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
        assert_eq!(lab.relay.state().feeds[0].kept.len(), 4);
        assert_eq!(lab.books("a").2, 596);
        let left: Vec<String> = (0..5).map(|_| lab.next()).collect();
        assert_eq!(left, ["198.2", "199.0", "199.1", "199.2", "nothing"]);
        let (_, _, lost, held) = lab.books("a");
        assert_eq!((lost, held), (596, 0));
    }

    #[test]
    fn what_is_kept_over_a_reload_is_shed_where_memory_is_tight() {
        let lab = Lab::new();
        let ring = lab.ring("a", 64);
        for _ in 0..20 {
            let bytes = lab.ledger.hold(vec![b'x'; 5_000].into());
            ring.publish(Frame { bytes, readings: 1, oldest: Instant::now() });
        }
        drop(ring);
        assert!(lab.ledger.is_tight());
        let _next = lab.ring("a", 64);
        assert!(!lab.ledger.is_tight());
        let (taken, _, lost, held) = lab.books("a");
        assert!(lost > 5 && held > 5, "{lost} lost, {held} held of {taken}");
    }

    #[test]
    fn pipelines_take_turns_and_one_that_is_retired_ends_with_what_it_holds() {
        let mut lab = Lab::new();
        let (a, b) = (lab.ring("a", 8), lab.ring("b", 8));
        publish(&a, &["a1", "a2"]);
        publish(&b, &["b1", "b2"]);
        drop(a);
        lab.relay.retire("a");
        let mut seen: Vec<String> = (0..4).map(|_| lab.next()).collect();
        assert_ne!(seen[0][..1], seen[1][..1], "in turns: {seen:?}");
        seen.sort();
        assert_eq!(seen, ["a1", "a2", "b1", "b2"]);
        assert_eq!(lab.next(), "nothing");
        assert_eq!(lab.relay.state().feeds.len(), 1);
    }

    #[test]
    fn retired_pipelines_that_nobody_reads_are_few_and_what_they_lose_is_counted() {
        let lab = Lab::new();
        for number in 0..10 {
            let name = format!("p{number}");
            publish(&lab.ring(&name, 4), &["x"]);
            lab.relay.retire(&name);
        }
        assert_eq!(lab.relay.state().feeds.len(), RETIRED_MAX);
        assert_eq!(lab.books("p0"), (1, 0, 1, 0));
    }
}
