//! The groups that describe the machine as a whole. Not its network, nor its processes.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::time::{iso8601_option, of_iso8601_option};
use crate::pipeline::StageCounts;

/// Processor use over the time since the reading before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cpu {
    /// All cores together, 0 to 100.
    pub usage_percent: f64,
    /// Each core, 0 to 100, in the kernel's order.
    pub cores_usage_percent: Vec<f64>,
    /// Time the hypervisor gave to others, 0 to 100; `None` where the kernel does not tell.
    pub steal_percent: Option<f64>,
    /// Time spent waiting for I/O, 0 to 100.
    pub iowait_percent: Option<f64>,
    /// The hottest processor sensor, °C; `None` where there is no sensor.
    pub temperature_celsius: Option<f64>,
    /// Time since boot by state, all cores together; `None` where only shares are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<CpuSeconds>,
}

/// Processor time since boot by state, in seconds, all cores together: counters as the kernel has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CpuSeconds {
    /// Programs, guests of this machine included.
    pub user: f64,
    /// Programs of lower priority.
    pub nice: f64,
    /// The kernel.
    pub system: f64,
    /// Nothing to do.
    pub idle: f64,
    /// Nothing to do, and a task waited for I/O.
    pub iowait: f64,
    /// Interrupts.
    pub irq: f64,
    /// Work that interrupts left behind.
    pub softirq: f64,
    /// Given to others by the hypervisor.
    pub steal: f64,
}

impl CpuSeconds {
    /// Each state with its name.
    pub fn states(&self) -> [(&'static str, f64); 8] {
        [
            ("user", self.user),
            ("nice", self.nice),
            ("system", self.system),
            ("idle", self.idle),
            ("iowait", self.iowait),
            ("irq", self.irq),
            ("softirq", self.softirq),
            ("steal", self.steal),
        ]
    }
}

/// Memory and swap, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// All the memory the kernel manages.
    pub total_bytes: u64,
    /// Total less available.
    pub used_bytes: u64,
    /// What could be given to a new program without swapping.
    pub available_bytes: u64,
    /// Swap space; 0 where there is none.
    pub swap_total_bytes: u64,
    /// Swap space in use.
    pub swap_used_bytes: u64,
}

/// Load averages and uptime.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Load {
    /// Over one minute.
    pub one: f64,
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen minutes.
    pub fifteen: f64,
    /// Whole seconds since boot, suspended time included.
    pub uptime_seconds: u64,
}

/// File systems and block devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// Real file systems, one entry for each, the root first.
    pub mounts: Vec<Mount>,
    /// All real block devices together; `None` at the first reading, which has no interval.
    pub io: Option<DiskIo>,
    /// Counters of each real block device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DiskCounters>,
}

/// What a block device has done since boot: counters as the kernel has them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskCounters {
    /// Name, such as `vda`.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads completed.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// Time in which it was busy, in seconds; the kernel's counter goes round after 49 days of it.
    pub busy_seconds: f64,
}

/// One mounted file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mount {
    /// Where it is mounted.
    pub mount_point: String,
    /// What is mounted: a device or a remote path.
    pub device: String,
    /// File system type as the kernel names it.
    pub filesystem: String,
    /// Size.
    pub total_bytes: u64,
    /// Total less free (blocks reserved for root count as free here, as in `df`).
    pub used_bytes: u64,
    /// What an ordinary user can still write.
    pub available_bytes: u64,
    /// Files and folders that there can be; `None` where the file system has no such limit, as btrfs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_inodes: Option<u64>,
    /// Files and folders that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_inodes: Option<u64>,
    /// How many more there can be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_inodes: Option<u64>,
}

/// Traffic of all real block devices together, per second, since the reading before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskIo {
    /// Bytes read per second.
    pub read_bytes_per_sec: u64,
    /// Bytes written per second.
    pub write_bytes_per_sec: u64,
    /// Reads completed per second.
    pub read_ops_per_sec: u64,
    /// Writes completed per second.
    pub write_ops_per_sec: u64,
    /// Share of the time the busiest device was busy, 0 to 100.
    pub utilization_percent: f64,
}

/// What kind of machine this is; seldom changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Host name.
    pub hostname: String,
    /// `PRETTY_NAME` of os-release, or the kernel's name.
    pub os: String,
    /// `ID` of os-release, such as `debian`.
    pub os_id: Option<String>,
    /// Kernel release.
    pub kernel: String,
    /// Machine architecture, such as `x86_64`.
    pub architecture: String,
    /// `/etc/machine-id`.
    pub machine_id: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: Option<String>,
    /// When the kernel started.
    #[serde(serialize_with = "iso8601_option", deserialize_with = "of_iso8601_option")]
    pub boot_time: Option<SystemTime>,
    /// Logical processors.
    pub cores: usize,
}

/// Pressure stall information (`/proc/pressure`, kernel 4.20 and later).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pressure {
    /// Waiting for a processor.
    pub cpu: Option<PressureStats>,
    /// Waiting for memory.
    pub memory: Option<PressureStats>,
    /// Waiting for I/O.
    pub io: Option<PressureStats>,
}

/// Share of the last ten and sixty seconds that tasks stood still, 0 to 100.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PressureStats {
    /// Some task waited, last 10 s.
    pub some_10s_percent: f64,
    /// Some task waited, last 60 s.
    pub some_60s_percent: f64,
    /// All tasks waited, last 10 s; `None` where the kernel has no such line.
    pub full_10s_percent: Option<f64>,
    /// All tasks waited, last 60 s.
    pub full_60s_percent: Option<f64>,
    /// How long some task waited since boot, in seconds: a counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub some_seconds: Option<f64>,
    /// How long all tasks waited since boot, in seconds: a counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_seconds: Option<f64>,
}

/// The agent itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Agent {
    /// Version of this program.
    pub version: &'static str,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Processor time since the reading before, percent of one core; `None` at the first reading.
    pub cpu_percent: Option<f64>,
    /// Processor time since it started.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Voluntary context switches of all its threads: how often it woke up.
    pub wakeups: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Counters of every pipeline node.
    pub nodes: Vec<StageCounts>,
}
