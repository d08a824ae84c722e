//! Says on each reading who speaks. Does not find out who that is.

use std::sync::Arc;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Enricher, Options, EnricherContext};
use crate::model::{self, SystemMetrics};
use crate::pipeline::{Output, Transform};
use crate::values::value::text_or_none;
use crate::values::words::NONE;
use crate::values::{Manual, Section, key};
use crate::wire::Format;

pub(super) const MANUAL: Manual = Manual {
    key: key("identity", "table, see below", NONE, "{}", "adds which machine this is"),
    options: Some(Section {
        header: "`identity = { … }` in `[[enrich]]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\nidentity.{}\n[write]\nstdout = true",
        keys: &[key(
            "vm_id",
            "text",
            "(that of `agent.toml`)",
            "\"web-1\"",
            "the machine's name at its manager",
        )],
    }),
};

/// Options of `identity`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityOptions {
    /// The machine's name at its manager; without it, that of `agent.toml`.
    #[serde(deserialize_with = "text_or_none")]
    pub vm_id: Option<String>,
}

impl Options for IdentityOptions {
    fn build(&self, context: &EnricherContext<'_>) -> Enricher {
        Box::new(Identity::new((context.identity)(self.vm_id.clone())))
    }

    fn shows_in(&self, format: Format) -> bool {
        format.carries_tags()
    }
}

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
