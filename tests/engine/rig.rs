//! Stages that count, pair, drop and trip, and the books that must balance.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures::{Stream, stream};
use infiniservice::pipeline::StageCounts;
use infiniservice::pipeline::{EventCount, Output, Sink, Source, StageError, Transform};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

#[derive(Debug, Clone, PartialEq)]
pub struct Number(pub u64);
impl EventCount for Number {}

#[derive(Debug, Clone, PartialEq)]
pub struct Pair(pub Vec<u64>);
impl EventCount for Pair {
    fn weight(&self) -> u64 {
        self.0.len() as u64
    }
}

/// Counts up to `end`; the next number lives in `self`, so a fault does not start it anew.
pub struct Count {
    next: u64,
    end: u64,
    pub panic_at: Option<u64>,
    pub then_wait: bool,
}
pub fn count(end: u64) -> Count {
    Count { next: 0, end, panic_at: None, then_wait: false }
}
impl Source for Count {
    type Out = Number;
    fn open(&mut self) -> impl Stream<Item = Result<Number, StageError>> + Send + '_ {
        stream::unfold(self, |this| async move {
            if this.panic_at == Some(this.next) {
                this.panic_at = None;
                panic!("the source trips at {}", this.next);
            }
            if this.next == this.end {
                if this.then_wait {
                    std::future::pending::<()>().await;
                }
                return None;
            }
            this.next += 1;
            Some((Ok(Number(this.next - 1)), this))
        })
    }
}

/// What another graph hands on.
pub struct Handed(pub mpsc::Receiver<Number>);
impl Source for Handed {
    type Out = Number;
    fn open(&mut self) -> impl Stream<Item = Result<Number, StageError>> + Send + '_ {
        stream::poll_fn(|cx| self.0.poll_recv(cx).map(|number| number.map(Ok)))
    }
}

/// Panics on chosen numbers, so often each.
pub struct Brittle(pub Vec<(u64, u32)>);
impl Transform for Brittle {
    type In = Number;
    type Out = Number;
    fn apply(&mut self, _now: Instant, input: &Number, out: &mut Output<Number>) {
        out.push(input.clone()); // given, then taken back when the call breaks
        if let Some((_, times)) = self.0.iter_mut().find(|(n, times)| *n == input.0 && *times > 0) {
            *times -= 1;
            panic!("brittle at {}", input.0);
        }
    }
}

/// Drops odd numbers and says so.
pub struct Even;
impl Transform for Even {
    type In = Number;
    type Out = Number;
    fn apply(&mut self, _now: Instant, input: &Number, out: &mut Output<Number>) {
        if input.0.is_multiple_of(2) { out.push(input.clone()) } else { out.drop_items("odd", 1) }
    }
}

/// Holds one back to make pairs; hands the odd one over at the end, or after a second.
#[derive(Default)]
pub struct Pairs(Option<(u64, Instant)>);
impl Transform for Pairs {
    type In = Number;
    type Out = Pair;
    fn apply(&mut self, now: Instant, input: &Number, out: &mut Output<Pair>) {
        match self.0.take() {
            Some((first, _)) => out.push(Pair(vec![first, input.0])),
            None => self.0 = Some((input.0, now)),
        }
    }
    fn deadline(&self) -> Option<Instant> {
        self.0.map(|(_, since)| since + Duration::from_secs(1))
    }
    fn expire(&mut self, _now: Instant, out: &mut Output<Pair>) {
        self.finish(out);
    }
    fn finish(&mut self, out: &mut Output<Pair>) {
        out.items_from(self.0.take());
    }
    fn held(&self) -> u64 {
        u64::from(self.0.is_some())
    }
}
trait ItemsFrom {
    fn items_from(&mut self, first: Option<(u64, Instant)>);
}
impl ItemsFrom for Output<Pair> {
    fn items_from(&mut self, first: Option<(u64, Instant)>) {
        if let Some((number, _)) = first {
            self.push(Pair(vec![number]));
        }
    }
}

/// Hands everything to the test; fails chosen writes first.
pub struct Tell<T> {
    pub to: mpsc::Sender<T>,
    pub fail: Vec<u32>,
    pub writes: Arc<AtomicU32>,
}
impl<T: Clone + EventCount + Send + Sync + 'static> Sink for Tell<T> {
    type In = T;
    async fn write(&mut self, item: &T) -> Result<(), StageError> {
        let write = self.writes.fetch_add(1, SeqCst);
        if self.fail.contains(&write) {
            return Err(StageError::outside("the disk is full"));
        }
        self.to.send(item.clone()).await.map_err(|_| StageError::last("the test has gone"))
    }
}
pub fn tell<T>(bound: usize) -> (Tell<T>, mpsc::Receiver<T>) {
    let (to, from) = mpsc::channel(bound);
    (Tell { to, fail: Vec::new(), writes: Arc::default() }, from)
}

pub const DRAIN: Duration = Duration::from_secs(5);

pub fn balanced(counts: &[StageCounts]) {
    for count in counts {
        let lost = count.not_sent_total();
        assert_eq!(count.received, count.sent + lost + count.buffered, "the books of {count:?}");
    }
}

pub fn node<'a>(counts: &'a [StageCounts], name: &str) -> &'a StageCounts {
    counts
        .iter()
        .find(|count| count.node == name)
        .unwrap_or_else(|| panic!("no node {name} in {counts:?}"))
}

pub async fn all<T>(mut from: mpsc::Receiver<T>) -> Vec<T> {
    let mut items = Vec::new();
    while let Some(item) = timeout(Duration::from_secs(3600), from.recv()).await.expect("no hang") {
        items.push(item);
    }
    items
}
