//! Readers of the machine, one per group. They block, so they run on the blocking pool only.
//!
//! Each group has its file; what several share stands below them: `procfs` (files and clocks of the
//! kernel), `process_table` (all processes), `netlink` (its sockets) and `parse` (pure parsing). This module does not decide when to
//! read, what to do with a reading, or how a value is spelled on a wire; it starts no subprocess.
//!
//! # Cost
//! `cargo bench --bench collect`; nearly all of it is the kernel's work. Most are processes, whose `stat` is read from
//! descriptors that stay open (`process_table`), then ports, which is the walk through the table of connections.
//!
//! # Bounds
//! At most 8 threads wait for remote file systems, 1 s per reading; 1,000 ports; 4 KiB of a command
//! line; 32 MiB of a file; 32 KiB of a netlink answer at a time. These descriptors stay open: `/proc`
//! twice, a netlink socket for links and one for sockets, `/proc/loadavg`, and at most 256 files of processes.

mod diskstats;
mod mounts;
mod netlink;
mod process_table;
mod socket_owners;
mod procfs;
mod temperature;
mod sockets;
mod fs_usage;
mod pid_stat;
mod parse;

mod interval;
mod nice;
mod job;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::model::{CollectError, Group, Rng, SystemMetrics};
use crate::pipeline::StatsRegistry;
use crate::values::Section;

pub use disk::DiskOptions;
pub(crate) use host::Release;
pub use network::NetworkOptions;
pub use processes::{CommandLine, ProcessesKeys, ProcessesOptions};
pub use tasks::Tasks;

pub use interval::{IntervalSource, LIMIT, readings};

/// Reads one group. Blocking and infallible: what cannot be read becomes a
/// [`CollectError`] in the reading and the rest of it goes on.
pub trait Collector: Send + 'static {
    /// The group it fills.
    fn group(&self) -> Group;

    /// Reads at `now`. A value that needs an interval (a rate, a share of time) is left out, without
    /// trouble, at the first call, which has none behind it.
    fn read(&mut self, now: Instant, into: &mut SystemMetrics);
}

/// A collector that a file can ask for by the name of its group.
pub trait Registered: Collector + Sized {
    /// The group it fills.
    const GROUP: Group;
    /// The keys that a file may give it; [`NoOptions`] where there are none.
    type Options: DeserializeOwned + Clone + PartialEq + std::fmt::Debug;
    /// The reference of these keys.
    const MANUAL: Option<Section> = None;

    /// One with these options, which has not read yet.
    fn build(options: &Self::Options, context: &CollectorContext<'_>) -> Self;

    /// Puts synthetic values of the group into a reading, for `[generate]`; the ten groups with a field in the reading have
    /// theirs in `metrics::synthetic`.
    fn synthesize(_rng: &mut Rng, _into: &mut SystemMetrics) {}
}

/// What the agent gives a collector.
pub struct CollectorContext<'a> {
    /// Counters of all pipelines.
    pub stats: &'a StatsRegistry,
}

/// The options of a collector that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}

/// Declares the collectors: a module, whose name is that in a file, its variant, and the type.
macro_rules! collectors {
    ($($(#[$about:meta])* $name:ident: $Name:ident($Collector:ident)),* $(,)?) => {
        $(mod $name;)*
        $(pub use $name::$Collector;)*

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
            pub fn build(&self, context: &CollectorContext<'_>) -> Box<dyn Collector> {
                match self {
                    $(Self::$Name(options) => {
                        Box::new(<$Collector as Registered>::build(options, context))
                    })*
                }
            }
        }

        /// The groups of all collectors, in this order.
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

        /// Puts synthetic values of the group into a reading.
        pub(in crate::metrics) fn synthesize(group: Group, rng: &mut Rng, into: &mut SystemMetrics) {
            $(if group == <$Collector as Registered>::GROUP {
                <$Collector as Registered>::synthesize(rng, into);
            })*
        }

        /// What a list of groups takes, for the reference of files.
        pub(crate) const LIST: &str = list!($($name)*);

        /// The reference of the options of each collector that has some.
        pub(crate) const MANUAL: &[Option<Section>] = &[$(<$Collector as Registered>::MANUAL),*];
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

/// Notes in the reading what could not be read.
fn tell(into: &mut SystemMetrics, group: Group, what: impl Into<String>) {
    into.troubles.push(CollectError { group, what: what.into() });
}
