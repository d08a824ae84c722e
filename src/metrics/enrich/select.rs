//! Lets some groups through and not others. Does not look into a group.

use serde::Deserialize;
use serde::de::Deserializer;
use tokio::time::Instant;

use super::{Enricher, Options, EnricherContext};
use crate::metrics::collect::GroupName;
use crate::model::{Group, SystemMetrics};
use crate::pipeline::{Output, Transform};
use crate::values::words::NONE;
use crate::values::{Problem, Manual, Section, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "select",
        "table, see below",
        NONE,
        "{ keep = [\"cpu\", \"memory\"] }",
        "keeps or drops whole groups",
        ),
    options: Some(Section {
        header: "`select = { … }` in `[[enrich]]`",
        about: "One of the two.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\nselect.{}\n[write]\nstdout = true",
        keys: &[
            key(
                "keep",
                "list of groups",
                NONE,
                "[\"cpu\", \"memory\"]",
                "only these groups stay",
            ),
            key("drop", "list of groups", NONE, "[\"ports\"]", "these groups are dropped"),
        ],
    }),
};

/// Options of `select`: exactly one of the two lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectOptions {
    /// These groups stay, all others go.
    Keep(Vec<Group>),
    /// These groups go.
    Drop(Vec<Group>),
}

impl Options for SelectOptions {
    fn build(&self, _: &EnricherContext<'_>) -> Enricher {
        Box::new(match self {
            Self::Keep(groups) => Select::keep(groups),
            Self::Drop(groups) => Select::drop(groups),
        })
    }

    fn passes(&self, group: Group) -> bool {
        match self {
            Self::Keep(groups) => groups.contains(&group),
            Self::Drop(groups) => !groups.contains(&group),
        }
    }
}

impl<'de> Deserialize<'de> for SelectOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let help = "give it keep = [\"cpu\", \"memory\"] or drop = [\"ports\"]";
        let lists = SelectLists::deserialize(deserializer)?;
        match (lists.keep, lists.drop) {
            (Some(groups), None) | (None, Some(groups)) if groups.is_empty() => {
                Err(Problem::new("names no group", help).pack())
            }
            (Some(groups), None) => Ok(Self::Keep(groups.into_iter().map(Group::from).collect())),
            (None, Some(groups)) => Ok(Self::Drop(groups.into_iter().map(Group::from).collect())),
            (Some(_), Some(_)) => Err(Problem::new("has both keep and drop", help).pack()),
            (None, None) => Err(Problem::new("has neither keep nor drop", help).pack()),
        }
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SelectLists {
    keep: Option<Vec<GroupName>>,
    drop: Option<Vec<GroupName>>,
}

/// Takes groups out of each reading, and the troubles reported about them.
///
/// A reading that is left with neither a group nor a trouble of a kept group is lost: `deselected`.
///
/// ```
/// use infiniservice::metrics::enrich::Select;
/// use infiniservice::model::{Cpu, Group, Memory, SystemMetrics};
/// use infiniservice::pipeline::{Output, Transform};
/// # use std::{sync::Arc, time::{Duration, SystemTime}};
/// # let now = tokio::time::Instant::now();
/// # let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
/// reading.cpu = Some(Arc::new(Cpu::default()));
/// reading.memory = Some(Arc::new(Memory::default()));
/// let mut out = Output::default();
/// Select::keep(&[Group::Cpu]).apply(now, &reading, &mut out);
/// assert_eq!(out.drain().map(|r| (r.has(Group::Cpu), r.has(Group::Memory))).next(), Some((true, false)));
/// Select::keep(&[Group::Disk]).apply(now, &reading, &mut out);
/// assert_eq!(out.discarded(), [("deselected", 1)]);
/// ```
#[derive(Debug)]
pub struct Select {
    groups: Vec<Group>,
    /// Whether these stay, or these go.
    keep: bool,
}

impl Select {
    /// Only `groups` pass.
    pub fn keep(groups: &[Group]) -> Self {
        Self { groups: groups.to_vec(), keep: true }
    }

    /// All pass but `groups`.
    pub fn drop(groups: &[Group]) -> Self {
        Self { groups: groups.to_vec(), keep: false }
    }

    fn keeps(&self, group: Group) -> bool {
        self.groups.contains(&group) == self.keep
    }
}

impl Transform for Select {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let mut reading = input.clone();
        for group in input.groups().into_iter().filter(|group| !self.keeps(*group)) {
            reading.clear(group);
        }
        reading.troubles.retain(|trouble| self.keeps(trouble.group));
        if !reading.groups().is_empty() || !reading.troubles.is_empty() {
            out.push(reading);
        } else {
            out.discard_items("deselected", 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CollectError, Load};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    fn reading() -> SystemMetrics {
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::ZERO, 0);
        reading.load = Some(Arc::new(Load::default()));
        reading.troubles = vec![CollectError { group: Group::Disk, what: "a mount hangs".into() }];
        reading
    }

    #[test]
    fn a_trouble_goes_with_its_group() {
        let mut out = Output::default();
        Select::drop(&[Group::Disk]).apply(Instant::now(), &reading(), &mut out);
        assert_eq!(
            out.drain().map(|r| (r.has(Group::Load), r.troubles.len())).next(),
            Some((true, 0))
        );
    }

    #[test]
    fn a_trouble_of_a_kept_group_is_news_even_alone() {
        let mut out = Output::default();
        Select::keep(&[Group::Disk]).apply(Instant::now(), &reading(), &mut out);
        assert_eq!(out.dropped(), []);
        assert_eq!(
            out.drain().map(|r| (r.has(Group::Load), r.troubles.len())).next(),
            Some((false, 1))
        );
    }
}
