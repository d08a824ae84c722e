//! Puts the operator's fixed words on each reading. Does not interpolate them.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::time::Instant;

use super::added::Added;
use super::{Enricher, Options, EnricherContext};
use crate::model::SystemMetrics;
use crate::pipeline::{Output, Transform};
use crate::values::{Manual, key};
use crate::values::words::NONE;

pub(super) const MANUAL: Manual = Manual {
    key: key("tags", "table of texts", NONE, "{ site = \"lab-1\" }", "adds fixed words"),
    options: None,
};

/// Options of `tags`: the tags.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TagsOptions(pub BTreeMap<String, String>);

impl Options for TagsOptions {
    fn build(&self, _: &EnricherContext<'_>) -> Enricher {
        Box::new(Tags::new(self.0.clone()))
    }

    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.0)
    }
}

/// Adds tags to each reading. Where a reading already has one of that name, the one added last
/// wins, so a later `[[enrich]]` overrules an earlier one.
///
/// Costs one reference count for a reading without tags. The map joined with the tags of an
/// earlier enricher is made once and kept for as long as those stay the same.
///
/// ```
/// use infiniservice::{metrics::enrich::Tags, model::SystemMetrics};
/// use infiniservice::pipeline::{Output, Transform};
/// use std::time::{Duration, SystemTime};
/// # let now = tokio::time::Instant::now();
/// let mut tags = Tags::new([("site".to_owned(), "lab-1".to_owned())].into());
/// let mut out = Output::default();
/// tags.apply(now, &SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0), &mut out);
/// assert_eq!(out.drain().next().unwrap().tags.unwrap()["site"], "lab-1");
/// ```
#[derive(Debug)]
pub struct Tags(Added<BTreeMap<String, String>>);

impl Tags {
    /// Everything that passes gets `tags`.
    pub fn new(tags: BTreeMap<String, String>) -> Self {
        Self(Added::new(tags))
    }
}

impl Transform for Tags {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let tags = self.0.to(input.tags.as_ref(), |earlier, own| {
            let mut all = earlier.clone();
            all.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
            all
        });
        out.push(SystemMetrics { tags: Some(tags), ..input.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    #[test]
    fn the_tag_added_last_wins_and_the_joined_map_is_made_once() {
        let now = Instant::now();
        let mut tags = Tags::new([("a".into(), "new".into()), ("b".into(), "2".into())].into());
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::ZERO, 0);
        reading.tags =
            Some(Arc::new([("a".into(), "old".into()), ("c".into(), "3".into())].into()));

        let mut out = Output::default();
        tags.apply(now, &reading, &mut out);
        tags.apply(now, &reading, &mut out);
        let given: Vec<_> = out.drain().filter_map(|reading| reading.tags).collect();
        let words: Vec<_> = given[0].iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(words, ["a=new", "b=2", "c=3"]);
        assert!(Arc::ptr_eq(&given[0], &given[1]));
    }
}
