//! The last value of each group: written by one stage, read by many. It keeps no history.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::time::Instant;

use crate::model::SystemMetrics;
use crate::pipeline::{Emit, Transform};

/// The last value of each group, shared. A copy is the same memory.
///
/// # Why a plain lock
/// Both sides hold it for a few reference counts and never across an await, so it is shorter than
/// any channel would be.
#[derive(Debug, Clone, Default)]
pub struct Latest(Arc<RwLock<Option<SystemMetrics>>>);

impl Latest {
    /// Everything that is known now: one reading with the last value of each group.
    pub fn get(&self) -> Option<SystemMetrics> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an interface that is up has an address other than loopback.
    pub fn knows_address(&self) -> bool {
        let latest = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let network = latest.as_ref().and_then(|reading| reading.network.as_ref());
        network.is_some_and(|network| network.has_address())
    }

    fn set(&self, reading: &SystemMetrics) {
        let mut latest = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match &mut *latest {
            Some(latest) => latest.update(reading),
            none => *none = Some(reading.clone()),
        }
    }
}

/// The stage that writes [`Latest`]; readings pass through it unchanged.
#[derive(Debug)]
pub struct Remember(pub Latest);

impl Transform for Remember {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Emit<SystemMetrics>) {
        self.0.set(input);
        out.push(input.clone());
    }
}
