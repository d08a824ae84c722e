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

mod agent;
mod cpu;
mod disk;
mod host;
mod load;
mod memory;
mod network;
mod ports;
mod pressure;
mod processes;
mod tasks;

pub(crate) mod registry;

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

use tokio::time::Instant;

use crate::model::{CollectError, Group, SystemMetrics};

pub use agent::AgentCollector;
pub use cpu::CpuCollector;
pub use disk::{DiskCollector, DiskOptions};
pub use host::HostCollector;
pub(crate) use host::Release;
pub use load::LoadCollector;
pub use memory::MemoryCollector;
pub use network::{NetworkCollector, NetworkOptions};
pub use ports::PortsCollector;
pub use pressure::PressureCollector;
pub use processes::{CommandLine, ProcessesCollector, ProcessesKeys, ProcessesOptions};
pub use registry::{GROUPS, GroupName, NoOptions, Read, Registered, Surroundings};
pub use tasks::{Tasks, TasksCollector};

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

/// Notes in the reading what could not be read.
fn tell(into: &mut SystemMetrics, group: Group, what: impl Into<String>) {
    into.troubles.push(CollectError { group, what: what.into() });
}
