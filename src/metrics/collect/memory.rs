//! Memory and swap through `sysinfo`, which reads `/proc/meminfo` and estimates what is available on
//! kernels before 3.14. Does not read the limits of a control group: the memory is that of the machine.

use sysinfo::{MemoryRefreshKind, System};
use thiserror::Error;
use tokio::time::Instant;

use super::{Collector, CollectorContext, NoOptions, Registered, tell};
use crate::model::{Group, Memory, SystemMetrics};

/// Memory and swap.
#[derive(Debug, Default)]
pub struct MemoryCollector {
    system: Option<System>,
}

/// Why `/proc/meminfo` gives no reading: the end of a sentence.
#[derive(Debug, Error)]
enum MemoryError {
    #[error(transparent)]
    Unreadable(#[from] sysinfo::Error),
    #[error("it has no total (is /proc mounted?)")]
    NoTotal,
}

impl MemoryCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn memory(&mut self) -> Result<Memory, MemoryError> {
        let system = match &mut self.system {
            Some(system) => system,
            none => none.insert(System::new()?),
        };
        system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let total = system.total_memory();
        if total == 0 {
            // sysinfo does not tell that a file could not be read.
            return Err(MemoryError::NoTotal);
        }
        let available = system.available_memory().min(total);
        Ok(Memory {
            total_bytes: total,
            used_bytes: total - available,
            available_bytes: available,
            swap_total_bytes: system.total_swap(),
            // Not `used_swap`, which subtracts: a kernel may tell more free than there is.
            swap_used_bytes: system.total_swap().saturating_sub(system.free_swap()),
        })
    }
}

impl Registered for MemoryCollector {
    const GROUP: Group = Group::Memory;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }
}

impl Collector for MemoryCollector {
    fn group(&self) -> Group {
        Group::Memory
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        match self.memory() {
            Ok(memory) => into.memory = Some(memory.into()),
            Err(error) => tell(into, Group::Memory, format!("cannot read /proc/meminfo: {error}")),
        }
    }
}
