//! Readings that no machine gives, as strategies. What must hold of them is in `any`.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use infiniservice::model::{
    Cpu, Disk, DiskIo, Interface, InterfaceRates, Load, Memory, Mount, Network, Port, Process,
    SystemMetrics,
};
use proptest::prelude::*;

use super::sample::empty;

pub fn reading() -> impl Strategy<Value = SystemMetrics> {
    use proptest::collection::vec;
    use proptest::option::of;
    let cpu = (number(), vec(number(), 0..4), of(number()));
    let memory = (any::<u64>(), any::<u64>());
    let load = (number(), any::<u64>());
    let port = (any::<u16>(), any::<Option<u32>>(), any::<Option<String>>(), any::<u32>());
    (
        (of(cpu), of(memory), of(load), of(disk())),
        (of(vec(interface(), 0..3)), of(vec(process(), 0..4)), of(vec(port, 0..3))),
    )
        .prop_map(|((cpu, memory, load, disk), (interfaces, processes, ports))| {
            let port = |(port, pid, process_name, connection_count)| Port {
                port,
                protocol: "tcp",
                state: "time_wait",
                pid,
                process_name,
                connection_count,
                ..Port::default()
            };
            SystemMetrics {
                cpu: cpu.map(|(usage_percent, cores_usage_percent, temperature_celsius)| {
                    let steal_percent = None;
                    let iowait_percent = Some(usage_percent);
                    let (usage, cores) = (usage_percent, cores_usage_percent);
                    Arc::new(Cpu {
                        usage_percent: usage,
                        cores_usage_percent: cores,
                        steal_percent,
                        iowait_percent,
                        temperature_celsius,
                        ..Cpu::default()
                    })
                }),
                memory: memory.map(|(total_bytes, used_bytes)| {
                    Arc::new(Memory { total_bytes, used_bytes, ..Memory::default() })
                }),
                load: load.map(|(one, uptime_seconds)| {
                    Arc::new(Load { one, five: -one, fifteen: one / 3.0, uptime_seconds })
                }),
                disk: disk.map(Arc::new),
                network: interfaces.map(|interfaces| Arc::new(Network { interfaces })),
                processes: processes.map(Arc::new),
                ports: ports.map(|ports| Arc::new(ports.into_iter().map(port).collect())),
                ..empty()
            }
        })
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..100.0, any::<f64>()]
}

fn process() -> impl Strategy<Value = Process> {
    let ids = (any::<u32>(), any::<Option<u32>>(), any::<i64>());
    let texts = (any::<String>(), any::<Option<String>>(), any::<Option<String>>());
    let numbers = (number(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>());
    (ids, texts, numbers).prop_map(|((pid, parent, started), texts, numbers)| Process {
        pid,
        parent,
        name: texts.0,
        executable: texts.1,
        command_line: texts.2,
        cpu_percent: numbers.0,
        cpu_seconds: None,
        rss_bytes: numbers.1,
        read_bytes: numbers.2,
        written_bytes: numbers.3,
        status: "running",
        started: match Duration::from_millis(started.unsigned_abs() / 1_000) {
            before if started < 0 => UNIX_EPOCH - before,
            after => UNIX_EPOCH + after,
        },
        uid: 0,
    })
}

fn interface() -> impl Strategy<Value = Interface> {
    let counters = (any::<u64>(), any::<u64>(), any::<u64>());
    let rates = proptest::option::of((number(), number()));
    let addresses = proptest::collection::vec(any::<std::net::IpAddr>(), 0..3);
    (any::<String>(), counters, rates, addresses, any::<bool>()).prop_map(
        |(name, counters, rates, addresses, is_up)| Interface {
            name,
            received_bytes: counters.0,
            sent_packets: counters.1,
            send_errors: counters.2,
            addresses,
            is_up,
            rates: rates.map(|(received, sent)| InterfaceRates {
                received_bytes_per_sec: received,
                sent_packets_per_sec: sent,
                ..InterfaceRates::default()
            }),
            ..Interface::default()
        },
    )
}

fn disk() -> impl Strategy<Value = Disk> {
    let mount = (any::<String>(), any::<String>(), any::<u64>(), any::<u64>());
    let mount = mount.prop_map(|(mount_point, device, total_bytes, used_bytes)| Mount {
        mount_point,
        device,
        total_bytes,
        used_bytes,
        ..Mount::default()
    });
    let io = proptest::option::of((any::<u64>(), number()));
    (proptest::collection::vec(mount, 0..3), io).prop_map(|(mounts, io)| Disk {
        mounts,
        io: io.map(|(read_bytes_per_sec, utilization_percent)| DiskIo {
            read_bytes_per_sec,
            utilization_percent,
            ..DiskIo::default()
        }),
        ..Disk::default()
    })
}
