//! How many requests at once: a room with a number of places that can change while it is used. Does not
//! know what is done in a place.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::IgnorePoison;

/// Urgent requests that may be under way at the same time; more wait for one of them.
pub const URGENT_MAX: usize = 64;

/// How many requests at once, and how many may wait for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyLimits {
    /// At once.
    pub parallel: usize,
    /// Waiting in their turn.
    pub waiting: usize,
}

/// A number of places, and a number of seats for who waits for one. A copy is the same room.
///
/// Handlers that follow one another share one room, so their running and waiting requests together stay within
/// the bound, whatever is still running from before. When there are fewer places than requests are running, places are taken
/// away as they become free.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    size: ConcurrencyLimits,
    /// Places in use that are not given back.
    excess: usize,
    seated: usize,
}

/// A place in use.
#[derive(Debug)]
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    room: ConcurrencyLimit,
}

/// A seat in use.
#[derive(Debug)]
pub(super) struct QueueSlot(ConcurrencyLimit);

impl ConcurrencyLimit {
    /// An empty room of this size.
    pub fn new(size: ConcurrencyLimits) -> Self {
        let size = ConcurrencyLimits { parallel: size.parallel.max(1), ..size };
        Self(Arc::new(Inner {
            places: Arc::new(Semaphore::new(size.parallel)),
            urgent: Arc::new(Semaphore::new(URGENT_MAX)),
            count: Mutex::new(Count { size, excess: 0, seated: 0 }),
        }))
    }

    /// Its size.
    pub fn size(&self) -> ConcurrencyLimits {
        self.count().size
    }

    /// Makes it larger or smaller. Nobody is sent away.
    pub fn resize(&self, size: ConcurrencyLimits) {
        let size = ConcurrencyLimits { parallel: size.parallel.max(1), ..size };
        let mut count = self.count();
        let (before, after) = (count.size.parallel, size.parallel);
        if after > before {
            let kept = count.excess.min(after - before);
            count.excess -= kept;
            self.0.places.add_permits(after - before - kept);
        } else {
            count.excess += before - after - self.0.places.forget_permits(before - after);
        }
        count.size = size;
    }

    /// A place, if one is free.
    pub(super) fn try_place(&self) -> Option<Permit> {
        let permit = Arc::clone(&self.0.places).try_acquire_owned().ok()?;
        Some(Permit { permit: Some(permit), room: self.clone() })
    }

    /// A place, when one is free.
    pub(super) async fn place(&self) -> Permit {
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&self.0.places).acquire_owned().await.ok();
        Permit { permit, room: self.clone() }
    }

    /// A place for an urgent request, which are counted apart.
    pub(super) async fn urgent_place(&self) -> Permit {
        let permit = Arc::clone(&self.0.urgent).acquire_owned().await.ok();
        Permit { permit, room: self.clone() }
    }

    /// A seat, where one is free or a place is.
    pub(super) fn seat(&self) -> Option<QueueSlot> {
        let mut count = self.count();
        let is_free = count.seated < count.size.waiting || self.0.places.available_permits() > 0;
        is_free.then(|| {
            count.seated += 1;
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
        let is_urgent = Arc::ptr_eq(permit.semaphore(), &self.room.0.urgent);
        let mut count = self.room.count();
        if count.excess > 0 && !is_urgent {
            count.excess -= 1;
            permit.forget();
        }
    }
}

impl Drop for QueueSlot {
    fn drop(&mut self) {
        self.0.count().seated -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(parallel: usize, waiting: usize) -> ConcurrencyLimits {
        ConcurrencyLimits { parallel, waiting }
    }

    #[test]
    fn a_room_that_shrinks_takes_places_away_as_they_become_free() {
        let room = ConcurrencyLimit::new(size(3, 0));
        let mut taken: Vec<_> = (0..3).map(|_| room.try_place().unwrap()).collect();
        room.resize(size(1, 0));
        for _ in 0..2 {
            taken.pop();
            assert!(room.try_place().is_none(), "still as many as the room is for");
        }
        taken.pop();
        let only = room.try_place().unwrap();
        assert!(room.try_place().is_none());
        room.resize(size(2, 0));
        assert!(room.try_place().is_some());
        drop(only);
    }

    #[test]
    fn a_room_that_grows_again_in_time_keeps_its_places() {
        let room = ConcurrencyLimit::new(size(4, 0));
        let taken: Vec<_> = (0..4).map(|_| room.try_place().unwrap()).collect();
        room.resize(size(1, 0));
        room.resize(size(5, 0));
        let one_more = room.try_place().unwrap();
        assert!(room.try_place().is_none());
        drop((taken, one_more));
        assert_eq!((0..9).map_while(|_| room.try_place()).collect::<Vec<_>>().len(), 5);
    }

    #[test]
    fn seats_are_counted_over_all_who_share_the_room() {
        let room = ConcurrencyLimit::new(size(1, 2));
        let place = room.try_place();
        let other = room.clone();
        let seats = [room.seat(), other.seat()];
        assert!(seats.iter().all(Option::is_some) && room.seat().is_none());
        drop(seats);
        assert!(other.seat().is_some());
        room.resize(size(1, 0));
        assert!(room.seat().is_none());
        drop(place);
        assert!(room.seat().is_some(), "on the way to a place that is free");
    }

    #[tokio::test]
    async fn urgent_places_are_apart() {
        let room = ConcurrencyLimit::new(size(1, 0));
        let place = room.try_place();
        let urgent = room.urgent_place().await;
        room.resize(size(3, 0));
        room.resize(size(1, 0));
        drop(urgent);
        drop(place);
        assert!(room.try_place().is_some());
    }
}
