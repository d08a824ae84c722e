//! A number for each session with a host, rising for ever. Writes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of sessions. A copy counts on from the same number.
#[derive(Debug, Clone, Default)]
pub struct SessionIds(Arc<AtomicU64>);

impl SessionIds {
    /// The numbers of this run of the agent.
    pub(super) fn of_run(run: u64) -> Self {
        Self(Arc::new(AtomicU64::new(run << 20)))
    }

    /// The next number: above every one before it, also those of earlier runs.
    ///
    /// # Why it needs no disk
    /// It is the number of the run, times 2^20, plus a count. The number of the run is written once at the
    /// start: one more than the last, and at least the Unix time in seconds, so that it rises as well where
    /// the file was lost or the disk went back to a snapshot. It stays below 2^53, which JSON needs, until
    /// the year 2242.
    pub fn next_epoch(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_above_all_of_its_run_and_of_the_runs_before() {
        let (one, two) = (SessionIds::of_run(1_763_836_800), SessionIds::of_run(1_763_836_801));
        let first = one.next_epoch();
        assert!(one.clone().next_epoch() > first);
        assert!(two.next_epoch() > one.next_epoch());
        assert!(two.next_epoch() < 1 << 53);
    }
}
