//! A broadcast ring of the newest items: for what may be lost when it is old, never for durable messages.

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

/// Keeps the newest items for any number of subscribers. A slow subscriber delays neither the publisher nor another
/// subscriber: what it was too slow for is overwritten, and counted as dropped in its own statistics by its exact
/// weight.
///
/// Bounds: `keep` items, rounded up to a power of two (tokio's broadcast does that). While a [`MemoryBudget`] is tight
/// the oldest are dropped as `shed`, down to the newest, which always stays: a reader gets a current one, also while
/// others hold the memory.
#[derive(Debug)]
pub struct Ring<T> {
    sender: broadcast::Sender<Published<T>>,
    /// Weight of everything ever published.
    published: Arc<AtomicU64>,
    keep: usize,
    budget: MemoryBudget,
    /// Items that a subscriber may still read, oldest first.
    kept: Arc<Mutex<VecDeque<Weak<Slot<T>>>>>,
}

impl<T> Clone for Ring<T> {
    fn clone(&self) -> Self {
        let (published, kept) = (Arc::clone(&self.published), Arc::clone(&self.kept));
        let (sender, budget) = (self.sender.clone(), self.budget.clone());
        Self { sender, published, keep: self.keep, budget, kept }
    }
}

/// An item that can be removed while subscribers have yet to read it.
type Slot<T> = Mutex<Option<T>>;

/// An item and the weight of all that was published before it, from which the weight of a gap follows.
#[derive(Debug)]
struct Published<T> {
    before: u64,
    weight: u64,
    item: Arc<Slot<T>>,
}

impl<T> Clone for Published<T> {
    fn clone(&self) -> Self {
        Self { before: self.before, weight: self.weight, item: Arc::clone(&self.item) }
    }
}

impl<T: EventCount + Send + 'static> Ring<T> {
    /// A ring that keeps the newest `keep` items (at least one).
    pub fn new(keep: usize) -> Self {
        let (keep, budget) = (keep.max(1), MemoryBudget::default());
        let (sender, published) = (broadcast::Sender::new(keep), Arc::default());
        Self { sender, published, keep, budget, kept: Arc::default() }
    }

    /// Keeps less while `budget` is tight.
    pub fn within(mut self, budget: &MemoryBudget) -> Self {
        self.budget = budget.clone();
        self
    }

    /// How many items are kept.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Publishes one item. Without a subscriber it is dropped: `false`.
    pub fn publish(&self, item: T) -> bool {
        // One task publishes to a ring; a second would only make a gap look larger than it is.
        let weight = item.weight();
        item.acknowledge();
        let before = self.published.fetch_add(weight, Relaxed);
        let item = Arc::new(Mutex::new(Some(item)));
        let newest = Arc::downgrade(&item);
        let is_received = self.sender.send(Published { before, weight, item }).is_ok();
        let mut kept = lock(&self.kept);
        kept.push_back(newest);
        // Those that were read or overwritten are gone, the oldest first; a ring has at most twice `keep` slots.
        let too_many = kept.len().saturating_sub(2 * self.keep);
        kept.drain(..too_many);
        while kept.front().is_some_and(|oldest| oldest.strong_count() == 0) {
            kept.pop_front();
        }
        while kept.len() > 1
            && self.budget.is_tight()
            && let Some(oldest) = kept.pop_front()
        {
            if let Some(oldest) = oldest.upgrade() {
                *lock(&oldest) = None;
            }
        }
        is_received
    }

    /// Everything published from now on. What the subscriber yields is counted in `stats` as received; its reader counts
    /// what becomes of it.
    pub fn subscribe(&self, stats: Arc<StageStats>) -> Subscriber<T> {
        let stream = BroadcastStream::new(self.sender.subscribe());
        Subscriber { stream, expected: self.published.load(Relaxed), stats, counts_sent: false }
    }

    /// The same for a reader with statistics of its own: what the subscriber yields is counted as sent, too.
    pub fn forward(&self, stats: Arc<StageStats>) -> Subscriber<T> {
        Subscriber { counts_sent: true, ..self.subscribe(stats) }
    }
}

/// One subscriber of a [`Ring`]: a stream of the items that it was quick enough for.
///
/// It counts what was overwritten as received and dropped, and what it yields as received.
#[derive(Debug)]
pub struct Subscriber<T> {
    stream: BroadcastStream<Published<T>>,
    expected: u64,
    stats: Arc<StageStats>,
    counts_sent: bool,
}

impl<T: Clone + EventCount + Send + 'static> Stream for Subscriber<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            // The number of missed items does not matter: the next item has their weight.
            let Some(Ok(Published { before, weight, item })) =
                (match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                    None => return Poll::Ready(None),
                    next => next,
                })
            else {
                continue;
            };
            let missed = before.saturating_sub(self.expected);
            self.stats.received(missed + weight);
            self.stats.dropped("overwritten", missed);
            self.expected = before + weight;
            let Some(item) = lock(&item).clone() else {
                self.stats.dropped("shed", weight);
                continue;
            };
            if self.counts_sent {
                self.stats.sent(weight);
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
    fn the_oldest_are_shed_while_memory_is_tight_and_a_slow_subscriber_counts_them() {
        let budget = MemoryBudget::new(100_000);
        let ring = Ring::new(1_000).within(&budget);
        let (node, mut seen) = (Arc::<StageStats>::default(), Vec::new());
        let mut slow = ring.subscribe(Arc::clone(&node));
        for number in 0..100_u8 {
            ring.publish(Item(budget.hold(vec![number; 5_000].into())));
            assert!(budget.used() <= 50_000 + 5_300, "{}", budget.used());
        }
        while let Some(Some(Item(bytes))) = slow.next().now_or_never() {
            seen.push(bytes[0]);
        }
        assert_eq!((seen.last(), seen.len()), (Some(&99), 9), "the newest are there");
        assert!(seen.is_sorted());
        assert_eq!(node.count().dropped, [("shed", 91)]);
        assert_eq!(node.count().received, 100);
        assert_eq!(budget.used(), 0, "what was read is released");
    }

    #[test]
    fn the_newest_stays_while_others_hold_the_memory() {
        let budget = MemoryBudget::new(100_000);
        let commands = budget.reserve(90_000);
        let ring = Ring::new(64).within(&budget);
        let node = Arc::<StageStats>::default();
        let mut slow = ring.subscribe(Arc::clone(&node));
        for number in 0..10_u8 {
            ring.publish(Item(budget.hold(vec![number; 1_000].into())));
        }
        let mut next = || slow.next().now_or_never().flatten().map(|Item(bytes)| bytes[0]);
        assert_eq!((next(), next()), (Some(9), None));
        assert_eq!(node.count().dropped, [("shed", 9)]);
        assert!(budget.used() < 92_000, "one frame beside what the others hold");
        drop(commands);
    }

    #[test]
    fn an_item_that_every_subscriber_has_read_is_not_kept() {
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
