//! How many bytes are queued in all, and where there is no room for more. Decides nothing about which go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;

/// What a queued thing costs beside its bytes: the places it has in queues, and the books of the heap.
const OVERHEAD: usize = 256;

/// One ledger for everything that is queued, in bytes. A copy is the same ledger.
///
/// What is queued is charged when it is made, and refunded when its last copy is gone, wherever that is.
///
/// # The order in which things go
/// 1. Above half the ceiling, whoever publishes a frame takes the oldest ones of its own ring out, counted as
///    `shed`, and leaves the newest: a host has a current reading, and what is left is for what must arrive.
/// 2. At the ceiling, a new request is refused with a reason.
/// 3. What must arrive is never given up for memory: it is on disk, and a bounded part of it in memory.
///
/// ```
/// use infiniservice::pipeline::MemoryBudget;
///
/// let ledger = MemoryBudget::new(64 * 1024);
/// let frame = ledger.hold("x".repeat(1_000).into());
/// let copy = frame.clone();
/// drop(frame);
/// assert!((1_000..2_000).contains(&ledger.used()));
/// drop(copy);
/// assert_eq!(ledger.used(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<Books>);

#[derive(Debug)]
struct Books {
    ceiling: AtomicUsize,
    used: AtomicUsize,
    most: AtomicUsize,
}

/// What a message is charged for as long as a copy of what was made of it is there. Two of them do not differ.
#[derive(Clone, Default)]
pub struct Reservation(Option<Arc<Charge>>);

/// A part of a [`MemoryBudget`], refunded when it is dropped.
#[derive(Debug)]
pub struct Charge {
    bytes: usize,
    ledger: MemoryBudget,
}

impl Default for MemoryBudget {
    /// Without a ceiling.
    fn default() -> Self {
        Self::new(usize::MAX)
    }
}

impl MemoryBudget {
    /// A ledger with a ceiling, in bytes.
    pub fn new(ceiling: usize) -> Self {
        let (used, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self(Arc::new(Books { ceiling: AtomicUsize::new(ceiling), used, most }))
    }

    /// Sets another ceiling: what is queued above it goes in time.
    pub fn set_ceiling(&self, ceiling: usize) {
        self.0.ceiling.store(ceiling, Relaxed);
    }

    /// The most that is charged before new requests are refused, in bytes.
    pub fn ceiling(&self) -> usize {
        self.0.ceiling.load(Relaxed)
    }

    /// The same bytes, charged until the last copy of them is gone.
    pub fn hold(&self, bytes: Bytes) -> Bytes {
        let charge = self.charge(bytes.len());
        Bytes::from_owner(Held { bytes, _charge: charge })
    }

    /// Charges `bytes`, and what it costs to queue them, whatever the ceiling.
    pub fn charge(&self, bytes: usize) -> Charge {
        let bytes = bytes + OVERHEAD;
        let used = self.0.used.fetch_add(bytes, Relaxed) + bytes;
        self.0.most.fetch_max(used, Relaxed);
        Charge { bytes, ledger: self.clone() }
    }

    /// Charges `bytes` if there is room for them below the ceiling.
    pub fn try_charge(&self, bytes: usize) -> Option<Charge> {
        let room = self.0.ceiling.load(Relaxed).saturating_sub(self.used());
        (bytes.saturating_add(OVERHEAD) <= room).then(|| self.charge(bytes))
    }

    /// Bytes that are charged now.
    pub fn used(&self) -> usize {
        self.0.used.load(Relaxed)
    }

    /// The most that was ever charged at the same time.
    pub fn used_max(&self) -> usize {
        self.0.most.load(Relaxed)
    }

    /// Whether telemetry has to make room: more than half the ceiling is charged.
    pub fn is_tight(&self) -> bool {
        self.used() > self.0.ceiling.load(Relaxed) / 2
    }
}

impl Reservation {
    /// Holds `charge` until its last copy is gone.
    pub fn of(charge: Charge) -> Self {
        Self(Some(Arc::new(charge)))
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |charge| charge.bytes)
    }
}

impl PartialEq for Reservation {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Reservation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reservation")
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.0.used.fetch_sub(self.bytes, Relaxed);
    }
}

struct Held {
    bytes: Bytes,
    _charge: Charge,
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
    fn what_has_no_room_is_not_charged() {
        let ledger = MemoryBudget::new(10_000);
        let first = ledger.try_charge(9_000).unwrap();
        assert!(ledger.try_charge(9_000).is_none() && ledger.is_tight());
        drop(first);
        assert_eq!((ledger.used(), ledger.used_max()), (0, 9_000 + OVERHEAD));
        assert!(ledger.try_charge(9_000).is_some());
        assert!(ledger.try_charge(usize::MAX).is_none());
    }
}
