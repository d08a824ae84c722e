//! The end where the newest matters: a broadcast ring. Not for anything that must arrive.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::memory_budget::MemoryBudget;
use super::stage::EventCount;
use super::stats::StageStats;
use crate::sync::IgnorePoison;

/// Keeps the newest items for any number of subscribers, none of which slows another or the
/// publisher. What a subscriber was too slow for is overwritten, and counted in that subscriber's
/// books by its exact weight.
///
/// Bounds: `keep` items, rounded up to a power of two (tokio's broadcast does that); where a [`MemoryBudget`]
/// is tight, less: the oldest are shed, down to the newest, which stays: whoever reads has a current one, also while
/// others hold the memory.
#[derive(Debug)]
pub struct Ring<T> {
    sender: broadcast::Sender<Placed<T>>,
    /// Weight of everything ever published.
    published: Arc<AtomicU64>,
    keep: usize,
    ledger: MemoryBudget,
    /// What may still be kept for somebody, oldest first.
    kept: Arc<Mutex<VecDeque<Weak<Slot<T>>>>>,
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        let (published, kept) = (Arc::clone(&self.published), Arc::clone(&self.kept));
        let (sender, ledger) = (self.sender.clone(), self.ledger.clone());
        Self { sender, published, keep: self.keep, ledger, kept }
    }
}

/// An item that can be taken out while subscribers still have it before them.
type Slot<T> = Mutex<Option<T>>;

/// An item and the weight of all that was published before it: how a gap is weighed exactly.
#[derive(Debug)]
struct Placed<T> {
    before: u64,
    weight: u64,
    item: Arc<Slot<T>>,
}

impl<T> Clone for Placed<T> {
    fn clone(&self) -> Self {
        Self { before: self.before, weight: self.weight, item: Arc::clone(&self.item) }
    }
}

impl<T: EventCount + Send + 'static> Ring<T> {
    /// A ring that keeps the newest `keep` items (at least one).
    pub fn new(keep: usize) -> Self {
        let (keep, ledger) = (keep.max(1), MemoryBudget::default());
        let (sender, published) = (broadcast::Sender::new(keep), Arc::default());
        Self { sender, published, keep, ledger, kept: Arc::default() }
    }

    /// Keeps less while `ledger` is tight.
    pub fn within(mut self, ledger: &MemoryBudget) -> Self {
        self.ledger = ledger.clone();
        self
    }

    /// How many items are kept.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Publishes one item. There may be no subscriber at all: then it is gone, and `false`.
    pub fn publish(&self, item: T) -> bool {
        // One task publishes to a ring; a second would only make a gap look larger than it is.
        let weight = item.weight();
        item.acknowledge();
        let before = self.published.fetch_add(weight, Relaxed);
        let item = Arc::new(Mutex::new(Some(item)));
        let newest = Arc::downgrade(&item);
        let is_heard = self.sender.send(Placed { before, weight, item }).is_ok();
        let mut kept = lock(&self.kept);
        kept.push_back(newest);
        // Those that were taken or overwritten are gone, the oldest first; a ring has twice `keep` places at most.
        let too_many = kept.len().saturating_sub(2 * self.keep);
        kept.drain(..too_many);
        while kept.front().is_some_and(|oldest| oldest.strong_count() == 0) {
            kept.pop_front();
        }
        while kept.len() > 1
            && self.ledger.is_tight()
            && let Some(oldest) = kept.pop_front()
        {
            if let Some(oldest) = oldest.upgrade() {
                *lock(&oldest) = None;
            }
        }
        is_heard
    }

    /// Everything published from now on. What it yields is booked in `node` as taken: whoever
    /// takes it books what becomes of it.
    pub fn subscribe(&self, node: Arc<StageStats>) -> Subscriber<T> {
        let stream = BroadcastStream::new(self.sender.subscribe());
        Subscriber { stream, expected: self.published.load(Relaxed), node, hands_on: false }
    }

    /// The same for a taker that keeps books of its own: what is yielded is booked as handed on.
    pub fn lane(&self, node: Arc<StageStats>) -> Subscriber<T> {
        Subscriber { hands_on: true, ..self.subscribe(node) }
    }
}

/// One subscriber of a [`Ring`]: a stream of the items it was quick enough for.
///
/// Books what was overwritten as taken and lost, and what it yields as taken.
#[derive(Debug)]
pub struct Subscriber<T> {
    stream: BroadcastStream<Placed<T>>,
    expected: u64,
    node: Arc<StageStats>,
    hands_on: bool,
}

impl<T: Clone + EventCount + Send + 'static> Stream for Subscriber<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            // How many items were missed does not matter: the next one tells their weight.
            let Some(Ok(Placed { before, weight, item })) =
                (match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                    None => return Poll::Ready(None),
                    next => next,
                })
            else {
                continue;
            };
            let missed = before.saturating_sub(self.expected);
            self.node.received(missed + weight);
            self.node.dropped("overwritten", missed);
            self.expected = before + weight;
            let Some(item) = lock(&item).clone() else {
                self.node.dropped("shed", weight);
                continue;
            };
            if self.hands_on {
                self.node.sent(weight);
            }
            return Poll::Ready(Some(item));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().ignore_poison()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};

    use super::*;

    #[derive(Clone)]
    struct Item(Bytes);

    impl EventCount for Item {}

    #[test]
    fn the_oldest_go_where_memory_is_tight_and_whoever_was_slow_is_told_how_many() {
        let ledger = MemoryBudget::new(100_000);
        let ring = Ring::new(1_000).within(&ledger);
        let (node, mut seen) = (Arc::<StageStats>::default(), Vec::new());
        let mut slow = ring.subscribe(Arc::clone(&node));
        for number in 0..100_u8 {
            ring.publish(Item(ledger.hold(vec![number; 5_000].into())));
            assert!(ledger.used() <= 50_000 + 5_300, "{}", ledger.used());
        }
        while let Some(Some(Item(bytes))) = slow.next().now_or_never() {
            seen.push(bytes[0]);
        }
        assert_eq!((seen.last(), seen.len()), (Some(&99), 9), "the newest are there");
        assert!(seen.is_sorted());
        assert_eq!(node.count().dropped, [("shed", 91)]);
        assert_eq!(node.count().received, 100);
        assert_eq!(ledger.used(), 0, "what was taken is refunded");
    }

    #[test]
    fn the_newest_stays_while_others_hold_the_memory() {
        let ledger = MemoryBudget::new(100_000);
        let commands = ledger.charge(90_000);
        let ring = Ring::new(64).within(&ledger);
        let node = Arc::<StageStats>::default();
        let mut slow = ring.subscribe(Arc::clone(&node));
        for number in 0..10_u8 {
            ring.publish(Item(ledger.hold(vec![number; 1_000].into())));
        }
        let mut next = || slow.next().now_or_never().flatten().map(|Item(bytes)| bytes[0]);
        assert_eq!((next(), next()), (Some(9), None));
        assert_eq!(node.count().dropped, [("shed", 9)]);
        assert!(ledger.used() < 92_000, "one frame beside what the others hold");
        drop(commands);
    }

    #[test]
    fn what_everybody_took_is_not_remembered_for_ever() {
        let ring = Ring::new(100);
        let mut quick = ring.subscribe(Arc::default());
        for number in 0..100_u8 {
            ring.publish(Item(Bytes::from(vec![number])));
            assert!(quick.next().now_or_never().is_some());
        }
        assert_eq!(
            lock(&ring.kept).len(),
            1,
            "the memory of a slot is kept as long as it is remembered"
        );
    }
}
