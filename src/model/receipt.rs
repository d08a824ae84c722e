//! Receipts: how a source learns that what it gave away has arrived, however it was batched on the way.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::sync::IgnorePoison;

/// Travels with a batch, and with the frame that is made of it. A clone is the same receipt; the default acknowledges nothing.
///
/// [`acknowledge`](Self::acknowledge) says that the batch is where it must be. A receipt whose clones are all dropped
/// without that acknowledges nothing: its source reads the same again at its next start.
///
/// A batch that is spread over several frames puts its receipt into the last of them, since frames are written in order.
#[derive(Clone, Default)]
pub struct Receipt(Option<Arc<[Part]>>);

impl Receipt {
    /// One receipt for several batches that go on as one.
    pub fn merge(receipts: impl IntoIterator<Item = Self>) -> Self {
        let mut receipts = receipts.into_iter().filter(|receipt| receipt.0.is_some());
        let Some(first) = receipts.next() else { return Self::default() };
        let Some(second) = receipts.next() else { return first };
        let all = [first, second].into_iter().chain(receipts).filter_map(|receipt| receipt.0);
        let parts: Vec<Part> = all.flat_map(|parts| parts.to_vec()).collect();
        Self(Some(parts.into()))
    }

    /// Whether a source waits for it.
    pub fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// Says that the batch is where it must be: written, stored, published, or dropped on purpose. Never blocks; a
    /// second time does nothing.
    pub fn acknowledge(&self) {
        for part in self.0.iter().flat_map(|parts| parts.iter()) {
            if !part.0.done.swap(true, Relaxed) {
                part.0.source.done(part.0.ticket, true);
            }
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({})", self.0.as_ref().map_or(0, |parts| parts.len()))
    }
}

/// One batch of one source.
#[derive(Clone)]
struct Part(Arc<Ticket>);

struct Ticket {
    source: Arc<dyn ReceiptSource>,
    ticket: u64,
    done: AtomicBool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !*self.done.get_mut() {
            self.source.done(self.ticket, false);
        }
    }
}

trait ReceiptSource: Send + Sync {
    /// The batch of this ticket has arrived, or never will.
    fn done(&self, ticket: u64, has_arrived: bool);
}

/// The batches that a source has given away, in order, with a position for each. A clone is the same.
///
/// It remembers as many positions as there are receipts on their way, which the channels and buffers behind the source
/// bound. After a batch that was dropped without an acknowledgement the position stays before it, and nothing more is
/// remembered.
///
/// ```
/// use infiniservice::model::Unacknowledged;
///
/// let positions = Unacknowledged::default();
/// let (first, second) = (positions.receipt(10), positions.receipt(20));
/// second.acknowledge();
/// assert_eq!(positions.take(), None, "the first batch is still on its way");
/// first.acknowledge();
/// assert_eq!(positions.take(), Some(20));
/// assert_eq!(positions.take(), None, "nothing new");
/// ```
pub struct Unacknowledged<P>(Arc<Shared<P>>);

struct Shared<P> {
    state: Mutex<ReceiptQueue<P>>,
    settled: Notify,
}

impl<P> Clone for Unacknowledged<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> Default for Unacknowledged<P> {
    fn default() -> Self {
        let (waiting, first, newest, is_stopped) = (VecDeque::new(), 0, None, false);
        let state = Mutex::new(ReceiptQueue { waiting, first, newest, is_stopped });
        Self(Arc::new(Shared { state, settled: Notify::new() }))
    }
}

impl<P> fmt::Debug for Unacknowledged<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unacknowledged({})", self.state().waiting.len())
    }
}

struct ReceiptQueue<P> {
    /// Oldest first; those that have arrived wait for the ones before them.
    waiting: VecDeque<(P, bool)>,
    /// The ticket of the first of them.
    first: u64,
    /// The highest position with nothing unacknowledged below it, if it is new.
    newest: Option<P>,
    /// A batch was dropped: the position stays where it is.
    is_stopped: bool,
}

impl<P: Send + 'static> Unacknowledged<P> {
    /// A receipt for the next batch. `position` is where to go on once it is acknowledged.
    pub fn receipt(&self, position: P) -> Receipt {
        let mut state = self.state();
        let ticket = match state.is_stopped {
            true => u64::MAX,
            false => state.first + state.waiting.len() as u64,
        };
        if !state.is_stopped {
            state.waiting.push_back((position, false));
        }
        let source = Arc::clone(&self.0) as Arc<dyn ReceiptSource>;
        let part = Part(Arc::new(Ticket { source, ticket, done: AtomicBool::new(false) }));
        Receipt(Some(Arc::new([part])))
    }
}

impl<P> Unacknowledged<P> {
    /// The highest position with nothing unacknowledged below it, if there is a new one.
    pub fn take(&self) -> Option<P> {
        self.state().newest.take()
    }

    /// Whether every batch has arrived, or is known to be dropped.
    pub fn is_settled(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// Waits until every batch has arrived, or is known to be dropped.
    pub async fn settled(&self) {
        loop {
            let mut settled = std::pin::pin!(self.0.settled.notified());
            settled.as_mut().enable();
            if self.is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// Whether a batch was dropped without an acknowledgement.
    pub fn is_stopped(&self) -> bool {
        self.state().is_stopped
    }

    fn state(&self) -> MutexGuard<'_, ReceiptQueue<P>> {
        self.0.state.lock().ignore_poison()
    }
}

impl<P: Send> ReceiptSource for Shared<P> {
    fn done(&self, ticket: u64, has_arrived: bool) {
        let mut state = self.state.lock().ignore_poison();
        let Some(index) = ticket.checked_sub(state.first).and_then(|at| usize::try_from(at).ok())
        else {
            return;
        };
        if !has_arrived {
            state.is_stopped = true;
            state.waiting.truncate(index);
        } else if let Some((_, arrived)) = state.waiting.get_mut(index) {
            *arrived = true;
        }
        while let Some((position, _)) = state.waiting.pop_front_if(|(_, arrived)| *arrived) {
            state.first += 1;
            state.newest = Some(position);
        }
        if state.waiting.is_empty() {
            self.settled.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_moves_over_what_is_acknowledged_without_a_hole() {
        let positions = Unacknowledged::default();
        let receipts: Vec<Receipt> = (1..=4).map(|number| positions.receipt(number)).collect();
        receipts[1].acknowledge();
        receipts[2].clone().acknowledge();
        assert_eq!(positions.take(), None);
        receipts[0].acknowledge();
        assert_eq!(positions.take(), Some(3));
        receipts[0].acknowledge();
        assert_eq!(positions.take(), None);
        assert!(!positions.is_settled());
        receipts[3].acknowledge();
        assert_eq!((positions.take(), positions.is_settled()), (Some(4), true));
        drop(receipts);
        assert!(!positions.is_stopped());
    }

    #[test]
    fn a_merged_receipt_acknowledges_every_batch_of_every_source_in_it() {
        let (one, other) = (Unacknowledged::default(), Unacknowledged::default());
        let parts = [one.receipt(1), Receipt::default(), other.receipt("a"), one.receipt(2)];
        let merged = Receipt::merge([Receipt::merge(parts), other.receipt("b")]);
        assert_eq!((one.take(), other.take()), (None, None));
        merged.acknowledge();
        assert_eq!((one.take(), other.take()), (Some(2), Some("b")));
    }

    #[test]
    fn after_a_batch_that_was_dropped_the_position_stays_before_it_and_nothing_piles_up() {
        let positions = Unacknowledged::default();
        let (first, lost, after) =
            (positions.receipt(1), positions.receipt(2), positions.receipt(3));
        let copy = lost.clone();
        drop(lost);
        assert!(!positions.is_stopped(), "a copy is still on its way");
        drop(copy);
        after.acknowledge();
        first.acknowledge();
        assert_eq!((positions.take(), positions.is_settled()), (Some(1), true));
        positions.receipt(4).acknowledge();
        assert_eq!(positions.take(), None);
        assert!(positions.is_stopped());
    }
}
