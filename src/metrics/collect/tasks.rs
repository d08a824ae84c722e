//! How many processes and threads there are and what they do, how many are made, and how often a processor changes from
//! one to another. Knows none of them by name: that is `processes`.

use std::io;

use serde::Serialize;
use tokio::time::Instant;

use super::procfs::{Processes, Reader};
use super::{Collector, CollectorContext, NoOptions, Registered, parse, pid_stat, tell};
use crate::metrics::counter::Difference;
use crate::model::{Field, Group, OwnGroup, Rng, SystemMetrics};

/// The longest line of `/proc/PID/stat`.
const STAT_MAX: usize = 2048;

/// Processes by state, their threads, and the counters of the scheduler.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tasks {
    /// Processes that run or could.
    pub running: u64,
    /// Processes that wait and can be interrupted.
    pub sleeping: u64,
    /// Processes that wait for I/O and cannot be interrupted.
    pub blocked: u64,
    /// Processes that have ended and whose parents have not asked how.
    pub zombie: u64,
    /// Processes that a signal or a debugger has stopped, and those that the kernel has parked.
    pub stopped: u64,
    /// Threads of all processes.
    pub threads: u64,
    /// Changes of a processor from one thread to another since boot.
    pub context_switches: u64,
    /// Processes and threads made since boot.
    pub forks: u64,
    /// Changes a second since the reading before.
    pub context_switches_per_sec: Option<f64>,
    /// Made a second since the reading before.
    pub forks_per_sec: Option<f64>,
}

impl OwnGroup for Tasks {
    const GROUP: Group = Group::new("tasks");
    const FIELDS: &'static [Field] = &[
        Field::gauge("running", "", "processes that run or could"),
        Field::gauge("sleeping", "", "processes that wait and can be interrupted"),
        Field::gauge("blocked", "", "processes that wait for I/O and cannot be interrupted"),
        Field::gauge("zombie", "", "processes that have ended and whose parents have not asked how"),
        Field::gauge("stopped", "", "processes that are stopped, traced or parked"),
        Field::gauge("threads", "", "threads of all processes"),
        Field::counter("context_switches", "", "changes of a processor from one thread to another since boot"),
        Field::counter("forks", "", "processes and threads made since boot"),
        Field::gauge("context_switches_per_sec", "", "changes a second since the reading before"),
        Field::gauge("forks_per_sec", "", "made a second since the reading before"),
    ];
}

/// Counts from one pass over `/proc/PID/stat` and from `/proc/stat`.
#[derive(Debug, Default)]
pub struct TasksCollector {
    proc: Option<Processes>,
    pids: Vec<u32>,
    file: Reader,
    /// Context switches and forks at the reading before.
    before: Option<(Instant, [u64; 2])>,
}

impl TasksCollector {
    /// A collector that has not read yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn count(&mut self) -> io::Result<Tasks> {
        let proc = match &mut self.proc {
            Some(proc) => proc,
            none => none.insert(Processes::open()?),
        };
        proc.pids(&mut self.pids)?;
        let mut tasks = Tasks::default();
        for pid in &self.pids {
            let (dir, path) = proc.file(*pid, "stat");
            // One that has ended since is not there.
            let Ok(line) = self.file.read_once_at(dir, path, STAT_MAX) else { continue };
            let Some(stat) = pid_stat::parse(line) else { continue };
            tasks.threads = tasks.threads.saturating_add(stat.threads);
            match stat.state {
                b'R' => tasks.running += 1,
                b'D' => tasks.blocked += 1,
                b'Z' | b'X' | b'x' => tasks.zombie += 1,
                b'T' | b't' | b'P' => tasks.stopped += 1,
                _ => tasks.sleeping += 1, // S, and I: a thread of the kernel that waits for work
            }
        }
        let stat = self.file.read("/proc/stat")?;
        let value = |key: &[u8]| {
            let why = || io::Error::other("its text is not understood");
            parse::value(stat, key).and_then(parse::number).ok_or_else(why)
        };
        tasks.context_switches = value(b"ctxt ")?;
        tasks.forks = value(b"processes ")?;
        Ok(tasks)
    }
}

impl Registered for TasksCollector {
    const GROUP: Group = Tasks::GROUP;
    type Options = NoOptions;

    fn build(_: &NoOptions, _: &CollectorContext<'_>) -> Self {
        Self::new()
    }

    fn synthesize(rng: &mut Rng, into: &mut SystemMetrics) {
        let (running, sleeping) = (rng.below(8), 80 + rng.below(40));
        into.put(Tasks { running, sleeping, threads: 3 * sleeping, ..Tasks::default() });
    }
}

impl Collector for TasksCollector {
    fn group(&self) -> Group {
        Tasks::GROUP
    }

    fn read(&mut self, now: Instant, into: &mut SystemMetrics) {
        let mut tasks = match self.count() {
            Ok(tasks) => tasks,
            Err(error) => {
                self.proc = None;
                return tell(into, Tasks::GROUP, format!("cannot count the processes: {error}"));
            }
        };
        let counters = [tasks.context_switches, tasks.forks];
        if let Some((then, before)) = self.before {
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            let rate = |of: usize| {
                let moved =
                    Difference::between(Some(before[of]), counters[of], u64::MAX).moved()?;
                (seconds > 0.0).then(|| moved as f64 / seconds)
            };
            (tasks.context_switches_per_sec, tasks.forks_per_sec) = (rate(0), rate(1));
        }
        self.before = Some((now, counters));
        into.put(tasks);
    }
}
