//! Transforms fused into one segment: what one calls `then` on. It has no task, no channel and no clock.

use std::sync::Arc;

use tokio::time::Instant;

use super::stage::{EventCount, Output, Transform};
use super::stats::StageStats;

/// How often an item is offered to a transform that panics on it, before it is dropped.
const TRIES: u8 = 2;

/// One or more transforms that run in one task: how items get through them. What they count is
/// [`each_stage`](Self::each_stage)'s.
///
/// Items wait before and behind each transform, so a panic in one loses nothing: after
/// [`SegmentStage::recover`] the next [`advance`](Self::advance) goes on where it was.
pub trait Segment: Send + 'static {
    /// What goes in.
    type In: EventCount + Send + 'static;
    /// What comes out.
    type Out: EventCount + Send + 'static;

    /// Where the task puts what has arrived.
    fn inbox(&mut self) -> &mut Vec<Self::In>;
    /// Runs everything in the inbox through.
    fn advance(&mut self, now: Instant);
    /// Calls the transforms whose deadline has passed.
    fn expire(&mut self, now: Instant);
    /// The input has ended: everything held comes out.
    fn finish(&mut self, now: Instant);
    /// What has come out and waits to be handed on.
    fn ready(&mut self) -> &mut Vec<Self::Out>;
    /// Visits the stages in the order of the flow.
    fn each_stage(&mut self, visit: &mut dyn FnMut(&mut dyn SegmentStage));
}

/// A stage of a segment, whatever its items are.
pub trait SegmentStage {
    /// Whether the next call may take longer than an async worker should be kept.
    fn is_costly(&self) -> bool;
    /// When it wants to be called without an item.
    fn deadline(&self) -> Option<Instant>;
    /// After a panic in this stage: counts it, takes back what the broken call had given, and drops an item that broke
    /// the stage twice. Returns the name of the stage; `None` if another one panicked.
    fn recover(&mut self) -> Option<String>;
    /// Updates the counter of what the stage holds.
    fn count_buffered(&self);
}

/// No transform at all: what a pipeline starts with. It counts nothing.
#[derive(Debug)]
pub struct Identity<T> {
    queue: Vec<T>,
}

impl<T> Default for Identity<T> {
    fn default() -> Self {
        Self { queue: Vec::new() }
    }
}

impl<T: EventCount + Send + 'static> Segment for Identity<T> {
    type In = T;
    type Out = T;

    fn inbox(&mut self) -> &mut Vec<T> {
        &mut self.queue
    }
    fn advance(&mut self, _now: Instant) {}
    fn expire(&mut self, _now: Instant) {}
    fn finish(&mut self, _now: Instant) {}
    fn ready(&mut self) -> &mut Vec<T> {
        &mut self.queue
    }
    fn each_stage(&mut self, _visit: &mut dyn FnMut(&mut dyn SegmentStage)) {}
}

/// One transform, what waits before and behind it, and its counters.
pub struct StageRunner<T: Transform> {
    stage: T,
    queue: Vec<T::In>,
    /// First item of the queue that is not done.
    next: usize,
    /// Items of the queue that are counted as received.
    counted: usize,
    output: Output<T::Out>,
    /// How much was given before the call that has not returned.
    calling: Option<usize>,
    tries: u8,
    stats: Arc<StageStats>,
    /// The counters of the stage before this one in the segment: what this one receives, that one has sent.
    upstream: Option<Arc<StageStats>>,
}

impl<T: Transform> StageRunner<T> {
    /// A runner of `stage` that counts in `stats`; `upstream` are the counters of the stage before it in its segment.
    pub fn new(stage: T, stats: Arc<StageStats>, upstream: Option<Arc<StageStats>>) -> Self {
        Self {
            stage,
            queue: Vec::new(),
            next: 0,
            counted: 0,
            output: Output::default(),
            calling: None,
            tries: 0,
            stats,
            upstream,
        }
    }

    fn call(&mut self, run: impl FnOnce(&mut T, &[T::In], &mut Output<T::Out>)) {
        self.calling = Some(self.output.items.len());
        run(&mut self.stage, &self.queue[self.next..], &mut self.output);
        self.calling = None;
        for (reason, weight) in self.output.dropped.drain(..) {
            self.stats.dropped(reason, weight);
        }
        for (reason, weight) in self.output.discarded.drain(..) {
            self.stats.discarded(reason, weight);
        }
    }
}

impl<T: Transform> StageRunner<T> {
    /// Shows a tap's readers what has come out since there were `before` items.
    fn show(&self, now: Instant, before: usize) {
        if T::Out::IS_SHOWN && self.stats.tap().is_open() {
            self.stats.tap().offer(now, self.output.items.get(before..).unwrap_or_default());
        }
    }
}

impl<T: Transform> Segment for StageRunner<T> {
    type In = T::In;
    type Out = T::Out;

    fn inbox(&mut self) -> &mut Vec<T::In> {
        &mut self.queue
    }

    fn advance(&mut self, now: Instant) {
        if self.queue.is_empty() {
            return;
        }
        let received = weigh(&self.queue[self.counted..]);
        if let Some(upstream) = &self.upstream {
            upstream.sent(received);
        }
        self.stats.received(received);
        self.stats.queued((self.queue.len() - self.next) as u64);
        self.counted = self.queue.len();
        let before = self.output.items.len();
        while self.next < self.queue.len() {
            self.call(|stage, waiting, out| stage.apply(now, &waiting[0], out));
            self.next += 1;
            self.tries = 0;
        }
        self.queue.clear();
        (self.next, self.counted) = (0, 0);
        self.show(now, before);
    }

    fn expire(&mut self, now: Instant) {
        if self.stage.deadline().is_some_and(|deadline| deadline <= now) {
            let before = self.output.items.len();
            self.call(|stage, _, out| stage.expire(now, out));
            self.show(now, before);
        }
    }

    fn finish(&mut self, now: Instant) {
        self.advance(now);
        let before = self.output.items.len();
        self.call(|stage, _, out| stage.finish(out));
        self.show(now, before);
    }

    fn ready(&mut self) -> &mut Vec<T::Out> {
        &mut self.output.items
    }

    fn each_stage(&mut self, visit: &mut dyn FnMut(&mut dyn SegmentStage)) {
        visit(self);
    }
}

impl<T: Transform> SegmentStage for StageRunner<T> {
    fn is_costly(&self) -> bool {
        self.stage.is_costly()
    }

    fn deadline(&self) -> Option<Instant> {
        self.stage.deadline()
    }

    fn recover(&mut self) -> Option<String> {
        let before = self.calling.take()?;
        self.stats.failed();
        self.output.items.truncate(before);
        self.output.dropped.clear();
        self.output.discarded.clear();
        self.tries += 1;
        if self.tries >= TRIES
            && let Some(item) = self.queue.get(self.next)
        {
            self.stats.dropped("poison", item.weight());
            item.acknowledge();
            self.next += 1;
            self.tries = 0;
        }
        Some(self.stats.name().to_owned())
    }

    fn count_buffered(&self) {
        let waiting = weigh(&self.queue[self.next..self.counted.max(self.next)]);
        self.stats.buffered(waiting + self.stage.held() + weigh(&self.output.items));
    }
}

/// Transforms of one type, one after the other: enrichers as an operator listed them.
pub struct Series<T: Transform> {
    runners: Vec<StageRunner<T>>,
    /// What passes through where there is no runner.
    none: Vec<T::In>,
}

impl<X, T> Series<T>
where
    X: EventCount + Send + 'static,
    T: Transform<In = X, Out = X>,
{
    /// The `runners` in their order; with none, everything passes.
    pub fn new(runners: Vec<StageRunner<T>>) -> Self {
        Self { runners, none: Vec::new() }
    }

    fn each(&mut self, step: impl Fn(&mut StageRunner<T>)) {
        for index in 0..self.runners.len() {
            let (before, rest) = self.runners.split_at_mut(index);
            if let Some(before) = before.last_mut() {
                pass(before, &mut rest[0]);
            }
            step(&mut rest[0]);
        }
    }
}

impl<X, T> Segment for Series<T>
where
    X: EventCount + Send + 'static,
    T: Transform<In = X, Out = X>,
{
    type In = X;
    type Out = X;

    fn inbox(&mut self) -> &mut Vec<X> {
        self.runners.first_mut().map_or(&mut self.none, |runner| runner.inbox())
    }
    fn advance(&mut self, now: Instant) {
        self.each(|runner| runner.advance(now));
    }
    fn expire(&mut self, now: Instant) {
        self.each(|runner| {
            runner.advance(now);
            runner.expire(now);
        });
    }
    fn finish(&mut self, now: Instant) {
        self.each(|runner| runner.finish(now));
    }
    fn ready(&mut self) -> &mut Vec<X> {
        self.runners.last_mut().map_or(&mut self.none, |runner| runner.ready())
    }
    fn each_stage(&mut self, visit: &mut dyn FnMut(&mut dyn SegmentStage)) {
        self.runners.iter_mut().for_each(|runner| visit(runner));
    }
}

/// Two segments in one task.
#[derive(Debug)]
pub struct Chain<A, B> {
    first: A,
    second: B,
}

impl<A: Segment, B: Segment<In = A::Out>> Chain<A, B> {
    /// `first`, then `second`.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second }
    }
}

impl<A: Segment, B: Segment<In = A::Out>> Segment for Chain<A, B> {
    type In = A::In;
    type Out = B::Out;

    fn inbox(&mut self) -> &mut Vec<A::In> {
        self.first.inbox()
    }
    fn advance(&mut self, now: Instant) {
        self.first.advance(now);
        pass(&mut self.first, &mut self.second);
        self.second.advance(now);
    }
    fn expire(&mut self, now: Instant) {
        self.first.expire(now);
        pass(&mut self.first, &mut self.second);
        self.second.advance(now);
        self.second.expire(now);
    }
    fn finish(&mut self, now: Instant) {
        self.first.finish(now);
        pass(&mut self.first, &mut self.second);
        self.second.finish(now);
    }
    fn ready(&mut self) -> &mut Vec<B::Out> {
        self.second.ready()
    }
    fn each_stage(&mut self, visit: &mut dyn FnMut(&mut dyn SegmentStage)) {
        self.first.each_stage(visit);
        self.second.each_stage(visit);
    }
}

/// Hands what `from` has ready to `to`.
fn pass<A: Segment, B: Segment<In = A::Out>>(from: &mut A, to: &mut B) {
    let (ready, inbox) = (from.ready(), to.inbox());
    if inbox.is_empty() {
        std::mem::swap(ready, inbox); // the usual case: two pointers, no copy
    } else {
        inbox.append(ready);
    }
}

/// The weight of many items.
pub(super) fn weigh<T: EventCount>(items: &[T]) -> u64 {
    items.iter().map(EventCount::weight).sum()
}
