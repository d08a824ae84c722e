//! The tasks that run stages: one for a source, one for a fused segment, one for a sink.
//!
//! A task owns its stage, its channels and the items that it has taken and not handed on, so that it can be run again
//! after a fault without losing any of them. [`super::supervise`] decides whether it is run again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::chain::{Segment, weigh};
use super::log_limit::LogLimit;
use super::ring::Ring;
use super::stage::{EventCount, Sink, Source, StageError};
use super::stats::StageStats;
use crate::tasks::spawn_blocking;

/// How many items a task takes at one wake-up.
const BURST: usize = 256;

/// How long one write of a sink may take before it counts as failed.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How long one may take before it is logged.
const WRITE_SLOW: Duration = Duration::from_secs(5);

/// Something that runs until its work is done, or faults and can be run again.
pub trait Task: Send + 'static {
    /// Runs. `Ok` is the end of its work; it is not called again after that.
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>>;

    /// Counts a fault or panic of the last run, and names the stage.
    fn failed(&mut self) -> String;

    /// Limits how often outside faults are logged, for a task that may have many; it logs when it works again.
    fn log_limit(&mut self) -> Option<&mut LogLimit> {
        None
    }
}

/// Where a segment sends what comes out of it.
#[derive(Debug)]
pub(super) enum Downstream<T> {
    /// Every item must arrive: waits when full.
    Queue(mpsc::Sender<T>),
    /// The newest matter: never waits.
    Ring(Ring<T>),
}

impl<T: EventCount + Send + 'static> Downstream<T> {
    /// Sends one burst of `ready`; returns the weight that was sent and the weight for which there is no receiver.
    async fn send(&self, ready: &mut Vec<T>) -> (u64, u64) {
        match self {
            Self::Ring(ring) => {
                let (mut sent, mut dropped) = (0, 0);
                for item in ready.drain(..) {
                    let weight = item.weight();
                    if ring.publish(item) { sent += weight } else { dropped += weight }
                }
                (sent, dropped)
            }
            Self::Queue(sender) => {
                let burst = ready.len().min(sender.max_capacity());
                let Ok(places) = sender.reserve_many(burst).await else {
                    return (0, ready.drain(..).map(|item| item.weight()).sum());
                };
                let weight = weigh(&ready[..burst]);
                for (place, item) in places.zip(ready.drain(..burst)) {
                    place.send(item);
                }
                (weight, 0)
            }
        }
    }
}

/// Runs a source until it ends or the stop is called.
pub(super) struct SourceTask<S: Source> {
    pub source: S,
    /// Dropped when the source has ended, so that what follows ends.
    pub outlet: Option<mpsc::Sender<S::Out>>,
    /// Taken from the source and not sent yet.
    pub item: Option<S::Out>,
    pub stop: CancellationToken,
    pub stats: Arc<StageStats>,
}

impl<S: Source> SourceTask<S> {
    async fn pump(&mut self) -> Result<(), StageError> {
        let Self { source, outlet: Some(outlet), item: taken, stop, stats } = self else {
            return Ok(());
        };
        let mut items = std::pin::pin!(source.open());
        loop {
            if let Some(item) = taken.take() {
                let weight = item.weight();
                // The permit comes first, so that an item is never in a future that is dropped.
                match outlet.reserve().await {
                    Ok(permit) => permit.send(item),
                    Err(_) => {
                        stats.dropped("closed", weight);
                        return Ok(());
                    }
                }
                stats.sent(weight);
                stats.buffered(0);
            }
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                next = items.next() => next,
            };
            match next {
                None => return Ok(()),
                Some(Err(fault)) => return Err(fault),
                Some(Ok(item)) => {
                    stats.received(item.weight());
                    stats.buffered(item.weight());
                    if S::Out::IS_SHOWN && stats.tap().is_open() {
                        stats.tap().offer(Instant::now(), std::slice::from_ref(&item));
                    }
                    *taken = Some(item);
                }
            }
        }
    }
}

impl<S: Source> Task for SourceTask<S> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        let run = async {
            self.pump().await?;
            self.outlet = None;
            self.source.close().await;
            Ok(())
        };
        run.boxed()
    }

    fn failed(&mut self) -> String {
        self.stats.failed();
        self.stats.name().to_owned()
    }
}

/// Runs a segment until its input has ended and everything it held is handed on.
pub(super) struct SegmentTask<S: Segment> {
    pub inbox: Upstream<S::In>,
    /// Not here while it runs on the blocking pool.
    pub segment: Option<S>,
    pub outlet: Downstream<S::Out>,
    pub input: Input,
    /// The counters of its last stage; a segment without stages counts nothing.
    pub last: Option<Arc<StageStats>>,
}

impl<S: Segment> SegmentTask<S> {
    async fn pump(&mut self) -> Result<(), StageError> {
        let Self { inbox, segment: place, outlet, input, last } = self;
        let mut alarm = std::pin::pin!(sleep_until(Instant::now()));
        advance(place, Instant::now()).await;
        // It went with a run that was dropped, and nothing is left to do.
        while let Some(segment) = place {
            while !segment.ready().is_empty() {
                segment.each_stage(&mut |stage| stage.count_buffered());
                let (sent, dropped) = outlet.send(segment.ready()).await;
                if let Some(last) = last {
                    last.sent(sent);
                    last.dropped("no_subscriber", dropped);
                }
            }
            segment.each_stage(&mut |stage| stage.count_buffered());
            if *input == Input::Finished {
                return Ok(());
            }
            let deadline = first_deadline(segment);
            if let Some(deadline) = deadline
                && alarm.deadline() != deadline
            {
                alarm.as_mut().reset(deadline);
            }
            if *input == Input::Open {
                tokio::select! {
                    biased;
                    more = inbox.take(segment.inbox()) => {
                        if !more {
                            *input = Input::Ended;
                        }
                    }
                    () = &mut alarm, if deadline.is_some() => {}
                }
            }
            let now = Instant::now();
            if *input == Input::Ended {
                segment.finish(now);
                *input = Input::Finished;
            } else {
                advance(place, now).await;
                if let Some(segment) = place {
                    segment.expire(now);
                }
            }
        }
        Ok(())
    }
}

/// Runs everything in the inbox through: here, or where that may take long on the blocking pool.
async fn advance<S: Segment>(place: &mut Option<S>, now: Instant) {
    let Some(segment) = place else { return };
    let mut is_costly = false;
    segment.each_stage(&mut |stage| is_costly |= stage.is_costly());
    if !is_costly {
        return segment.advance(now);
    }
    let Some(mut segment) = place.take() else { return };
    let advanced = spawn_blocking(move || {
        let done = catch_unwind(AssertUnwindSafe(|| segment.advance(now)));
        (segment, done)
    });
    match advanced.await {
        Ok((segment, done)) => {
            *place = Some(segment);
            if let Err(panic) = done {
                resume_unwind(panic);
            }
        }
        // The runtime ends, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

/// The earliest deadline of its stages.
fn first_deadline(segment: &mut impl Segment) -> Option<Instant> {
    let mut first = None;
    segment.each_stage(&mut |stage| first = [first, stage.deadline()].into_iter().flatten().min());
    first
}

/// How far the input of a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// More may come.
    Open,
    /// Nothing more comes; the segment may still hold something.
    Ended,
    /// Nothing more comes and the segment has given everything.
    Finished,
}

impl<S: Segment> Task for SegmentTask<S> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        self.pump().boxed()
    }

    fn failed(&mut self) -> String {
        let mut failed = None;
        if let Some(segment) = &mut self.segment {
            segment.each_stage(&mut |stage| failed = failed.take().or_else(|| stage.recover()));
        }
        failed.unwrap_or_else(|| "segment".to_owned())
    }
}

/// Where the items of a segment or a sink come from.
pub(super) enum Upstream<T> {
    /// Every item arrives.
    Queue(mpsc::Receiver<T>),
    /// The newest arrive; the subscriber counts what did and what did not.
    Subscriber(BoxStream<'static, T>),
}

impl<T: Send + 'static> Upstream<T> {
    /// Waits for at least one item, and takes all that is ready up to a burst. `false` when there will be no more.
    /// Nothing is lost if it is cancelled.
    async fn take(&mut self, into: &mut Vec<T>) -> bool {
        match self {
            Self::Queue(receiver) => receiver.recv_many(into, BURST).await > 0,
            Self::Subscriber(tail) => {
                let Some(first) = tail.next().await else { return false };
                into.push(first);
                let mut more = BURST - 1;
                while more > 0
                    && let Some(Some(next)) = tail.next().now_or_never()
                {
                    into.push(next);
                    more -= 1;
                }
                true
            }
        }
    }

    /// Whether what it gave is counted as received already.
    fn counts(&self) -> bool {
        matches!(self, Self::Subscriber(_))
    }
}

/// Runs a sink until its input has ended and everything is written.
pub(super) struct SinkTask<S: Sink> {
    inlet: Upstream<S::In>,
    sink: S,
    /// Received, in order; those before `next` are written.
    items: Vec<S::In>,
    next: usize,
    stats: Arc<StageStats>,
    log_limit: LogLimit,
}

impl<S: Sink> SinkTask<S> {
    pub(super) fn new(sink: S, inlet: Upstream<S::In>, stats: Arc<StageStats>) -> Self {
        Self { inlet, sink, items: Vec::new(), next: 0, stats, log_limit: LogLimit::default() }
    }

    async fn pump(&mut self) -> Result<(), StageError> {
        let Self { inlet, sink, items, next, stats, log_limit } = self;
        loop {
            stats.queued((items.len() - *next) as u64);
            while let Some(item) = items.get(*next) {
                stats.buffered(weigh(&items[*next..]));
                match sink.hands_on() {
                    // It waits for as long as what is behind it does.
                    true => sink.write(item).await?,
                    false => within_limit(sink.write(item), log_limit, stats).await?,
                }
                works_again(log_limit, stats);
                stats.sent(item.weight());
                if !sink.hands_on() {
                    item.acknowledge();
                }
                *next += 1;
            }
            items.clear();
            *next = 0;
            stats.buffered(0);
            within_limit(sink.flush(), log_limit, stats).await?;
            if !inlet.take(items).await {
                return Ok(());
            }
            if !inlet.counts() {
                stats.received(weigh(items));
            }
        }
    }
}

impl<S: Sink> Task for SinkTask<S> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        self.pump().boxed()
    }

    fn failed(&mut self) -> String {
        self.stats.failed();
        self.stats.name().to_owned()
    }

    fn log_limit(&mut self) -> Option<&mut LogLimit> {
        Some(&mut self.log_limit)
    }
}

/// Waits for one write of the sink that `stats` are of. One that hangs is logged, and fails later.
async fn within_limit(
    write: impl Future<Output = Result<(), StageError>>,
    log_limit: &mut LogLimit,
    stats: &StageStats,
) -> Result<(), StageError> {
    let mut write = std::pin::pin!(write);
    if let Ok(done) = timeout(WRITE_SLOW, &mut write).await {
        return done;
    }
    if log_limit.happened(Instant::now()).is_some() {
        tracing::warn!(stage = stats.name(), "a write has taken {WRITE_SLOW:?} and goes on");
    }
    match timeout(WRITE_LIMIT - WRITE_SLOW, write).await {
        Ok(done) => done,
        Err(_) => Err(StageError::outside(format_args!("nothing was written for {WRITE_LIMIT:?}"))),
    }
}

/// The stage that `stats` are of has done something without a fault.
fn works_again(log_limit: &mut LogLimit, stats: &StageStats) {
    if log_limit.is_over() {
        tracing::info!(stage = stats.name(), "stage works again");
    }
}
