//! A number for each session with a host, increasing for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The session numbers. Clones share one counter.
#[derive(Debug, Clone, Default)]
pub struct SessionIds(Arc<AtomicU64>);

impl SessionIds {
    /// The numbers of this run of the agent.
    pub(super) fn of_run(run: u64) -> Self {
        Self(Arc::new(AtomicU64::new(run << 20)))
    }

    /// The next number: greater than all before it, also in earlier runs.
    ///
    /// # Why it needs no disk
    /// It is the number of the run, times 2^20, plus a count. The number of the run is written once at the start:
    /// one more than the last, and at least the Unix time in seconds, so that it increases even if the file was
    /// lost or the disk was restored from a snapshot. It stays below 2^53, which JSON needs, until the year 2242.
    pub fn next_id(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_above_all_of_its_run_and_of_the_runs_before() {
        let (one, two) = (SessionIds::of_run(1_763_836_800), SessionIds::of_run(1_763_836_801));
        let first = one.next_id();
        assert!(one.clone().next_id() > first);
        assert!(two.next_id() > one.next_id());
        assert!(two.next_id() < 1 << 53);
    }
}
