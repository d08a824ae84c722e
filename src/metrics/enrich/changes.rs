//! Passes on what is new. Does not decide what counts as a small change: equal is equal.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Enricher, MAX_CADENCES, Options, EnricherContext};
use crate::model::{CollectError, SystemMetrics};
use crate::pipeline::{Output, Restore, Transform};
use crate::values::words::{COUNT, NONE};
use crate::values::{Count, Manual, Section, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "changes",
        "table, see below",
        NONE,
        "{ full_every = 10 }",
        "passes only what has changed",
        ),
    options: Some(Section {
        header: "`changes = { … }` in `[[enrich]]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\nchanges.{}\n[write]\nstdout = true",
        keys: &[key(
            "full_every",
            COUNT,
            "10",
            "60",
            "after how many readings a full copy is sent, whatever has changed",
        )],
    }),
};

/// Options of `changes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChangesOptions {
    /// Every how many readings a full copy goes, whatever has changed.
    pub full_every: Count,
}

impl Default for ChangesOptions {
    fn default() -> Self {
        Self { full_every: Count::fixed(10) }
    }
}

impl Options for ChangesOptions {
    fn build(&self, context: &EnricherContext<'_>) -> Enricher {
        context.stateful("changes", Changes::new(self.full_every.get()))
    }
}

/// Leaves out every group that is equal to the copy given last. A reading with no changed group
/// and no new trouble is lost: `unchanged`. The first reading of each cadence, and then every
/// `full_every`th, is given whole, so that who comes late or lost one is put right.
///
/// Some groups hold a value that never stands still and so are never left out: `load` (uptime),
/// `agent` (its own counters), `processes` (shares and memory), and in practice `cpu`, `memory` and
/// `network` (counters; [`Rates`](super::Rates) makes it worse). What is spared is `host`, `disk`
/// and `pressure` on a quiet machine, and `ports`.
///
/// Keeps one copy of each group, by reference, and compares by reference first.
///
/// Do not put it before a writer for today's host: that refuses a line that is not whole.
///
/// ```
/// use infiniservice::metrics::enrich::Changes;
/// # use infiniservice::model::{Memory, SystemMetrics};
/// # use infiniservice::pipeline::{Output, Transform};
/// # use std::{sync::Arc, time::{Duration, SystemTime}};
/// # let now = tokio::time::Instant::now();
/// # let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
/// reading.memory = Some(Arc::new(Memory::default()));
/// let (mut changes, mut out) = (Changes::new(10), Output::default());
/// changes.apply(now, &reading, &mut out);
/// assert_eq!(out.drain().count(), 1);
/// changes.apply(now, &reading, &mut out);
/// assert_eq!(out.discarded(), [("unchanged", 1)]);
/// ```
#[derive(Debug)]
pub struct Changes {
    full_every: u32,
    given: Option<SystemMetrics>,
    cadences: Vec<IntervalSource>,
}

/// What is remembered of one cadence.
#[derive(Debug)]
struct IntervalSource {
    every: Duration,
    until_full: u32,
    troubles: Vec<CollectError>,
}

impl Changes {
    /// One reading of each cadence in `full_every` is given whole; 1 is every one, 0 only the first.
    pub fn new(full_every: u32) -> Self {
        Self { full_every, given: None, cadences: Vec::new() }
    }

    /// The state of a cadence, new when it was not heard lately.
    fn cadence(&mut self, every: Duration) -> &mut IntervalSource {
        let at = self.cadences.iter().position(|cadence| cadence.every == every);
        let cadence = match at {
            Some(at) => self.cadences.remove(at),
            None => IntervalSource { every, until_full: 0, troubles: Vec::new() },
        };
        if self.cadences.len() == MAX_CADENCES {
            self.cadences.remove(0);
        }
        self.cadences.push(cadence);
        let last = self.cadences.len() - 1;
        &mut self.cadences[last]
    }
}

impl Transform for Changes {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let full_every = self.full_every;
        let cadence = self.cadence(input.every);
        let full = cadence.until_full == 0;
        cadence.until_full = match (full, full_every) {
            (true, 0) => u32::MAX,
            (true, every) => every - 1,
            (false, 0) => u32::MAX,
            (false, _) => cadence.until_full - 1,
        };
        let mut news = full || cadence.troubles != input.troubles;
        cadence.troubles.clone_from(&input.troubles);

        let given = self.given.get_or_insert_with(|| {
            SystemMetrics::empty(input.at, input.taken, input.every, input.sequence)
        });
        let mut reading = input.clone();
        for group in input.groups() {
            if !full && input.same(given, group) {
                reading.clear(group);
            } else {
                given.share(input, group);
                news = true;
            }
        }
        if news {
            out.push(reading);
        } else {
            out.discard_items("unchanged", 1);
        }
    }
}

impl Restore for Changes {
    fn restore(&mut self, before: Self) {
        (self.given, self.cadences) = (before.given, before.cadences);
        for cadence in &mut self.cadences {
            let most = if self.full_every == 0 { u32::MAX } else { self.full_every - 1 };
            cadence.until_full = cadence.until_full.min(most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Group, Load, Memory};
    use std::sync::Arc;
    use std::time::SystemTime;

    fn reading(every: u64, used_bytes: u64, uptime_seconds: u64) -> SystemMetrics {
        let every = Duration::from_secs(every);
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), every, 0);
        reading.memory = Some(Arc::new(Memory { used_bytes, ..Memory::default() }));
        reading.load = Some(Arc::new(Load { uptime_seconds, ..Load::default() }));
        reading
    }

    /// Which of (memory, load) was given; `None` when the reading was lost as unchanged.
    fn given(changes: &mut Changes, reading: &SystemMetrics) -> Option<(bool, bool)> {
        let mut out = Output::default();
        changes.apply(Instant::now(), reading, &mut out);
        let lost = out.discarded().to_vec();
        let given = out.drain().next().map(|r| (r.has(Group::Memory), r.has(Group::Load)));
        assert_eq!(lost, if given.is_some() { vec![] } else { vec![("unchanged", 1)] });
        given
    }

    #[test]
    fn only_the_changed_group_is_given_also_when_it_changes_back() {
        let mut changes = Changes::new(0);
        assert_eq!(given(&mut changes, &reading(1, 5, 1)), Some((true, true)));
        assert_eq!(given(&mut changes, &reading(1, 5, 2)), Some((false, true)));
        assert_eq!(given(&mut changes, &reading(1, 5, 2)), None);
        assert_eq!(given(&mut changes, &reading(1, 6, 2)), Some((true, false)));
        assert_eq!(given(&mut changes, &reading(1, 5, 2)), Some((true, false)));
    }

    #[test]
    fn every_nth_reading_of_each_cadence_is_whole() {
        let mut changes = Changes::new(3);
        let fast: Vec<_> = (0..7).map(|_| given(&mut changes, &reading(1, 5, 1))).collect();
        let whole = Some((true, true));
        assert_eq!(fast, [whole, None, None, whole, None, None, whole]);
        // The slow cadence is not robbed of its turn by the fast one.
        let slow: Vec<_> = (0..4).map(|_| given(&mut changes, &reading(30, 5, 1))).collect();
        assert_eq!(slow, [whole, None, None, whole]);
    }

    #[test]
    fn a_new_trouble_and_its_end_are_news() {
        let mut changes = Changes::new(0);
        let well = reading(1, 5, 1);
        let mut ill = well.clone();
        ill.troubles = vec![CollectError { group: Group::Disk, what: "a mount hangs".into() }];
        given(&mut changes, &well);
        assert_eq!(given(&mut changes, &ill), Some((false, false)));
        assert_eq!(given(&mut changes, &ill), None);
        assert_eq!(given(&mut changes, &well), Some((false, false)));
    }

    #[test]
    fn one_in_one_is_every_one() {
        let mut changes = Changes::new(1);
        for _ in 0..3 {
            assert_eq!(given(&mut changes, &reading(1, 5, 1)), Some((true, true)));
        }
    }
}
