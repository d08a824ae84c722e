//! All collectors of files: a line for each. Whatever knows a collector by its name reads it from here.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{
    AgentCollector, Collector, CpuCollector, DiskCollector, HostCollector, LoadCollector,
    MemoryCollector, NetworkCollector, PortsCollector, PressureCollector, ProcessesCollector,
    TasksCollector,
};
use crate::model::{Group, Rng, SystemMetrics};
use crate::pipeline::StatsRegistry;

/// A collector that a file can ask for by the name of its group.
pub trait Registered: Collector + Sized {
    /// The group it fills.
    const GROUP: Group;
    /// The keys that a file may give it; [`NoOptions`] where there are none.
    type Options: DeserializeOwned + Clone + PartialEq + std::fmt::Debug;

    /// One with these options, which has not read yet.
    fn build(options: &Self::Options, surroundings: &Surroundings<'_>) -> Self;

    /// Puts a made-up group into a reading, for `[generate]`; the ten with fields are made up in `synthetic`.
    fn make_up(_chance: &mut Rng, _into: &mut SystemMetrics) {}
}

/// What the agent gives a collector.
pub struct Surroundings<'a> {
    /// Counters of all pipelines.
    pub stats: &'a StatsRegistry,
}

/// The options of a collector that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// Declares the collectors: the name in a file, its variant, and the type.
macro_rules! collectors {
    ($($(#[$about:meta])* $name:ident: $Name:ident($Collector:ty)),* $(,)?) => {
        /// One reader: `"cpu"` in a file, or `{ network = { exclude = ["lo"] } }` with options.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Read {
            $($(#[$about])* $Name(<$Collector as Registered>::Options),)*
        }

        impl Read {
            /// The group it fills.
            pub fn group(&self) -> Group {
                match self { $(Self::$Name(_) => <$Collector as Registered>::GROUP,)* }
            }

            /// The collector.
            pub fn build(&self, surroundings: &Surroundings<'_>) -> Box<dyn Collector> {
                match self {
                    $(Self::$Name(options) => {
                        Box::new(<$Collector as Registered>::build(options, surroundings))
                    })*
                }
            }
        }

        /// The groups of all collectors, in the order of the registry.
        pub const GROUPS: &[Group] = &[$(<$Collector as Registered>::GROUP),*];

        /// The name of a group in a file: one that a collector fills.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum GroupName {
            $($(#[$about])* $Name,)*
        }

        impl From<GroupName> for Group {
            fn from(name: GroupName) -> Self {
                match name { $(GroupName::$Name => <$Collector as Registered>::GROUP,)* }
            }
        }

        /// Puts a made-up value of the group into a reading.
        pub(in crate::metrics) fn make_up(group: Group, chance: &mut Rng, into: &mut SystemMetrics) {
            $(if group == <$Collector as Registered>::GROUP {
                <$Collector as Registered>::make_up(chance, into);
            })*
        }

        /// The names for the reference of files.
        pub(crate) const LIST: &str = list!($($name)*);
    };
}

macro_rules! list {
    ($first:ident $($name:ident)*) => {
        concat!("list of groups: `", stringify!($first), "`" $(, ", `", stringify!($name), "`")*)
    };
}

collectors! {
    /// Processor use.
    cpu: Cpu(CpuCollector),
    /// Memory and swap.
    memory: Memory(MemoryCollector),
    /// Load averages and uptime.
    load: Load(LoadCollector),
    /// File systems and block devices.
    disk: Disk(DiskCollector),
    /// Network interfaces.
    network: Network(NetworkCollector),
    /// Processes.
    processes: Processes(ProcessesCollector),
    /// Listening and connected ports.
    ports: Ports(PortsCollector),
    /// Facts about the machine that seldom change.
    host: Host(HostCollector),
    /// Pressure stall information.
    pressure: Pressure(PressureCollector),
    /// The agent's own use and counters.
    agent: Agent(AgentCollector),
    /// Processes by state, threads, context switches and forks.
    tasks: Tasks(TasksCollector),
}
