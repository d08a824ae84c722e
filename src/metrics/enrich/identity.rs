//! Says on each reading who speaks. Does not find out who that is.

use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{self, SystemMetrics};
use crate::pipeline::{Output, Transform};

/// Puts the same [`model::Identity`] on each reading, in place of one it may have.
///
/// Read once, when the pipeline is made: neither the machine's name nor its boot changes under a
/// running agent in a way the host would want to follow. Costs one reference count per reading.
///
/// ```
/// use infiniservice::{metrics::enrich::Identity, model, model::SystemMetrics};
/// use infiniservice::pipeline::{Output, Transform};
/// use std::time::{Duration, SystemTime};
/// # let now = tokio::time::Instant::now();
/// let who = model::Identity { vm_id: Some("vm-1".into()), host: "web".into(), boot_id: None };
/// let mut identity = Identity::new(who.clone());
/// let mut out = Output::default();
/// identity.apply(now, &SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0), &mut out);
/// assert_eq!(out.drain().next().unwrap().identity.as_deref(), Some(&who));
/// ```
#[derive(Debug)]
pub struct Identity {
    identity: Arc<model::Identity>,
}

impl Identity {
    /// Everything that passes says it comes from `identity`.
    pub fn new(identity: model::Identity) -> Self {
        Self { identity: Arc::new(identity) }
    }
}

impl Transform for Identity {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        out.push(SystemMetrics { identity: Some(self.identity.clone()), ..input.clone() });
    }
}
