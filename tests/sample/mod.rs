//! Readings like those of a real machine, and readings like those of none, for tests and benches.
#![allow(dead_code)] // each user takes what it needs

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use infiniservice::model::{
    Agent, CollectError, Cpu, Disk, DiskIo, Host, Identity, Interface, InterfaceRates, Load,
    Memory, Mount, Network, Port, Pressure, PressureStats, Process, SystemMetrics,
};
use tokio::time::Instant;

const GIB: u64 = 1 << 30;

/// 2026-07-14T10:00:00.250Z.
pub fn ten_o_clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_784_023_200_250)
}

/// A reading without groups.
pub fn empty() -> SystemMetrics {
    SystemMetrics::empty(ten_o_clock(), Instant::now(), Duration::from_secs(1), 7)
}

/// Every group of a small server, with so many processes and ports.
pub fn server(processes: usize, ports: usize) -> SystemMetrics {
    SystemMetrics {
        identity: Some(Arc::new(identity())),
        tags: Some(Arc::new([("site".to_owned(), "lab-1".to_owned())].into())),
        cpu: Some(Arc::new(cpu(4))),
        memory: Some(Arc::new(memory())),
        load: Some(Arc::new(load())),
        disk: Some(Arc::new(disk())),
        network: Some(Arc::new(network())),
        processes: Some(Arc::new((0..processes).map(process).collect())),
        ports: Some(Arc::new((0..ports).map(port).collect())),
        host: Some(Arc::new(host())),
        pressure: Some(Arc::new(pressure())),
        agent: Some(Arc::new(Agent { version: "0.1.0", rss_bytes: 5 << 20, ..Agent::default() })),
        ..empty()
    }
}

pub fn identity() -> Identity {
    let boot_id = Some("3f6b1a52-0d0c-4a3e-9a5b-6f0f6f3f2b11".into());
    Identity { vm_id: Some("vm-1".into()), host: "web-1".into(), boot_id }
}

pub fn cpu(cores: usize) -> Cpu {
    Cpu {
        usage_percent: 12.345_678,
        cores_usage_percent: (0..cores).map(|core| 10.0 + core as f64 / 3.0).collect(),
        steal_percent: Some(0.1),
        iowait_percent: Some(0.25),
        temperature_celsius: Some(41.5),
        ..Cpu::default()
    }
}

pub fn memory() -> Memory {
    Memory {
        total_bytes: 8 * GIB,
        used_bytes: 3 * GIB + 1_535,
        available_bytes: 5 * GIB - 1_535,
        swap_total_bytes: 2 * GIB,
        swap_used_bytes: 0,
    }
}

pub fn load() -> Load {
    Load { one: 0.1, five: 0.22, fifteen: 0.3, uptime_seconds: 3_600 }
}

pub fn disk() -> Disk {
    let mount = |mount_point: &str, device: &str, total: u64| Mount {
        mount_point: mount_point.into(),
        device: device.into(),
        filesystem: "ext4".into(),
        total_bytes: total,
        used_bytes: total * 2 / 5,
        available_bytes: total / 2,
        ..Mount::default()
    };
    let io = DiskIo {
        read_bytes_per_sec: 0,
        write_bytes_per_sec: 4_096,
        read_ops_per_sec: 0,
        write_ops_per_sec: 1,
        utilization_percent: 0.4,
    };
    let mounts = vec![mount("/", "/dev/vda1", 50 * GIB), mount("/var/lib", "/dev/vdb", 100 * GIB)];
    Disk { mounts, io: Some(io), ..Disk::default() }
}

pub fn network() -> Network {
    let addresses = |list: &[&str]| list.iter().filter_map(|one| one.parse().ok()).collect();
    let eth0 = Interface {
        name: "eth0".into(),
        received_bytes: 123_456_789,
        sent_bytes: 9_876_543,
        received_packets: 123_456,
        sent_packets: 98_765,
        receive_errors: 0,
        send_errors: 0,
        addresses: addresses(&["10.0.0.5", "fe80::5054:ff:fe12:3456"]),
        is_up: true,
        rates: Some(InterfaceRates {
            received_bytes_per_sec: 1_234.5,
            sent_bytes_per_sec: 300.0,
            received_packets_per_sec: 12.0,
            sent_packets_per_sec: 3.25,
        }),
    };
    let lo = Interface {
        name: "lo".into(),
        received_bytes: 1_000,
        sent_bytes: 1_000,
        addresses: addresses(&["127.0.0.1", "::1"]),
        is_up: true,
        ..Interface::default()
    };
    Network { interfaces: vec![eth0, lo] }
}

pub fn process(number: usize) -> Process {
    let names = ["postgres", "nginx", "kworker/0:1-events", "sshd", "systemd-journald"];
    let name = names[number % names.len()];
    let kernel = name.starts_with("kworker");
    Process {
        pid: 800 + number as u32,
        parent: Some(1),
        name: name.into(),
        executable: (!kernel).then(|| format!("/usr/sbin/{name}")),
        command_line: (!kernel).then(|| format!("/usr/sbin/{name} --config /etc/{name}.conf")),
        cpu_percent: 25.0 / (1.0 + number as f64),
        cpu_seconds: None,
        rss_bytes: (120 << 20) / (1 + number as u64),
        read_bytes: (!kernel).then_some(1_048_576),
        written_bytes: (!kernel).then_some(4_096),
        status: "sleeping",
        started: ten_o_clock() - Duration::from_secs(3_000),
        uid: 0,
    }
}

pub fn port(number: usize) -> Port {
    Port {
        port: [22, 80, 443, 5_432, 53][number % 5],
        protocol: if number % 5 == 4 { "udp" } else { "tcp" },
        state: if number.is_multiple_of(2) { "listen" } else { "established" },
        pid: Some(800 + number as u32),
        process_name: Some("nginx".into()),
        executable: Some("/usr/sbin/nginx".into()),
        is_listening: number.is_multiple_of(2),
        connection_count: number as u32,
    }
}

pub fn host() -> Host {
    Host {
        hostname: "web-1".into(),
        os: "Debian GNU/Linux 13 (trixie)".into(),
        os_id: Some("debian".into()),
        kernel: "6.12.38-amd64".into(),
        architecture: "x86_64".into(),
        machine_id: None,
        boot_id: identity().boot_id,
        boot_time: Some(ten_o_clock() - Duration::from_secs(3_600)),
        cores: 4,
    }
}

pub fn pressure() -> Pressure {
    let stall =
        PressureStats { some_10s_percent: 0.5, some_60s_percent: 0.25, ..PressureStats::default() };
    Pressure { cpu: Some(stall.clone()), memory: None, io: Some(stall) }
}

pub fn trouble(what: &str) -> CollectError {
    CollectError { group: infiniservice::model::Group::Disk, what: what.into() }
}
