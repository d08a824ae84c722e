//! Lets some groups through and not others. Does not look into a group.

use tokio::time::Instant;

use crate::model::{Group, SystemMetrics};
use crate::pipeline::{Output, Transform};

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
