//! Made-up readings, always the same for the same seed, for measuring. Not for a running daemon: it
//! reads nothing of the machine.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{Stream, stream};
use tokio::time::Instant;

use crate::metrics::collect::synthesize;
use crate::model::{
    Agent, Cpu, Disk, DiskIo, Group, Host, Interface, Load, Memory, Mount, Network, Port, Pressure,
    PressureStats, Process, Rng, SystemMetrics,
};
use crate::pipeline::{Source, StageError};

/// How many variants of each group there are. Making a reading is then a few reference counts, so
/// that what is measured is the pipeline; sixteen differ enough that no stage can guess.
const VARIANTS: usize = 16;

/// When the made-up machine took its first reading (2026-01-01, in seconds since 1970).
const BEGAN: u64 = 1_767_225_600;

/// Makes readings of `groups` as fast as they are taken.
#[derive(Debug, Clone)]
pub struct Generator {
    groups: Vec<Group>,
    variants: Vec<SystemMetrics>,
    began: Instant,
    made: u64,
    end: Option<u64>,
}

impl Generator {
    /// Readings of `groups`, with `processes` of them in each; `seed` decides the values.
    pub fn new(groups: &[Group], processes: usize, seed: u64) -> Self {
        let mut chance = Rng(seed ^ 0x9e37_79b9_7f4a_7c15);
        let variants = (0..VARIANTS).map(|_| variant(groups, processes, &mut chance)).collect();
        Self { groups: groups.to_vec(), variants, began: Instant::now(), made: 0, end: None }
    }

    /// The first `end` readings only.
    pub fn take(mut self, end: u64) -> Self {
        self.end = Some(end);
        self
    }

    /// The next reading, made at `now`. Its own clocks go on by a second each, so that the same
    /// readings give the same bytes however fast they are made.
    pub fn next(&mut self, now: Instant) -> Option<SystemMetrics> {
        if self.end == Some(self.made) {
            return None;
        }
        let mut reading = self.variants[self.made as usize % VARIANTS].clone();
        reading.at = SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN + self.made);
        reading.taken = self.began + Duration::from_secs(self.made);
        reading.made = now;
        reading.sequence = self.made;
        self.made += 1;
        Some(reading)
    }
}

impl Source for Generator {
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "generate".to_owned()
    }

    fn detail(&self) -> String {
        let groups: Vec<_> = self.groups.iter().map(|group| group.name()).collect();
        groups.join(", ")
    }

    fn open(&mut self) -> impl Stream<Item = Result<SystemMetrics, StageError>> + Send + '_ {
        stream::iter(std::iter::from_fn(|| self.next(Instant::now()).map(Ok)))
    }
}

fn variant(groups: &[Group], processes: usize, chance: &mut Rng) -> SystemMetrics {
    let mut reading =
        SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), Duration::from_secs(1), 0);
    for group in groups {
        match *group {
            Group::Cpu => reading.cpu = Some(Arc::new(cpu(chance))),
            Group::Memory => reading.memory = Some(Arc::new(memory(chance))),
            Group::Load => reading.load = Some(Arc::new(load(chance))),
            Group::Disk => reading.disk = Some(Arc::new(disk(chance))),
            Group::Network => reading.network = Some(Arc::new(network(chance))),
            Group::Processes => {
                let all = (0..processes).map(|index| process(index, chance)).collect();
                reading.processes = Some(Arc::new(all));
            }
            Group::Ports => reading.ports = Some(Arc::new(ports(chance))),
            Group::Host => reading.host = Some(Arc::new(host())),
            Group::Pressure => reading.pressure = Some(Arc::new(pressure(chance))),
            Group::Agent => reading.agent = Some(Arc::new(agent(chance))),
            own => synthesize(own, chance, &mut reading),
        }
    }
    reading
}

fn cpu(chance: &mut Rng) -> Cpu {
    Cpu {
        usage_percent: chance.percent(),
        cores_usage_percent: (0..4).map(|_| chance.percent()).collect(),
        steal_percent: Some(chance.percent() / 50.0),
        iowait_percent: Some(chance.percent() / 20.0),
        temperature_celsius: None,
        seconds: None,
    }
}

fn memory(chance: &mut Rng) -> Memory {
    let (total_bytes, used_bytes) = (8 << 30, chance.below(8 << 30));
    Memory {
        total_bytes,
        used_bytes,
        available_bytes: total_bytes - used_bytes,
        swap_total_bytes: 2 << 30,
        swap_used_bytes: chance.below(1 << 30),
    }
}

fn load(chance: &mut Rng) -> Load {
    Load {
        one: chance.percent() / 25.0,
        five: chance.percent() / 25.0,
        fifteen: chance.percent() / 25.0,
        uptime_seconds: chance.below(1 << 20),
    }
}

fn disk(chance: &mut Rng) -> Disk {
    let mut mount = |mount_point: &str, device: &str, total_bytes: u64| {
        let used_bytes = chance.below(total_bytes);
        Mount {
            mount_point: mount_point.to_owned(),
            device: device.to_owned(),
            filesystem: "ext4".to_owned(),
            total_bytes,
            used_bytes,
            available_bytes: total_bytes - used_bytes,
            ..Mount::default()
        }
    };
    let mounts = vec![mount("/", "/dev/vda1", 50 << 30), mount("/srv", "/dev/vdb", 200 << 30)];
    let io = DiskIo {
        read_bytes_per_sec: chance.below(100 << 20),
        write_bytes_per_sec: chance.below(100 << 20),
        read_ops_per_sec: chance.below(5_000),
        write_ops_per_sec: chance.below(5_000),
        utilization_percent: chance.percent(),
    };
    Disk { mounts, io: Some(io), devices: Vec::new() }
}

fn network(chance: &mut Rng) -> Network {
    let interface = |name: &str, addresses: &[[u8; 4]], chance: &mut Rng| Interface {
        name: name.to_owned(),
        received_bytes: chance.below(1 << 40),
        sent_bytes: chance.below(1 << 40),
        received_packets: chance.below(1 << 30),
        sent_packets: chance.below(1 << 30),
        receive_errors: 0,
        send_errors: 0,
        addresses: addresses.iter().map(|address| (*address).into()).collect(),
        is_up: true,
        rates: None,
    };
    let interfaces = vec![
        interface("eth0", &[[10, 0, 0, 5]], chance),
        interface("lo", &[[127, 0, 0, 1]], chance),
    ];
    Network { interfaces }
}

fn process(index: usize, chance: &mut Rng) -> Process {
    const NAMES: [&str; 6] = ["postgres", "nginx", "java", "node", "systemd-journal", "sshd"];
    let name = NAMES[chance.below(NAMES.len() as u64) as usize];
    Process {
        pid: 1_000 + index as u32,
        parent: Some(1),
        name: name.to_owned(),
        executable: Some(format!("/usr/bin/{name}")),
        command_line: Some(format!(
            "/usr/bin/{name} --config /etc/{name}.conf -p {}",
            chance.below(65_536)
        )),
        cpu_percent: chance.percent(),
        cpu_seconds: None,
        rss_bytes: chance.below(1 << 30),
        read_bytes: Some(chance.below(1 << 34)),
        written_bytes: Some(chance.below(1 << 34)),
        status: "sleeping",
        started: SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN - chance.below(100_000)),
        uid: 0,
    }
}

fn ports(chance: &mut Rng) -> Vec<Port> {
    [22u16, 80, 443, 5_432]
        .into_iter()
        .map(|port| Port {
            port,
            protocol: "tcp",
            state: "listen",
            pid: Some(1_000 + u32::from(port)),
            process_name: Some("nginx".to_owned()),
            executable: Some("/usr/sbin/nginx".to_owned()),
            is_listening: true,
            connection_count: chance.below(100) as u32,
        })
        .collect()
}

fn host() -> Host {
    Host {
        hostname: "generated".to_owned(),
        os: "Debian GNU/Linux 12 (bookworm)".to_owned(),
        os_id: Some("debian".to_owned()),
        kernel: "6.1.0".to_owned(),
        architecture: "x86_64".to_owned(),
        machine_id: None,
        boot_id: None,
        boot_time: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(BEGAN)),
        cores: 4,
    }
}

fn pressure(chance: &mut Rng) -> Pressure {
    let mut stall = || {
        Some(PressureStats {
            some_10s_percent: chance.percent(),
            some_60s_percent: chance.percent(),
            full_10s_percent: None,
            full_60s_percent: None,
            ..PressureStats::default()
        })
    };
    Pressure { cpu: stall(), memory: stall(), io: stall() }
}

fn agent(chance: &mut Rng) -> Agent {
    Agent {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: chance.below(1 << 20),
        cpu_seconds: chance.percent(),
        rss_bytes: 4 << 20,
        ..Agent::default()
    }
}
