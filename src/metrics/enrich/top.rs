//! Keeps the processes that matter most. Does not read any.

use std::cmp::Ordering;
use std::sync::Arc;

use serde::Deserialize;
use tokio::time::Instant;

use super::{Enricher, Options, EnricherContext};
use crate::model::{Group, Process, Rank, SystemMetrics};
use crate::pipeline::{Output, Transform};
use crate::values::words::{COUNT, NONE, RANK};
use crate::values::{Count, Manual, Section, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "top",
        "table, see below",
        NONE,
        "{ processes = 20, by = \"cpu\" }",
        "keeps the most important processes",
        ),
    options: Some(Section {
        header: "`top = { … }` in `[[enrich]]`",
        about: "",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"cpu\"]\n[[enrich]]\ntop.{}\n[write]\nstdout = true",
        keys: &[
            key("processes", COUNT, "20", "5", "how many processes stay"),
            key("by", RANK, "\"cpu\"", "\"memory\"", "what makes a process more important"),
        ],
    }),
};

/// Options of `top`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopOptions {
    /// How many processes stay.
    pub processes: Count,
    /// What makes a process important.
    pub by: Rank,
}

impl Default for TopOptions {
    fn default() -> Self {
        Self { processes: Count::fixed(20), by: Rank::Cpu }
    }
}

impl Options for TopOptions {
    fn build(&self, _: &EnricherContext<'_>) -> Enricher {
        Box::new(Top::new(self.processes.items(), self.by))
    }

    fn needs(&self) -> Vec<Group> {
        vec![Group::Processes]
    }
}

/// Keeps the first `keep` processes by rank, the most important first; equals by the other rank,
/// then by process id, so that the order is the same at every reading of the same processes.
///
/// A list that is short enough and in order is shared as it is; otherwise the kept ones are copied,
/// after a selection that costs time in proportion to the list and not to its sorting.
///
/// ```
/// use infiniservice::{metrics::enrich::Top, model::Rank};
/// # use infiniservice::model::{Process, SystemMetrics};
/// # use infiniservice::pipeline::{Output, Transform};
/// # use std::{sync::Arc, time::{Duration, SystemTime}};
/// # let now = tokio::time::Instant::now();
/// # let process = |pid, cpu_percent| Process { pid, parent: None, name: "x".into(),
/// #     executable: None, command_line: None, cpu_percent, cpu_seconds: None, rss_bytes: 0, read_bytes: None,
/// #     written_bytes: None, status: "running", started: SystemTime::UNIX_EPOCH, uid: 0 };
/// # let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
/// reading.processes = Some(Arc::new(vec![process(1, 0.5), process(2, 90.0), process(3, 7.0)]));
/// let (mut top, mut out) = (Top::new(2, Rank::Cpu), Output::default());
/// top.apply(now, &reading, &mut out);
/// let kept = out.drain().next().unwrap().processes.unwrap();
/// assert_eq!(kept.iter().map(|process| process.pid).collect::<Vec<_>>(), [2, 3]);
/// ```
#[derive(Debug)]
pub struct Top {
    keep: usize,
    rank: Rank,
}

impl Top {
    /// Keeps at most `keep` processes by `rank`.
    pub fn new(keep: usize, rank: Rank) -> Self {
        Self { keep, rank }
    }

    fn of(&self, processes: &Arc<Vec<Process>>) -> Arc<Vec<Process>> {
        let before = |one: &Process, other: &Process| order(self.rank, one, other);
        let ordered = |pair: &[Process]| before(&pair[0], &pair[1]) != Ordering::Greater;
        if processes.len() <= self.keep && processes.windows(2).all(ordered) {
            return processes.clone();
        }
        let mut ranked: Vec<&Process> = processes.iter().collect();
        if self.keep < ranked.len() {
            ranked.select_nth_unstable_by(self.keep, |one, other| before(one, other));
            ranked.truncate(self.keep);
        }
        ranked.sort_unstable_by(|one, other| before(one, other));
        Arc::new(ranked.into_iter().cloned().collect())
    }
}

impl Transform for Top {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let processes = input.processes.as_ref().map(|processes| self.of(processes));
        out.push(SystemMetrics { processes, ..input.clone() });
    }
}

/// The more important first. A share that is not a number counts as none.
fn order(rank: Rank, one: &Process, other: &Process) -> Ordering {
    let share = |process: &Process| process.cpu_percent.max(0.0); // `max` takes 0 over NaN
    let by_cpu = share(other).total_cmp(&share(one));
    let by_memory = other.rss_bytes.cmp(&one.rss_bytes);
    let ranked = match rank {
        Rank::Cpu => by_cpu.then(by_memory),
        Rank::Memory => by_memory.then(by_cpu),
    };
    ranked.then(one.pid.cmp(&other.pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn process(pid: u32, cpu_percent: f64, rss_bytes: u64) -> Process {
        Process {
            pid,
            parent: None,
            name: String::new(),
            executable: None,
            command_line: None,
            cpu_percent,
            cpu_seconds: None,
            rss_bytes,
            read_bytes: None,
            written_bytes: None,
            status: "running",
            started: SystemTime::UNIX_EPOCH,
            uid: 0,
        }
    }

    fn kept(keep: usize, rank: Rank, processes: Vec<Process>) -> Vec<u32> {
        let now = Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::ZERO, 0);
        reading.processes = Some(Arc::new(processes));
        let mut out = Output::default();
        Top::new(keep, rank).apply(now, &reading, &mut out);
        let processes = out.drain().next().and_then(|reading| reading.processes).unwrap();
        processes.iter().map(|process| process.pid).collect()
    }

    #[test]
    fn equals_are_ranked_by_the_other_measure_and_then_by_id() {
        let all = vec![process(9, 0.0, 5), process(4, 0.0, 5), process(5, 0.0, 8)];
        assert_eq!(kept(3, Rank::Cpu, all.clone()), [5, 4, 9]);
        assert_eq!(kept(2, Rank::Memory, all), [5, 4]);
    }

    #[test]
    fn a_share_that_is_not_a_number_is_never_the_top() {
        let all = vec![process(1, f64::NAN, 0), process(2, 1.0, 0), process(3, f64::NAN, 9)];
        assert_eq!(kept(2, Rank::Cpu, all), [2, 3]);
    }

    #[test]
    fn a_short_list_is_put_in_order_and_none_keeps_none() {
        assert_eq!(kept(9, Rank::Cpu, vec![process(1, 1.0, 0), process(2, 2.0, 0)]), [2, 1]);
        assert_eq!(kept(0, Rank::Cpu, vec![process(1, 1.0, 0)]), [] as [u32; 0]);
    }

    #[test]
    fn a_selection_is_what_sorting_everything_would_keep() {
        let all: Vec<_> = (0..500).map(|n| process(n, f64::from(n * 7919 % 101), 0)).collect();
        let mut sorted = all.clone();
        sorted.sort_by(|one, other| order(Rank::Cpu, one, other));
        let first: Vec<_> = sorted.iter().take(20).map(|process| process.pid).collect();
        assert_eq!(kept(20, Rank::Cpu, all), first);
    }
}
