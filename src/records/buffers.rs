//! Buffers that go round: who drops the last copy of a batch gives its buffer back, so that at full rate nothing is
//! allocated for what is read and written.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::pipeline::{MemoryBudget, Reservation};
use crate::sync::IgnorePoison;

/// Buffers that are kept for the next batch; more are freed. As many as are on their way at full rate: one that is freed
/// costs a page fault for each 4 KiB when it is allocated again.
pub(crate) const BUFFERS_KEPT: usize = 8;

/// The largest buffer that is kept, in bytes.
pub(crate) const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// A pool of buffers. A copy is the same pool. The default one keeps none.
#[derive(Debug, Clone, Default)]
pub struct Buffers(Arc<Pool>);

#[derive(Debug, Default)]
struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
    kept_max: usize,
    budget: MemoryBudget,
}

impl Buffers {
    /// A pool that keeps a few, for all sources of a flow or for its pass; what is shared is charged to `budget`.
    pub fn new(budget: &MemoryBudget) -> Self {
        let (free, budget) = (Mutex::default(), budget.clone());
        Self(Arc::new(Pool { free, kept_max: BUFFERS_KEPT, budget }))
    }

    /// An empty buffer with room for `bytes`.
    pub fn take(&self, bytes: usize) -> Vec<u8> {
        let mut buffer = self.0.free.lock().ignore_poison().pop().unwrap_or_default();
        buffer.reserve(bytes);
        buffer
    }

    /// The content of `buffer`, charged until its last copy is gone, which gives the buffer back. A small content in a large
    /// buffer is copied: it may wait long for others.
    pub fn share(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.len() < buffer.capacity() / 4 {
            let content = self.0.budget.hold(Bytes::copy_from_slice(&buffer));
            self.0.keep(buffer);
            return content;
        }
        let _reservation = self.0.budget.reserve(buffer.len());
        Bytes::from_owner(Shared { buffer, pool: Arc::clone(&self.0), _reservation })
    }
}

impl Pool {
    fn keep(&self, mut buffer: Vec<u8>) {
        let mut free = self.free.lock().ignore_poison();
        if free.len() < self.kept_max && (1..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            free.push(buffer);
        }
    }
}

struct Shared {
    buffer: Vec<u8>,
    pool: Arc<Pool>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.pool.keep(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_the_last_copy_and_a_small_content_does_not_hold_a_large_one() {
        let budget = MemoryBudget::new(1 << 20);
        let buffers = Buffers::new(&budget);
        let mut buffer = buffers.take(1_000);
        buffer.resize(900, b'x');
        let address = buffer.as_ptr();
        let content = buffers.share(buffer);
        let part = content.slice(10..20);
        drop(content);
        let other = buffers.take(0);
        assert!(budget.used() >= 900 && other.as_ptr() != address, "a part is in use");
        drop(part);
        assert_eq!(budget.used(), 0);
        let mut buffer = buffers.take(10);
        assert_eq!((buffer.as_ptr(), buffer.len()), (address, 0));
        buffer.extend_from_slice(b"small");
        let small = buffers.share(buffer);
        let again = buffers.take(0);
        assert_eq!((&small[..], again.as_ptr()), (&b"small"[..], address));
    }

    #[test]
    fn only_some_buffers_of_bounded_size_are_kept() {
        let buffers = Buffers::new(&MemoryBudget::default());
        let many: Vec<Bytes> = (0..10).map(|_| buffers.share(vec![0; 100])).collect();
        let large = buffers.share(vec![0; KEPT_BYTES_MAX + 1]);
        drop((large, many));
        let free = buffers.0.free.lock().unwrap();
        assert!(free.len() == BUFFERS_KEPT && free.iter().all(|one| one.capacity() == 100));
    }
}
