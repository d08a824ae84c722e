//! What the agent itself uses, and the counters of its pipelines. Does not judge them.

use std::fmt;
use std::io;

use nix::sys::resource::{UsageWho, getrusage};
use rustix::fs::CWD;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::procfs::{self, Reader};
use super::{Collector, CollectorContext, NoOptions, Registered, parse, pid_stat, tell};
use crate::model::{Agent, Group, SystemMetrics};
use crate::pipeline::StageCounts;

/// The agent's processor time, memory, wake-ups, descriptors and pipeline counters.
///
/// Processor time is that of the process clock, exact to the nanosecond: the ticks of
/// `/proc/self/stat` are 10 ms, more than an idle agent uses in a minute.
pub struct AgentCollector {
    nodes: Box<dyn Fn() -> Vec<StageCounts> + Send>,
    before: Option<(Instant, f64)>,
    /// Ticks from the boot to its start, once they were read.
    started: Option<u64>,
    file: Reader,
    entries: Vec<u8>,
}

impl AgentCollector {
    /// A collector that asks `nodes` for the counters at each reading.
    pub fn new(nodes: Box<dyn Fn() -> Vec<StageCounts> + Send>) -> Self {
        let (before, started, file, entries) = Default::default();
        Self { nodes, before, started, file, entries }
    }

    fn agent(&mut self, now: Instant) -> io::Result<Agent> {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        let before = self.before.replace((now, cpu_seconds));
        let cpu_percent = before.and_then(|(then, before)| {
            let seconds = now.saturating_duration_since(then).as_secs_f64();
            (seconds > 0.0).then(|| (cpu_seconds - before).max(0.0) * 100.0 / seconds)
        });
        Ok(Agent {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.uptime_seconds()?,
            cpu_percent,
            cpu_seconds,
            rss_bytes: self.rss_bytes()?,
            wakeups: wakeups()?,
            descriptors: self.descriptors()?,
            nodes: (self.nodes)(),
        })
    }

    fn uptime_seconds(&mut self) -> io::Result<u64> {
        let started = match self.started {
            Some(started) => started,
            None => {
                let stat = pid_stat::parse(self.file.read("/proc/self/stat")?)
                    .ok_or_else(|| io::Error::other("its text is not understood"))?;
                *self.started.insert(stat.started_ticks)
            }
        };
        let started = started / rustix::param::clock_ticks_per_second().max(1);
        Ok(procfs::since_boot().as_secs().saturating_sub(started))
    }

    fn rss_bytes(&mut self) -> io::Result<u64> {
        // Pages: size, resident, shared, … (proc_pid_statm(5)).
        let resident =
            parse::words(self.file.read("/proc/self/statm")?).nth(1).and_then(parse::number);
        let pages = resident.ok_or_else(|| io::Error::other("its text is not understood"))?;
        Ok(pages.saturating_mul(rustix::param::page_size() as u64))
    }

    /// The size of the folder, which Linux tells since 6.2; before that it is listed.
    fn descriptors(&mut self) -> io::Result<u64> {
        if let Ok(count @ 1..) = rustix::fs::stat("/proc/self/fd").map(|fd| fd.st_size as u64) {
            return Ok(count);
        }
        let dir = procfs::directory(CWD, "/proc/self/fd")?;
        let mut count = 0_u64;
        procfs::each_number(&dir, &mut self.entries, |_| count += 1)?;
        Ok(count.saturating_sub(1)) // the one that lists them
    }
}

/// Voluntary switches of all threads, those that have ended too (`getrusage(2)`).
fn wakeups() -> io::Result<u64> {
    let switches = getrusage(UsageWho::RUSAGE_SELF)?.voluntary_context_switches();
    Ok(u64::try_from(switches).unwrap_or_default())
}

impl Registered for AgentCollector {
    const GROUP: Group = Group::Agent;
    type Options = NoOptions;

    fn build(_: &NoOptions, context: &CollectorContext<'_>) -> Self {
        let stats = context.stats.clone();
        Self::new(Box::new(move || stats.counts()))
    }
}

impl Collector for AgentCollector {
    fn group(&self) -> Group {
        Group::Agent
    }

    fn read(&mut self, now: Instant, into: &mut SystemMetrics) {
        match self.agent(now) {
            Ok(agent) => into.agent = Some(agent.into()),
            Err(error) => {
                let what = format!("cannot read /proc/self: {error} (is /proc mounted?)");
                tell(into, Group::Agent, what);
            }
        }
    }
}

impl fmt::Debug for AgentCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentCollector").field("before", &self.before).finish_non_exhaustive()
    }
}
