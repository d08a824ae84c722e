//! The ceiling of the memory budget: what the settings allow, or less where the process may not have as much.

use crate::config::MemoryLimit;
use crate::pipeline::MemoryBudget;

/// The memory budget of all queues, and why it is smaller than the settings allow.
#[derive(Default)]
pub(super) struct MemoryCeiling {
    budget: MemoryBudget,
    /// The ceiling and the limit that were logged last, if the ceiling is below the configured one.
    limited: Option<(u64, MemoryLimit)>,
}

impl MemoryCeiling {
    /// The budget.
    pub(super) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Applies the `configured` ceiling, or a smaller one where `limit` requires it; logs a change.
    pub(super) fn set(&mut self, configured: u64, limit: Option<MemoryLimit>) {
        let ceiling = limit.as_ref().map_or(configured, |limit| limit.ceiling(configured));
        self.budget.set_ceiling(usize::try_from(ceiling).unwrap_or(usize::MAX));
        let limited = limit.filter(|_| ceiling < configured).map(|limit| (ceiling, limit));
        if limited == self.limited {
            return;
        }
        match &limited {
            Some((ceiling, limit)) => tracing::warn!(
                ceiling,
                configured,
                %limit,
                "the memory limit is small: less is queued than the settings allow"
            ),
            None => tracing::info!(
                ceiling,
                "the memory budget is as configured again: no limit is smaller"
            ),
        }
        self.limited = limited;
    }
}
