//! What the agent itself uses, and the counters of its pipelines. Does not judge them.

use std::fmt;
use std::io;

use rustix::fs::CWD;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::procfs::{self, Reader};
use super::{Collector, NoOptions, Registered, Surroundings, parse, pid_stat, tell};
use crate::model::{Agent, Group, SystemMetrics};
use crate::pipeline::StageCounts;

/// The agent's processor time, memory, wake-ups, descriptors and pipeline counters.
///
/// Processor time is that of the process clock, exact to the nanosecond: the ticks of
/// `/proc/self/stat` are 10 ms, more than an idle agent uses in a minute.
pub struct AgentCollector {
    nodes: Box<dyn Fn() -> Vec<StageCounts> + Send>,
    before: Option<(Instant, f64)>,
    wakeups: Wakeups,
    file: Reader,
    entries: Vec<u8>,
}

impl AgentCollector {
    /// A collector that asks `nodes` for the counters at each reading.
    pub fn new(nodes: Box<dyn Fn() -> Vec<StageCounts> + Send>) -> Self {
        let (wakeups, file) = Default::default();
        Self { nodes, before: None, wakeups, file, entries: Vec::new() }
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
            wakeups: self.wakeups()?,
            descriptors: self.descriptors()?,
            nodes: (self.nodes)(),
        })
    }

    fn uptime_seconds(&mut self) -> io::Result<u64> {
        let stat = pid_stat::parse(self.file.read("/proc/self/stat")?)
            .ok_or_else(|| io::Error::other("its text is not understood"))?;
        let started = stat.started_ticks / rustix::param::clock_ticks_per_second().max(1);
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
        if let Ok(told @ 1..) = rustix::fs::stat("/proc/self/fd").map(|fd| fd.st_size as u64) {
            return Ok(told);
        }
        let dir = procfs::directory(CWD, "/proc/self/fd")?;
        let mut count = 0_u64;
        procfs::each_number(&dir, &mut self.entries, |_| count += 1)?;
        Ok(count.saturating_sub(1)) // the one that lists them
    }

    fn wakeups(&mut self) -> io::Result<u64> {
        let dir = procfs::directory(CWD, "/proc/self/task")?;
        let mut threads = Vec::new();
        procfs::each_number(&dir, &mut self.entries, |thread| threads.push(thread))?;
        let counts = threads.into_iter().filter_map(|thread| {
            let status = self.file.read(format!("/proc/self/task/{thread}/status")).ok()?;
            Some((
                thread,
                parse::value(status, b"voluntary_ctxt_switches:").and_then(parse::number)?,
            ))
        });
        Ok(self.wakeups.add(counts.collect()))
    }
}

impl Registered for AgentCollector {
    const GROUP: Group = Group::Agent;
    type Options = NoOptions;

    fn build(_: &NoOptions, surroundings: &Surroundings<'_>) -> Self {
        let stats = surroundings.stats.clone();
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

/// Adds up switches over threads that come and go: a thread that has ended keeps its share, less
/// what it did after it was last seen. Without this the sum would fall whenever the blocking pool
/// shrinks.
#[derive(Debug, Default)]
struct Wakeups {
    total: u64,
    threads: Vec<(u32, u64)>,
}

impl Wakeups {
    fn add(&mut self, threads: Vec<(u32, u64)>) -> u64 {
        for (thread, count) in &threads {
            let before =
                self.threads.iter().find(|(known, _)| known == thread).map(|(_, count)| *count);
            // A count below the one before is another thread with the same number.
            self.total += match before {
                Some(before) if before <= *count => count - before,
                _ => *count,
            };
        }
        self.threads = threads;
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakeups_never_fall_when_a_thread_ends_or_its_number_is_used_again() {
        let mut wakeups = Wakeups::default();
        assert_eq!(wakeups.add(vec![(1, 10), (2, 100)]), 110);
        assert_eq!(wakeups.add(vec![(1, 12)]), 112);
        assert_eq!(wakeups.add(vec![(1, 12), (2, 5)]), 117);
        assert_eq!(wakeups.add(vec![(1, 12), (2, 3)]), 120);
    }
}
