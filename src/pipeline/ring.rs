//! The end where the newest matters: a broadcast ring. Not for anything that must arrive.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use futures::Stream;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::health::Node;
use super::stage::Weigh;

/// Keeps the newest items for any number of subscribers, none of which slows another or the
/// publisher. What a subscriber was too slow for is overwritten, and counted in that subscriber's
/// books by its exact weight.
///
/// Bound: `keep` items, rounded up to a power of two (tokio's broadcast does that).
#[derive(Debug, Clone)]
pub struct Ring<T> {
    sender: broadcast::Sender<Placed<T>>,
    /// Weight of everything ever published.
    published: Arc<AtomicU64>,
    keep: usize,
}

/// An item and the weight of all that was published before it: how a gap is weighed exactly.
#[derive(Debug, Clone)]
struct Placed<T> {
    before: u64,
    item: T,
}

impl<T: Clone + Weigh + Send + 'static> Ring<T> {
    /// A ring that keeps the newest `keep` items (at least one).
    pub fn new(keep: usize) -> Self {
        let keep = keep.max(1);
        Self { sender: broadcast::Sender::new(keep), published: Arc::default(), keep }
    }

    /// How many items are kept.
    pub fn keep(&self) -> usize {
        self.keep
    }

    /// Publishes one item. There may be no subscriber at all: then it is gone, and `false`.
    pub fn publish(&self, item: T) -> bool {
        // One task publishes to a ring; a second would only make a gap look larger than it is.
        let before = self.published.fetch_add(item.weight(), Relaxed);
        self.sender.send(Placed { before, item }).is_ok()
    }

    /// Everything published from now on. What it yields is booked in `node` as taken: whoever
    /// takes it books what becomes of it.
    pub fn subscribe(&self, node: Arc<Node>) -> Tail<T> {
        let stream = BroadcastStream::new(self.sender.subscribe());
        Tail { stream, expected: self.published.load(Relaxed), node, hands_on: false }
    }

    /// The same for a taker that keeps books of its own: what is yielded is booked as handed on.
    pub fn lane(&self, node: Arc<Node>) -> Tail<T> {
        Tail { hands_on: true, ..self.subscribe(node) }
    }
}

/// One subscriber of a [`Ring`]: a stream of the items it was quick enough for.
///
/// Books what was overwritten as taken and lost, and what it yields as taken.
#[derive(Debug)]
pub struct Tail<T> {
    stream: BroadcastStream<Placed<T>>,
    expected: u64,
    node: Arc<Node>,
    hands_on: bool,
}

impl<T: Clone + Weigh + Send + 'static> Stream for Tail<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            // How many items were missed does not matter: the next one tells their weight.
            let Some(Ok(Placed { before, item })) =
                (match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                    None => return Poll::Ready(None),
                    next => next,
                })
            else {
                continue;
            };
            let missed = before.saturating_sub(self.expected);
            let weight = item.weight();
            self.node.took(missed + weight);
            self.node.lost("overwritten", missed);
            if self.hands_on {
                self.node.gave(weight);
            }
            self.expected = before + weight;
            return Poll::Ready(Some(item));
        }
    }
}
