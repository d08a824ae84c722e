//! How many bytes are queued in all, and whether there is room for more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// What a queued item costs beside its bytes: its slots in queues, and what the heap adds.
const OVERHEAD: usize = 256;

/// One budget for everything that is queued, in bytes. A clone is the same budget.
///
/// Bytes are reserved when an item is made, and released with its last clone, wherever that is.
///
/// # What is dropped first
/// 1. Above half the ceiling, a ring drops its oldest frames as `shed` whenever it publishes one, and keeps the newest:
///    a host has a current reading, and the rest is left for durable messages.
/// 2. At the ceiling, a new request is refused with a reason.
/// 3. Durable messages are never dropped for memory: they are on disk, and a bounded part of them in memory.
///
/// ```
/// use infiniservice::pipeline::MemoryBudget;
///
/// let budget = MemoryBudget::new(64 * 1024);
/// let frame = budget.hold("x".repeat(1_000).into());
/// let copy = frame.clone();
/// drop(frame);
/// assert!((1_000..2_000).contains(&budget.used()));
/// drop(copy);
/// assert_eq!(budget.used(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    ceiling: AtomicUsize,
    used: AtomicUsize,
    most: AtomicUsize,
}

/// A [`Reservation`] that several values share: it ends with the last of them. Any two are equal.
#[derive(Clone, Default)]
pub struct SharedReservation(Option<Arc<Reservation>>);

/// A part of a [`MemoryBudget`], released when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    bytes: usize,
    budget: MemoryBudget,
}

impl Default for MemoryBudget {
    /// Without a ceiling.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl MemoryBudget {
    /// A budget with a ceiling, in bytes.
    pub fn new(ceiling: usize) -> Self {
        let (used, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Counts { ceiling: AtomicUsize::new(ceiling), used, most }))
    }

    /// Sets another ceiling: what is queued above it goes in time.
    pub fn set_ceiling(&self, ceiling: usize) {
        self.0.ceiling.store(ceiling, Relaxed);
    }

    /// The most that is reserved before new requests are refused, in bytes.
    pub fn ceiling(&self) -> usize {
        self.0.ceiling.load(Relaxed)
    }

    /// The same bytes, reserved until their last clone is dropped.
    pub fn hold(&self, bytes: Bytes) -> Bytes {
        let reservation = self.reserve(bytes.len());
        Bytes::from_owner(Held { bytes, _reservation: reservation })
    }

    /// Reserves `bytes`, and what it costs to queue them, whatever the ceiling.
    pub fn reserve(&self, bytes: usize) -> Reservation {
        let bytes = bytes + OVERHEAD;
        let used = self.0.used.fetch_add(bytes, Relaxed) + bytes;
        self.0.most.fetch_max(used, Relaxed);
        Reservation { bytes, budget: self.clone() }
    }

    /// Reserves `bytes` if there is room for them below the ceiling.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let room = self.0.ceiling.load(Relaxed).saturating_sub(self.used());
        (bytes.saturating_add(OVERHEAD) <= room).then(|| self.reserve(bytes))
    }

    /// Bytes that are reserved now.
    pub fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    /// The most that was ever reserved at the same time.
    pub fn used_max(&self) -> usize {
        self.0.most.load(Relaxed)
    }

    /// Whether telemetry has to make room: more than half the ceiling is reserved.
    pub fn is_tight(&self) -> bool {
        self.used() > self.0.ceiling.load(Relaxed) / 2
    }
}

impl SharedReservation {
    /// Shares `reservation`.
    pub fn of(reservation: Reservation) -> Self {
        Self(Some(Arc::new(reservation)))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |reservation| reservation.bytes)
    }
}

impl PartialEq for SharedReservation {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for SharedReservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedReservation")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Relaxed);
    }
}

struct Held {
    bytes: Bytes,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_reserved_above_the_ceiling() {
        let budget = MemoryBudget::new(10_000);
        let first = budget.try_reserve(9_000).unwrap();
        assert!(budget.try_reserve(9_000).is_none() && budget.is_tight());
        drop(first);
        assert_eq!((budget.used(), budget.used_max()), (0, 9_000 + OVERHEAD));
        assert!(budget.try_reserve(9_000).is_some());
        assert!(budget.try_reserve(usize::MAX).is_none());
    }
}
