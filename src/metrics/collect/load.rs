//! Load averages and uptime from the system call `sysinfo(2)`. Does not smooth them.
//!
//! # Why not the crate `sysinfo`
//! It opens two files for what one call gives, and when it cannot read them it says 0, which is what
//! an idle machine says too. The call cannot fail.

use tokio::time::Instant;

use super::{Collector, CollectorContext, NoOptions, Registered};
use crate::model::{Group, Load, SystemMetrics};

/// Load averages and uptime.
#[derive(Debug, Default)]
pub struct LoadCollector;

impl LoadCollector {
    /// A collector; it holds nothing.
    pub fn new() -> Self {
        Self
    }
}

impl Registered for LoadCollector {
    const GROUP: Group = Group::Load;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }
}

impl Collector for LoadCollector {
    fn group(&self) -> Group {
        Group::Load
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        let info = rustix::system::sysinfo();
        // Fixed point with 16 bits behind the point: SI_LOAD_SHIFT in include/uapi/linux/sysinfo.h.
        let [one, five, fifteen] = info.loads.map(|load| load as f64 / f64::from(1 << 16));
        let uptime_seconds = u64::try_from(info.uptime).unwrap_or(0);
        into.load = Some(Load { one, five, fifteen, uptime_seconds }.into());
    }
}
