//! Transforms fused into one unit: what one calls `then` on. No task, no channel, no clock here.

use std::sync::Arc;

use tokio::time::Instant;

use super::stage::{EventCount, Output, Transform};
use super::stats::StageStats;

/// How often an item is offered to a transform that panics on it, before it is given up.
const TRIES: u8 = 2;

/// One or more transforms that run in one task. Items wait inside, on both sides of each transform,
/// so a panic in one loses nothing: [`recover`](Self::recover), then [`advance`](Self::advance)
/// goes on where it was.
pub trait Segment: Send + 'static {
    /// What goes in.
    type In: EventCount + Send + 'static;
    /// What comes out.
    type Out: EventCount + Send + 'static;

    /// Where the task puts what has arrived.
    fn inbox(&mut self) -> &mut Vec<Self::In>;
    /// Runs everything in the inbox through.
    fn advance(&mut self, now: Instant);
    /// Whether that may take longer than an async worker should be kept.
    fn is_costly(&self) -> bool;
    /// The earliest deadline of its transforms.
    fn deadline(&self) -> Option<Instant>;
    /// Tells the transforms whose deadline has come.
    fn expire(&mut self, now: Instant);
    /// The input has ended: everything held comes out.
    fn finish(&mut self, now: Instant);
    /// What has come out and waits to be handed on.
    fn ready(&mut self) -> &mut Vec<Self::Out>;
    /// Books that `weight` of what was ready has been handed on.
    fn sent(&self, weight: u64);
    /// Books that `weight` of what was ready found nobody to take it.
    fn dropped(&self, reason: &'static str, weight: u64);
    /// After a panic: books the fault, takes back what the broken call had given, gives up an item
    /// that broke twice. Returns the name of the stage that panicked.
    fn recover(&mut self) -> Option<String>;
    /// States in the books what is held.
    fn book(&self);
}

/// No transform at all: what a pipeline starts with. It keeps no books.
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
    fn is_costly(&self) -> bool {
        false
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
    fn expire(&mut self, _now: Instant) {}
    fn finish(&mut self, _now: Instant) {}
    fn ready(&mut self) -> &mut Vec<T> {
        &mut self.queue
    }
    fn sent(&self, _weight: u64) {}
    fn dropped(&self, _reason: &'static str, _weight: u64) {}
    fn recover(&mut self) -> Option<String> {
        None
    }
    fn book(&self) {}
}

/// One transform, what waits before and behind it, and its books.
pub struct StageRunner<T: Transform> {
    stage: T,
    queue: Vec<T::In>,
    /// First item of the queue that is not done.
    next: usize,
    /// Items of the queue that the books know of.
    booked: usize,
    output: Output<T::Out>,
    /// How much was given before the call that has not returned.
    calling: Option<usize>,
    tries: u8,
    node: Arc<StageStats>,
}

impl<T: Transform> StageRunner<T> {
    /// A link that keeps its books in `node`.
    pub fn new(stage: T, node: Arc<StageStats>) -> Self {
        Self {
            stage,
            queue: Vec::new(),
            next: 0,
            booked: 0,
            output: Output::default(),
            calling: None,
            tries: 0,
            node,
        }
    }

    fn call(&mut self, run: impl FnOnce(&mut T, &[T::In], &mut Output<T::Out>)) {
        self.calling = Some(self.output.items.len());
        run(&mut self.stage, &self.queue[self.next..], &mut self.output);
        self.calling = None;
        for (reason, weight) in self.output.dropped.drain(..) {
            self.node.dropped(reason, weight);
        }
        for (reason, weight) in self.output.discarded.drain(..) {
            self.node.discarded(reason, weight);
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
        self.node.received(weigh(&self.queue[self.booked..]));
        self.node.queued((self.queue.len() - self.next) as u64);
        self.booked = self.queue.len();
        while self.next < self.queue.len() {
            self.call(|stage, waiting, out| stage.apply(now, &waiting[0], out));
            self.next += 1;
            self.tries = 0;
        }
        self.queue.clear();
        (self.next, self.booked) = (0, 0);
    }

    fn is_costly(&self) -> bool {
        self.stage.is_costly()
    }

    fn deadline(&self) -> Option<Instant> {
        self.stage.deadline()
    }

    fn expire(&mut self, now: Instant) {
        if self.stage.deadline().is_some_and(|deadline| deadline <= now) {
            self.call(|stage, _, out| stage.expire(now, out));
        }
    }

    fn finish(&mut self, now: Instant) {
        self.advance(now);
        self.call(|stage, _, out| stage.finish(out));
    }

    fn ready(&mut self) -> &mut Vec<T::Out> {
        &mut self.output.items
    }

    fn sent(&self, weight: u64) {
        self.node.sent(weight);
    }

    fn dropped(&self, reason: &'static str, weight: u64) {
        self.node.dropped(reason, weight);
    }

    fn recover(&mut self) -> Option<String> {
        let before = self.calling.take()?;
        self.node.failed();
        self.output.items.truncate(before);
        self.output.dropped.clear();
        self.output.discarded.clear();
        self.tries += 1;
        if self.tries >= TRIES
            && let Some(item) = self.queue.get(self.next)
        {
            self.node.dropped("poison", item.weight());
            item.acknowledge();
            self.next += 1;
            self.tries = 0;
        }
        Some(self.node.name().to_owned())
    }

    fn book(&self) {
        let waiting = weigh(&self.queue[self.next..self.booked.max(self.next)]);
        self.node.buffered(waiting + self.stage.held() + weigh(&self.output.items));
    }
}

/// Transforms of one kind, one after the other: enrichers as an operator listed them.
pub struct Series<T: Transform> {
    links: Vec<StageRunner<T>>,
    /// What passes through where there is no link.
    none: Vec<T::In>,
}

impl<X, T> Series<T>
where
    X: EventCount + Send + 'static,
    T: Transform<In = X, Out = X>,
{
    /// The `links` in their order; with none, everything passes.
    pub fn new(links: Vec<StageRunner<T>>) -> Self {
        Self { links, none: Vec::new() }
    }

    fn each(&mut self, step: impl Fn(&mut StageRunner<T>)) {
        for index in 0..self.links.len() {
            let (before, rest) = self.links.split_at_mut(index);
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
        self.links.first_mut().map_or(&mut self.none, |link| link.inbox())
    }
    fn advance(&mut self, now: Instant) {
        self.each(|link| link.advance(now));
    }
    fn is_costly(&self) -> bool {
        self.links.iter().any(Segment::is_costly)
    }
    fn deadline(&self) -> Option<Instant> {
        self.links.iter().filter_map(Segment::deadline).min()
    }
    fn expire(&mut self, now: Instant) {
        self.each(|link| {
            link.advance(now);
            link.expire(now);
        });
    }
    fn finish(&mut self, now: Instant) {
        self.each(|link| link.finish(now));
    }
    fn ready(&mut self) -> &mut Vec<X> {
        self.links.last_mut().map_or(&mut self.none, |link| link.ready())
    }
    fn sent(&self, weight: u64) {
        if let Some(last) = self.links.last() {
            last.sent(weight);
        }
    }
    fn dropped(&self, reason: &'static str, weight: u64) {
        if let Some(last) = self.links.last() {
            last.dropped(reason, weight);
        }
    }
    fn recover(&mut self) -> Option<String> {
        self.links.iter_mut().find_map(Segment::recover)
    }
    fn book(&self) {
        self.links.iter().for_each(Segment::book);
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
    fn is_costly(&self) -> bool {
        self.first.is_costly() || self.second.is_costly()
    }
    fn deadline(&self) -> Option<Instant> {
        [self.first.deadline(), self.second.deadline()].into_iter().flatten().min()
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
    fn sent(&self, weight: u64) {
        self.second.sent(weight);
    }
    fn dropped(&self, reason: &'static str, weight: u64) {
        self.second.dropped(reason, weight);
    }
    fn recover(&mut self) -> Option<String> {
        self.first.recover().or_else(|| self.second.recover())
    }
    fn book(&self) {
        self.first.book();
        self.second.book();
    }
}

/// Hands what `from` has ready to `to`.
fn pass<A: Segment, B: Segment<In = A::Out>>(from: &mut A, to: &mut B) {
    if from.ready().is_empty() {
        return;
    }
    let weight = weigh(from.ready());
    from.sent(weight);
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
