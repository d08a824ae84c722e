//! Admission: whether a request runs at once or waits, and which of those that wait starts next.

use std::collections::VecDeque;

use futures::future::pending;
use tokio::time::{Instant, sleep_until};

use super::concurrency::{ConcurrencyLimit, Permit, QueueSlot};

/// How a request is admitted: as a whole it is urgent or waits, or it is split into a part for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission<R> {
    /// What is quick and must not wait behind slow requests: it runs at once, under a permit of its own.
    pub urgent: Option<R>,
    /// What waits for a permit.
    pub queued: Option<R>,
    /// When the request, if it still waits then, is handled without a permit, because its sender will wait no longer: its
    /// handler has to find that it is late. `None`: it waits as long as it takes.
    pub deadline: Option<Instant>,
}

impl<R> Admission<R> {
    /// It runs at once.
    pub fn urgent(request: R) -> Self {
        Self { urgent: Some(request), queued: None, deadline: None }
    }

    /// It waits for a permit.
    pub fn queued(request: R) -> Self {
        Self { urgent: None, queued: Some(request), deadline: None }
    }

    /// It waits until `deadline` at the latest.
    pub fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }
}

/// The requests of one handler that wait for a permit of its [`ConcurrencyLimit`], oldest first.
///
/// # Why it wraps no handler, as `tower::limit` does
/// Handlers that replace one another share one limit and one bound for the queue, and a request leaves the queue for two
/// reasons: a permit, or a deadline. So the queue is a value that the task of the handler asks for the next request.
pub(super) struct RequestQueue<R> {
    limit: ConcurrencyLimit,
    waiting: VecDeque<Waiting<R>>,
}

struct Waiting<R> {
    request: R,
    deadline: Option<Instant>,
    _slot: QueueSlot,
}

impl<R> RequestQueue<R> {
    pub(super) fn new(limit: ConcurrencyLimit) -> Self {
        Self { limit, waiting: VecDeque::new() }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Queues a request. If the queue is full, it is given back.
    pub(super) fn push(&mut self, request: R, deadline: Option<Instant>) -> Result<&R, R> {
        match self.limit.queue_slot() {
            Some(_slot) => {
                Ok(&self.waiting.push_back_mut(Waiting { request, deadline, _slot }).request)
            }
            None => Err(request),
        }
    }

    /// The request that starts next: the oldest, as soon as there is a permit; or one whose deadline has passed, under an
    /// urgent permit. `None` while none waits. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Option<(R, Permit)> {
        if self.waiting.is_empty() {
            return None;
        }
        let deadlines = self.waiting.iter().map(|waiting| waiting.deadline);
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
        self.waiting.remove(at).map(|waiting| (waiting.request, permit))
    }

    /// A permit for a request that does not wait in the queue.
    pub(super) async fn urgent_permit(&mut self) -> Permit {
        self.limit.acquire_urgent().await
    }
}
