//! What the running agent reports of itself, for `infiniservice status`. Costs nothing until it is asked for.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::agent::log::recent::{RecentLine, recent};
use crate::commands::actions::agent::{AgentReport, ReportError};
use crate::commands::execute::running::{Running, RunningCommand};
use crate::commands::notify::spool_status::{SpoolContents, SpoolReport};
use crate::metrics::collect::{AgentCollector, Collector};
use crate::model::SystemMetrics;
use crate::pipeline::StageCounts;
use crate::pipeline::tap::{Tap, TapReader};
use crate::pipeline::{MemoryBudget, StatsRegistry};
use crate::port::Counters;
use crate::sync::IgnorePoison;

/// Before the name of a port: the stage that writes to it.
pub(crate) const PORT_STAGE: &str = "port ";
/// Before the name of a port: the stage that keeps what waits for its host.
pub(crate) const SPOOL_STAGE: &str = "spool ";

/// The state of an agent at one moment. Counters count since its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Processor time since it started.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// The memory budget of all that is queued.
    pub queued: Queued,
    /// The open ports.
    pub ports: Vec<PortStatus>,
    /// What waits for the host, by port.
    pub spools: Vec<SpoolContents>,
    /// The stages of all pipelines, in the order they were built.
    pub stages: Vec<StageStatus>,
    /// Requests of the host that are carried out now.
    #[serde(default)]
    pub commands: Vec<RunningCommand>,
    /// The last warnings and errors of its log, oldest first; at most five.
    #[serde(default)]
    pub warnings: Vec<RecentLine>,
}

/// Bytes in queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Queued {
    /// Now.
    pub bytes: u64,
    /// The most since the start.
    pub max_bytes: u64,
    /// The most that the settings and the memory limit of the process allow.
    pub ceiling_bytes: u64,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortStatus {
    /// Its address.
    pub port: String,
    /// Whether the device was ever open.
    pub opened: bool,
    /// Whether a host has it open at the other end.
    pub host_connected: bool,
    /// Times that a host came.
    pub host_connects: u64,
    /// Bytes from the host.
    pub bytes_in: u64,
    /// Bytes that the device accepted.
    pub bytes_out: u64,
    /// Times that the device was full.
    pub stalls: u64,
    /// Whether it is full now: the host does not read.
    #[serde(default)]
    pub is_full: bool,
    /// Bytes that were written and are not acknowledged.
    #[serde(default)]
    pub unacknowledged_bytes: u64,
    /// Whether something waits until the host has acknowledged more.
    #[serde(default)]
    pub waits_for_host: bool,
    /// Whether the connected host was asked to acknowledge, and never has.
    #[serde(default)]
    pub never_acknowledged: bool,
}

/// One stage. The unit is the reading, or the message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StageStatus {
    /// `pipeline/stage`.
    pub stage: String,
    /// Taken in.
    pub received: u64,
    /// Handed on.
    pub sent: u64,
    /// Held now.
    pub buffered: u64,
    /// Lost, by reason; what the operator asked to leave out is not here.
    pub dropped: Vec<(String, u64)>,
    /// Failures that were survived.
    pub failed: u64,
}

/// Reports the [`Status`] of the agent that it is a part of. A copy reports the same.
#[derive(Debug, Clone, Default)]
pub(super) struct StatusReport {
    pub registry: StatsRegistry,
    pub memory_budget: MemoryBudget,
    pub spools: SpoolReport,
    pub ports: PortReport,
    pub running: Running,
}

/// The counters of the open ports. Clones share the list.
#[derive(Debug, Clone, Default)]
pub(super) struct PortReport(Arc<Mutex<Vec<PortCounters>>>);

/// The address of a port, and its counters.
type PortCounters = (String, Arc<Counters>);

impl PortReport {
    /// Replaces the list.
    pub(super) fn set(&self, ports: Vec<PortCounters>) {
        *self.0.lock().ignore_poison() = ports;
    }

    fn status(&self) -> Vec<PortStatus> {
        let ports = self.0.lock().ignore_poison();
        let status = |(port, counters): &PortCounters| PortStatus {
            port: port.clone(),
            opened: counters.opens.load(Relaxed) > 0,
            host_connected: counters.host_connects.load(Relaxed)
                > counters.host_leaves.load(Relaxed),
            host_connects: counters.host_connects.load(Relaxed),
            bytes_in: counters.bytes_in.load(Relaxed),
            bytes_out: counters.bytes_out.load(Relaxed),
            stalls: counters.stalls.load(Relaxed),
            is_full: counters.is_full.load(Relaxed),
            unacknowledged_bytes: counters.unacknowledged.load(Relaxed),
            waits_for_host: counters.is_waiting.load(Relaxed),
            never_acknowledged: counters.never_acked.load(Relaxed),
        };
        ports.iter().map(status).collect()
    }
}

#[cfg(test)]
impl Status {
    /// An agent with a port and a host, and no stages.
    pub(crate) fn example() -> Self {
        Self {
            version: "0.1.0".into(),
            pid: 812,
            uptime_seconds: 3_720,
            cpu_seconds: 1.0,
            rss_bytes: 5 << 20,
            queued: Queued { bytes: 0, max_bytes: 34 << 10, ceiling_bytes: 16 << 20 },
            ports: vec![PortStatus {
                port: "org.infinibay.agent".into(),
                opened: true,
                host_connected: true,
                host_connects: 2,
                bytes_in: 10,
                bytes_out: 2_048,
                stalls: 0,
                is_full: false,
                unacknowledged_bytes: 512,
                waits_for_host: false,
                never_acknowledged: false,
            }],
            spools: Vec::new(),
            stages: Vec::new(),
            commands: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl StatusReport {
    /// The state now. Reads `/proc/self`, so it may block.
    ///
    /// # Errors
    /// `/proc/self` cannot be read.
    pub(super) fn now(&self) -> Result<Status, ReportError> {
        let registry = self.registry.clone();
        let mut collector = AgentCollector::new(Box::new(move || registry.counts()));
        let now = Instant::now();
        let mut reading =
            SystemMetrics::empty(std::time::SystemTime::now(), now, Default::default(), 0);
        collector.read(now, &mut reading);
        let Some(agent) = reading.agent else {
            let trouble = reading.troubles.pop().map(|trouble| trouble.what);
            return Err(ReportError::Usage(trouble.unwrap_or_default()));
        };
        let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Ok(Status {
            version: agent.version.to_owned(),
            pid: std::process::id(),
            uptime_seconds: agent.uptime_seconds,
            cpu_seconds: agent.cpu_seconds,
            rss_bytes: agent.rss_bytes,
            queued: Queued {
                bytes: bytes(self.memory_budget.used()),
                max_bytes: bytes(self.memory_budget.used_max()),
                ceiling_bytes: bytes(self.memory_budget.ceiling()),
            },
            ports: self.ports.status(),
            spools: self.spools.contents(),
            stages: agent.nodes.iter().map(StageStatus::of).collect(),
            commands: self.running.list(),
            warnings: recent(),
        })
    }

    /// The stage of this name, with or without that of its pipeline before it, and its tap.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub(super) fn find_tap(
        &self,
        stage: &str,
        pipeline: Option<&str>,
    ) -> Result<(String, Arc<Tap>), ReportError> {
        let taps = self.registry.taps();
        let is_meant = |name: &str| match (pipeline, name.split_once('/')) {
            (Some(pipeline), Some((of, short))) => {
                of == pipeline && (short == stage || name == stage)
            }
            (None, Some((_, short))) => name == stage || short == stage,
            (_, None) => name == stage,
        };
        let meant: Vec<_> = taps.iter().filter(|(name, _)| is_meant(name)).collect();
        let names = |taps: &[&(String, Arc<Tap>)]| {
            taps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        match &meant[..] {
            [tap] => Ok((*tap).clone()),
            [] if taps.is_empty() => Err(ReportError::NoStages),
            [] => {
                let of = pipeline.map(|name| format!(" of {name}")).unwrap_or_default();
                let known = names(&taps.iter().collect::<Vec<_>>());
                Err(ReportError::UnknownStage { wanted: format!("{stage}{of}"), known })
            }
            several => {
                let (wanted, known) = (stage.to_owned(), names(several));
                Err(ReportError::SeveralStages { wanted, known })
            }
        }
    }
}

impl AgentReport for StatusReport {
    fn status(&self) -> Result<serde_json::Value, ReportError> {
        Ok(serde_json::to_value(self.now()?)?)
    }

    fn look(
        &self,
        stage: &str,
        pipeline: Option<&str>,
        rate: u32,
    ) -> Result<(String, TapReader), ReportError> {
        self.find_tap(stage, pipeline).map(|(name, tap)| (name, tap.attach(rate)))
    }
}

impl StageStatus {
    /// Whether nothing has moved since `earlier` (the start, where `None`), nothing waits, and nothing was lost.
    pub(crate) fn is_quiet(&self, earlier: Option<&Self>) -> bool {
        let moved = earlier.map_or((0, 0), |earlier| (earlier.received, earlier.sent));
        (self.received, self.sent) == moved
            && (self.buffered, self.failed) == (0, 0)
            && self.dropped.is_empty()
    }

    fn of(counts: &StageCounts) -> Self {
        Self {
            stage: counts.node.clone(),
            received: counts.received,
            sent: counts.sent,
            buffered: counts.buffered,
            dropped: counts
                .dropped
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            failed: counts.failed,
        }
    }
}
