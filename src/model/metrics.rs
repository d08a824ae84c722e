//! One reading of the machine. Does not say where the values came from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::group::{Group, OwnGroup, OwnGroups};
use super::time::{Iso8601, iso8601, of_iso8601};
use super::{Agent, Cpu, Disk, Host, Load, Memory, Network, Port, Pressure, Process, Renames};

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
    /// New names of its fields in `json-lines`: added by the `rename` enricher.
    #[serde(skip)]
    pub renames: Option<Arc<Renames>>,
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
    /// The groups that have no field here.
    #[serde(flatten)]
    pub own: OwnGroups,
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
            renames: None,
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
            own: OwnGroups::default(),
            troubles: Vec::new(),
        }
    }

    /// Takes in the groups and troubles of `part`, which was read at the same tick.
    pub fn absorb(&mut self, part: Self) {
        for group in part.groups() {
            self.share(&part, group);
        }
        self.troubles.extend(part.troubles);
    }

    /// Takes out all groups but these.
    pub fn keep(&mut self, groups: &[Group]) {
        for group in self.groups().into_iter().filter(|group| !groups.contains(group)) {
            self.clear(group);
        }
    }

    /// Puts in a group that has no field here.
    pub fn put<T: OwnGroup>(&mut self, data: T) {
        self.own.put(data);
    }

    /// The group of this type, where the reading holds it.
    pub fn get<T: OwnGroup>(&self) -> Option<&T> {
        self.own.find(T::GROUP)?.get()
    }

    /// Becomes the last value of each group: what `newer` holds replaces what is here, the rest stays.
    pub fn update(&mut self, newer: &Self) {
        let newer = newer.clone();
        (self.at, self.taken, self.every) = (newer.at, newer.taken, newer.every);
        (self.made, self.sequence) = (newer.made, newer.sequence);
        self.troubles.clear();
        self.absorb(newer);
    }
}

/// A reading as `json-lines` writes it; what is not there has its default. A group of one's own cannot be read back, nor
/// that of the agent itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Read {
    #[serde(deserialize_with = "of_iso8601")]
    timestamp: SystemTime,
    sequence: u64,
    identity: Option<Arc<Identity>>,
    tags: Option<Arc<BTreeMap<String, String>>>,
    cpu: Option<Arc<Cpu>>,
    memory: Option<Arc<Memory>>,
    load: Option<Arc<Load>>,
    disk: Option<Arc<Disk>>,
    network: Option<Arc<Network>>,
    processes: Option<Arc<Vec<Process>>>,
    ports: Option<Arc<Vec<Port>>>,
    host: Option<Arc<Host>>,
    pressure: Option<Arc<Pressure>>,
    #[serde(default)]
    troubles: Vec<CollectError>,
}

impl SystemMetrics {
    /// Reads a line that `json-lines` has written, as if it had been taken at `taken`; of what it leaves out `at` is the
    /// time and `sequence` the number.
    ///
    /// # Errors
    /// It is no such line.
    pub fn from_json(
        line: &str,
        at: SystemTime,
        taken: Instant,
        sequence: u64,
    ) -> serde_json::Result<Self> {
        let with_defaults = || {
            let mut read: serde_json::Map<_, _> = serde_json::from_str(line)?;
            read.entry("timestamp").or_insert_with(|| Iso8601::new(at).as_str().into());
            read.entry("sequence").or_insert_with(|| sequence.into());
            serde_json::from_value::<Read>(read.into())
        };
        let read = with_defaults()?;
        Ok(Self {
            identity: read.identity,
            tags: read.tags,
            cpu: read.cpu,
            memory: read.memory,
            load: read.load,
            disk: read.disk,
            network: read.network,
            processes: read.processes,
            ports: read.ports,
            host: read.host,
            pressure: read.pressure,
            troubles: read.troubles,
            ..Self::empty(read.timestamp, taken, Duration::ZERO, read.sequence)
        })
    }
}

/// What is done with one group of a reading by its name, whether it has a field or not.
macro_rules! by_name {
    ($($Group:ident: $field:ident),*) => {
        impl SystemMetrics {
            /// The groups that the reading holds: those with a field in the order of the fields, then the others.
            pub fn groups(&self) -> Vec<Group> {
                let fields = [$((Group::$Group, self.$field.is_some())),*];
                let fields = fields.into_iter().filter(|(_, has)| *has).map(|(group, _)| group);
                fields.chain(self.own.iter().map(|own| own.group())).collect()
            }

            /// Whether the reading holds `group`.
            pub fn has(&self, group: Group) -> bool {
                match group {
                    $(Group::$Group => self.$field.is_some(),)*
                    own => self.own.find(own).is_some(),
                }
            }

            /// Takes `group` out.
            pub fn clear(&mut self, group: Group) {
                match group {
                    $(Group::$Group => self.$field = None,)*
                    own => self.own.remove(own),
                }
            }

            /// Puts in `group` as `from` has it, or has it not. Shares, does not copy.
            pub fn share(&mut self, from: &Self, group: Group) {
                match group {
                    $(Group::$Group => self.$field.clone_from(&from.$field),)*
                    own => match from.own.find(own) {
                        Some(own) => self.own.replace(own.clone()),
                        None => self.own.remove(own),
                    },
                }
            }

            /// Whether both readings hold the same value of the group, or both hold none.
            pub fn same(&self, other: &Self, group: Group) -> bool {
                match group {
                    $(Group::$Group => equal(&self.$field, &other.$field),)*
                    own => self.own.find(own) == other.own.find(own),
                }
            }
        }
    };
}

by_name! {
    Cpu: cpu, Memory: memory, Load: load, Disk: disk, Network: network,
    Processes: processes, Ports: ports, Host: host, Pressure: pressure, Agent: agent
}

fn equal<T: PartialEq>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (None, None) => true,
        _ => false,
    }
}

/// Who speaks: which machine, and which boot of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectError {
    /// The group that is left out or incomplete.
    pub group: Group,
    /// What was tried and why it failed, as a sentence.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize)]
    struct Queue {
        waiting: u64,
    }

    impl OwnGroup for Queue {
        const GROUP: Group = Group::new("queue");
    }

    fn full() -> SystemMetrics {
        let now = tokio::time::Instant::now();
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::ZERO, 0);
        reading.cpu = Some(Arc::new(Cpu::default()));
        reading.memory = Some(Arc::new(Memory::default()));
        reading.load = Some(Arc::new(Load::default()));
        reading.disk = Some(Arc::new(Disk::default()));
        reading.network = Some(Arc::new(Network::default()));
        reading.processes = Some(Arc::default());
        reading.ports = Some(Arc::default());
        reading.host = Some(Arc::new(Host {
            hostname: "a".into(),
            os: "b".into(),
            os_id: None,
            kernel: "c".into(),
            architecture: "d".into(),
            machine_id: None,
            boot_id: None,
            boot_time: None,
            cores: 1,
        }));
        reading.pressure = Some(Arc::new(Pressure::default()));
        reading.agent = Some(Arc::new(Agent::default()));
        reading.put(Queue { waiting: 3 });
        reading
    }

    #[test]
    fn a_line_is_read_back_as_the_reading_that_wrote_it() {
        let mut reading = full();
        reading.identity = Some(Arc::new(Identity { host: "a".into(), ..Identity::default() }));
        reading.tags = Some(Arc::new(BTreeMap::from([("site".to_owned(), "lab".to_owned())])));
        let process = Process { status: "zombie", cpu_seconds: Some(1.5), ..Process::default() };
        reading.processes = Some(Arc::new(vec![process]));
        let port = Port { port: 22, protocol: "tcp", state: "listen", ..Port::default() };
        reading.ports = Some(Arc::new(vec![port]));
        reading.disk = Some(Arc::new(Disk { io: Some(Default::default()), ..Disk::default() }));
        let what = "cannot read /proc/net".to_owned();
        reading.troubles.push(CollectError { group: Group::Network, what });
        for cannot in [Group::Agent, Queue::GROUP] {
            let line = serde_json::to_string(&reading).unwrap();
            let read = SystemMetrics::from_json(&line, reading.at, reading.taken, 0);
            assert!(read.unwrap_err().to_string().contains("unknown field"), "{cannot:?}");
            reading.clear(cannot);
        }
        let line = serde_json::to_string(&reading).unwrap();
        let read = SystemMetrics::from_json(&line, reading.at, reading.taken, 9).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
        let wrong = r#"{"ports":[{"state":"open"}]}"#;
        let why = SystemMetrics::from_json(wrong, reading.at, reading.taken, 0);
        let why = why.unwrap_err().to_string();
        assert!(why.starts_with("unknown variant `open`, expected one of `unconnected`"), "{why}");
        let default = SystemMetrics::from_json("{}", reading.at, reading.taken, 9).unwrap();
        assert_eq!((default.at, default.sequence), (reading.at, 9));
    }

    #[test]
    fn each_group_is_cleared_shared_and_compared_alone() {
        let all = full().groups();
        assert_eq!(all.len(), 11);
        for &group in &all {
            let mut reading = full();
            reading.clear(group);
            for &other in &all {
                assert_eq!(reading.has(other), other != group, "{group:?} {other:?}");
                assert_eq!(reading.same(&full(), other), other != group, "{group:?} {other:?}");
            }
            reading.share(&full(), group);
            assert_eq!(reading.groups(), all);
        }
    }
}
