//! Readers of the machine, one per group. They block, so they run on the blocking pool only.

mod cadence;

use tokio::time::Instant;

use crate::model::{Group, SystemMetrics};

pub use cadence::{Cadence, LIMIT, readings};

/// Reads one group. Blocking and infallible: what cannot be read becomes a
/// [`Trouble`](crate::model::Trouble) in the reading and the rest of it goes on.
pub trait Collector: Send + 'static {
    /// The group it fills.
    fn group(&self) -> Group;

    /// Reads at `now`. A value that needs an interval (a rate, a share of time) is left out, without
    /// trouble, at the first call, which has none behind it.
    fn read(&mut self, now: Instant, into: &mut SystemMetrics);
}
