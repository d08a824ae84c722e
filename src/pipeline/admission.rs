//! Admission: which of the waiting requests starts next, and under which permit.

use std::collections::VecDeque;

use futures::future::pending;
use tokio::time::{Instant, sleep_until};

use super::concurrency::{ConcurrencyLimit, Permit, QueueSlot};

/// The requests of one handler that wait for a permit of its [`ConcurrencyLimit`], oldest first.
///
/// # Why it wraps no handler, as `tower::limit` does
/// Handlers that replace one another share one limit and one bound for the queue, and a request leaves the queue for two
/// reasons: a permit, or a deadline. So the queue is a value that the task of the handler asks for the next request.
pub(super) struct Admission<R> {
    limit: ConcurrencyLimit,
    waiting: VecDeque<(R, QueueSlot)>,
}

impl<R> Admission<R> {
    pub(super) fn new(limit: ConcurrencyLimit) -> Self {
        Self { limit, waiting: VecDeque::new() }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Queues a request. If the queue is full, it is given back.
    pub(super) fn queue(&mut self, request: R) -> Result<&R, R> {
        match self.limit.queue_slot() {
            Some(slot) => Ok(&self.waiting.push_back_mut((request, slot)).0),
            None => Err(request),
        }
    }

    /// The request that starts next: the oldest, as soon as there is a permit; or one whose `deadline` has passed, under an
    /// urgent permit. `None` while none waits. Safe to drop while it waits.
    pub(super) async fn next(
        &mut self,
        deadline: impl Fn(&R) -> Option<Instant>,
    ) -> Option<(R, Permit)> {
        if self.waiting.is_empty() {
            return None;
        }
        let deadlines = self.waiting.iter().map(|(request, _)| deadline(request));
        let first = deadlines.zip(0..).filter_map(|(deadline, at)| Some((deadline?, at))).min();
        let limit = &self.limit;
        let late = async {
            let Some((deadline, at)) = first else { return pending().await };
            sleep_until(deadline).await;
            (at, limit.acquire_urgent().await)
        };
        let (at, permit) = tokio::select! {
            biased;
            permit = limit.acquire() => (0, permit),
            late = late => late,
        };
        self.waiting.remove(at).map(|(request, _slot)| (request, permit))
    }

    /// A permit for a request that does not wait in the queue.
    pub(super) async fn urgent(&mut self) -> Permit {
        self.limit.acquire_urgent().await
    }
}
