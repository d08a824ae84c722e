//! One reading of the machine. Does not say where the values came from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::time::iso8601;
use super::{Agent, Cpu, Disk, Host, Load, Memory, Network, Port, Pressure, Process};

/// One reading of the machine: the groups that one cadence read at one tick.
///
/// Every group is optional, because cadences differ and because a group that could not be read is
/// left out and told in [`troubles`](Self::troubles). Groups are shared (`Arc`), so a copy of a
/// reading costs a few reference counts, and a join can keep the last value of each for nothing.
#[derive(Debug, Clone, Serialize)]
pub struct SystemMetrics {
    /// Wall-clock time of the reading; on the wire an ISO-8601 string in UTC with milliseconds.
    #[serde(rename = "timestamp", serialize_with = "iso8601")]
    pub at: SystemTime,
    /// Monotonic time of the reading: for rates, never for display.
    #[serde(skip)]
    pub taken: Instant,
    /// When this reading came into being: for latency. The same as `taken`, unless it is made up.
    #[serde(skip)]
    pub made: Instant,
    /// The cadence that took it.
    #[serde(skip)]
    pub every: Duration,
    /// Counts the readings of one source from 0, so that a gap can be seen.
    pub sequence: u64,
    /// Who speaks: added by the `identity` enricher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Arc<Identity>>,
    /// Fixed words of the operator: added by the `tags` enricher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Arc<BTreeMap<String, String>>>,
    /// Processor use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Arc<Cpu>>,
    /// Memory and swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Arc<Memory>>,
    /// Load averages and uptime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<Arc<Load>>,
    /// File systems and block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Arc<Disk>>,
    /// Network interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Arc<Network>>,
    /// Processes, the most important first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<Arc<Vec<Process>>>,
    /// Listening and connected ports, listening first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Arc<Vec<Port>>>,
    /// What kind of machine this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Arc<Host>>,
    /// Pressure stall information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Arc<Pressure>>,
    /// The agent itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Arc<Agent>>,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<CollectError>,
}

impl SystemMetrics {
    /// A reading with no group in it yet.
    pub fn empty(at: SystemTime, taken: Instant, every: Duration, sequence: u64) -> Self {
        Self {
            at,
            taken,
            made: taken,
            every,
            sequence,
            identity: None,
            tags: None,
            cpu: None,
            memory: None,
            load: None,
            disk: None,
            network: None,
            processes: None,
            ports: None,
            host: None,
            pressure: None,
            agent: None,
            troubles: Vec::new(),
        }
    }

    /// Takes in the groups and troubles of `part`, which was read at the same tick.
    pub fn absorb(&mut self, part: Self) {
        let Self { cpu, memory, load, disk, network, processes, ports, .. } = part;
        let Self { host, pressure, agent, troubles, .. } = part;
        replace(&mut self.cpu, cpu);
        replace(&mut self.memory, memory);
        replace(&mut self.load, load);
        replace(&mut self.disk, disk);
        replace(&mut self.network, network);
        replace(&mut self.processes, processes);
        replace(&mut self.ports, ports);
        replace(&mut self.host, host);
        replace(&mut self.pressure, pressure);
        replace(&mut self.agent, agent);
        self.troubles.extend(troubles);
    }

    /// Becomes the last value of each group: what `newer` holds replaces what is here, the rest stays.
    pub fn update(&mut self, newer: &Self) {
        let newer = newer.clone();
        (self.at, self.taken, self.every) = (newer.at, newer.taken, newer.every);
        (self.made, self.sequence) = (newer.made, newer.sequence);
        self.troubles.clear();
        self.absorb(newer);
    }

    /// Whether the reading holds `group`.
    pub fn has(&self, group: Group) -> bool {
        match group {
            Group::Cpu => self.cpu.is_some(),
            Group::Memory => self.memory.is_some(),
            Group::Load => self.load.is_some(),
            Group::Disk => self.disk.is_some(),
            Group::Network => self.network.is_some(),
            Group::Processes => self.processes.is_some(),
            Group::Ports => self.ports.is_some(),
            Group::Host => self.host.is_some(),
            Group::Pressure => self.pressure.is_some(),
            Group::Agent => self.agent.is_some(),
        }
    }
}

/// The groups a reading can hold; the words `from = […]` takes in a pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Processor use.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Load averages and uptime.
    Load,
    /// File systems and block devices.
    Disk,
    /// Network interfaces.
    Network,
    /// Processes.
    Processes,
    /// Listening and connected ports.
    Ports,
    /// Facts about the machine that seldom change.
    Host,
    /// Pressure stall information.
    Pressure,
    /// The agent's own use and counters.
    Agent,
}

impl Group {
    /// All groups, in the order of the wire.
    pub const ALL: [Self; 10] = [
        Self::Cpu,
        Self::Memory,
        Self::Load,
        Self::Disk,
        Self::Network,
        Self::Processes,
        Self::Ports,
        Self::Host,
        Self::Pressure,
        Self::Agent,
    ];

    /// The word that stands for the group in files, logs and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Processes => "processes",
            Self::Ports => "ports",
            Self::Host => "host",
            Self::Pressure => "pressure",
            Self::Agent => "agent",
        }
    }
}

/// Who speaks: which machine, and which boot of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// The name the hypervisor's manager knows the machine by, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// Host name.
    pub host: String,
    /// `/proc/sys/kernel/random/boot_id`: a new one at every boot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

/// One thing that could not be read. It never stops the rest of the reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CollectError {
    /// The group that is left out or incomplete.
    pub group: Group,
    /// What was tried and why it failed, as a sentence.
    pub what: String,
}

fn replace<T>(old: &mut Option<T>, new: Option<T>) {
    if new.is_some() {
        *old = new;
    }
}
