//! How many requests run at once and how many wait: a limit that can change while it is used.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::IgnorePoison;

/// Urgent requests that may run at the same time; more wait for one of them.
pub(crate) const URGENT_MAX: usize = 64;

/// How many requests run at once, and how many may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// Requests that run at once.
    pub parallel: usize,
    /// Requests that wait for a permit.
    pub waiting: usize,
}

/// A number of permits, and a bounded queue for requests that wait for one. A clone is the same limit.
///
/// Handlers that replace one another share one limit, so their running and waiting requests together stay within the
/// bound, whatever still runs from before. Where the limit becomes lower than the number of running requests, permits
/// are withdrawn as they are released.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permits: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    size: ConcurrencyLimits,
    /// Permits in use that are withdrawn when they are released.
    excess: usize,
    queued: usize,
}

/// The right to run one request.
#[derive(Debug)]
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    limit: ConcurrencyLimit,
}

/// A permit in the queue.
#[derive(Debug)]
pub(super) struct QueueSlot(ConcurrencyLimit);

impl ConcurrencyLimit {
    /// A limit of this size.
    pub fn new(size: ConcurrencyLimits) -> Self {
        let size = ConcurrencyLimits { parallel: size.parallel.max(1), ..size };
        Self(Arc::new(Inner {
            permits: Arc::new(Semaphore::new(size.parallel)),
            urgent: Arc::new(Semaphore::new(URGENT_MAX)),
            count: Mutex::new(Count { size, excess: 0, queued: 0 }),
        }))
    }

    /// Its present size.
    pub fn size(&self) -> ConcurrencyLimits {
        self.count().size
    }

    /// Changes the size. Requests that run or wait go on.
    pub fn resize(&self, size: ConcurrencyLimits) {
        let size = ConcurrencyLimits { parallel: size.parallel.max(1), ..size };
        let mut count = self.count();
        let (before, after) = (count.size.parallel, size.parallel);
        if after > before {
            let kept = count.excess.min(after - before);
            count.excess -= kept;
            self.0.permits.add_permits(after - before - kept);
        } else {
            count.excess += before - after - self.0.permits.forget_permits(before - after);
        }
        count.size = size;
    }

    /// A permit, if one is free.
    #[cfg(test)]
    fn try_acquire(&self) -> Option<Permit> {
        let permit = Arc::clone(&self.0.permits).try_acquire_owned().ok()?;
        Some(Permit { permit: Some(permit), limit: self.clone() })
    }

    /// A permit, once one is free.
    pub(super) async fn acquire(&self) -> Permit {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&self.0.permits).acquire_owned().await.ok();
        Permit { permit, limit: self.clone() }
    }

    /// A permit for an urgent request; these are counted apart.
    pub(super) async fn acquire_urgent(&self) -> Permit {
        let permit = Arc::clone(&self.0.urgent).acquire_owned().await.ok();
        Permit { permit, limit: self.clone() }
    }

    /// A permit in the queue, if it is not full or a permit is free.
    pub(super) fn queue_slot(&self) -> Option<QueueSlot> {
        let mut count = self.count();
        let is_free = count.queued < count.size.waiting || self.0.permits.available_permits() > 0;
        is_free.then(|| {
            count.queued += 1;
            QueueSlot(self.clone())
        })
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.count.lock().ignore_poison()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let is_urgent = Arc::ptr_eq(permit.semaphore(), &self.limit.0.urgent);
        let mut count = self.limit.count();
        if count.excess > 0 && !is_urgent {
            count.excess -= 1;
            permit.forget();
        }
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.0.count().queued -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(parallel: usize, waiting: usize) -> ConcurrencyLimits {
        ConcurrencyLimits { parallel, waiting }
    }

    #[test]
    fn a_lower_limit_withdraws_permits_as_they_are_released() {
        let limit = ConcurrencyLimit::new(size(3, 0));
        let mut taken: Vec<_> = (0..3).map(|_| limit.try_acquire().unwrap()).collect();
        limit.resize(size(1, 0));
        for _ in 0..2 {
            taken.pop();
            assert!(limit.try_acquire().is_none(), "still as many as the limit allows");
        }
        taken.pop();
        let only = limit.try_acquire().unwrap();
        assert!(limit.try_acquire().is_none());
        limit.resize(size(2, 0));
        assert!(limit.try_acquire().is_some());
        drop(only);
    }

    #[test]
    fn a_limit_that_is_raised_again_in_time_keeps_its_permits() {
        let limit = ConcurrencyLimit::new(size(4, 0));
        let taken: Vec<_> = (0..4).map(|_| limit.try_acquire().unwrap()).collect();
        limit.resize(size(1, 0));
        limit.resize(size(5, 0));
        let one_more = limit.try_acquire().unwrap();
        assert!(limit.try_acquire().is_none());
        drop((taken, one_more));
        assert_eq!((0..9).map_while(|_| limit.try_acquire()).collect::<Vec<_>>().len(), 5);
    }

    #[test]
    fn the_queue_is_counted_over_all_that_share_the_limit() {
        let limit = ConcurrencyLimit::new(size(1, 2));
        let permit = limit.try_acquire();
        let other = limit.clone();
        let slots = [limit.queue_slot(), other.queue_slot()];
        assert!(slots.iter().all(Option::is_some) && limit.queue_slot().is_none());
        drop(slots);
        assert!(other.queue_slot().is_some());
        limit.resize(size(1, 0));
        assert!(limit.queue_slot().is_none());
        drop(permit);
        assert!(limit.queue_slot().is_some(), "on the way to a free permit");
    }

    #[tokio::test]
    async fn acquire_urgents_are_apart() {
        let limit = ConcurrencyLimit::new(size(1, 0));
        let permit = limit.try_acquire();
        let urgent = limit.acquire_urgent().await;
        limit.resize(size(3, 0));
        limit.resize(size(1, 0));
        drop(urgent);
        drop(permit);
        assert!(limit.try_acquire().is_some());
    }
}
