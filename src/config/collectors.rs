//! The names in `from = […]`: the collectors and their options.

use serde::Deserialize;

use super::units::Count;
use crate::metrics::collect::{CommandLine, DiskOptions, NetworkOptions};
use crate::model::{Group, Rank};

/// One reader. `"cpu"` in a file, or `{ network = { exclude = ["lo"] } }` with options.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Read {
    /// Processor use.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Load averages and uptime.
    Load,
    /// File systems and block devices.
    Disk(DiskOptions),
    /// Network interfaces.
    Network(NetworkOptions),
    /// Processes.
    Processes(ProcessesOptions),
    /// Listening and connected ports.
    Ports,
    /// Facts about the machine that seldom change.
    Host,
    /// Pressure stall information.
    Pressure,
    /// The agent's own use and counters.
    Agent,
}

impl Read {
    /// The group it fills.
    pub fn group(&self) -> Group {
        match self {
            Self::Cpu => Group::Cpu,
            Self::Memory => Group::Memory,
            Self::Load => Group::Load,
            Self::Disk(_) => Group::Disk,
            Self::Network(_) => Group::Network,
            Self::Processes(_) => Group::Processes,
            Self::Ports => Group::Ports,
            Self::Host => Group::Host,
            Self::Pressure => Group::Pressure,
            Self::Agent => Group::Agent,
        }
    }
}

/// Options of the process reader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessesOptions {
    /// How many processes are kept.
    pub keep: Count,
    /// What makes a process important.
    pub by: Rank,
    /// How much of their command lines is read.
    pub command_line: CommandLine,
}

impl Default for ProcessesOptions {
    fn default() -> Self {
        Self { keep: Count::fixed(20), by: Rank::Cpu, command_line: CommandLine::default() }
    }
}
