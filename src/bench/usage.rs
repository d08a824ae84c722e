//! What this process has used so far: time on the wall, time on processors. Linux.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A moment.
pub(super) struct Usage {
    wall: Instant,
    cpu: Duration,
}

/// Between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    pub wall: Duration,
    pub cpu: Duration,
}

impl Usage {
    pub(super) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(
            u64::try_from(cpu.tv_sec).unwrap_or_default(),
            u32::try_from(cpu.tv_nsec).unwrap_or_default(),
        );
        Self { wall: Instant::now(), cpu }
    }

    pub(super) fn since(&self, before: &Self) -> Used {
        Used {
            wall: self.wall.duration_since(before.wall),
            cpu: self.cpu.saturating_sub(before.cpu),
        }
    }
}

/// The most memory that was ever resident, in bytes (`VmHWM` of `/proc/self/status`), where it can be
/// read.
pub(super) fn rss_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
