//! The last value of each group: written by one stage, read by many. It keeps no history.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use tokio::time::Instant;

use crate::model::{CollectError, Group, SystemMetrics};
use crate::pipeline::{LogLimit, Output, Restore, StageStats, Transform};
use crate::sync::IgnorePoison;

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
        self.0.read().ignore_poison().clone()
    }

    /// Whether an interface that is up has an address other than loopback.
    pub fn knows_address(&self) -> bool {
        let latest = self.0.read().ignore_poison();
        let network = latest.as_ref().and_then(|reading| reading.network.as_ref());
        network.is_some_and(|network| network.has_address())
    }

    /// Forgets the groups that are not in `read`: nothing reads them any more.
    pub fn keep(&self, read: &[Group]) {
        let mut latest = self.0.write().ignore_poison();
        let Some(latest) = &mut *latest else { return };
        latest.keep(read);
    }

    fn set(&self, reading: &SystemMetrics) {
        let mut latest = self.0.write().ignore_poison();
        match &mut *latest {
            Some(latest) => latest.update(reading),
            none => *none = Some(reading.clone()),
        }
    }
}

/// Writes down what was read: the last values, and what could not be read. Readings pass through it
/// unchanged.
///
/// Each trouble is counted in a node of its own, by group, and logged when it is new or over, not
/// at each reading: of a group at most once a minute.
#[derive(Debug)]
pub struct Remember {
    latest: Latest,
    troubles: Arc<StageStats>,
    /// The groups in trouble, and what each said last.
    troubled: BTreeMap<Group, (String, LogLimit)>,
}

impl Remember {
    /// Writes `latest`, and counts in `troubles`.
    pub fn new(latest: Latest, troubles: Arc<StageStats>) -> Self {
        Self { latest, troubles, troubled: BTreeMap::new() }
    }

    fn report(&mut self, now: Instant, reading: &SystemMetrics) {
        for CollectError { group, what } in &reading.troubles {
            self.troubles.received(1);
            self.troubles.dropped(group.name(), 1);
            let (said, limit) = self.troubled.entry(*group).or_default();
            if said != what && limit.happened(now).is_some() {
                tracing::warn!(group = group.name(), %what, "reading is incomplete");
                said.clone_from(what);
            }
        }
        for (group, (said, limit)) in &mut self.troubled {
            let is_whole = reading.has(*group)
                && reading.troubles.iter().all(|trouble| trouble.group != *group);
            if is_whole && limit.is_over() {
                said.clear();
                tracing::info!(group = group.name(), "the group is collected completely again");
            }
        }
    }
}

impl Transform for Remember {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn detail(&self) -> String {
        "the last values, and what could not be read".to_owned()
    }

    fn apply(&mut self, now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        self.latest.set(input);
        self.report(now, input);
        out.push(input.clone());
    }
}

impl Restore for Remember {
    /// What was said is not said again.
    fn restore(&mut self, before: Self) {
        self.troubled = before.troubled;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_nothing_reads_any_more_is_forgotten() {
        let (latest, now) = (Latest::default(), Instant::now());
        latest.keep(&[]);
        let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
        (reading.load, reading.memory) = (Some(Arc::default()), Some(Arc::default()));
        latest.set(&reading);
        latest.keep(&[Group::Load, Group::Cpu]);
        let known = latest.get().unwrap();
        assert!(known.has(Group::Load) && !known.has(Group::Memory));
    }
}
