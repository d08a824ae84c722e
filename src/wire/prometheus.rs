//! Prometheus text (exposition format 0.0.4): every value of a reading as a metric, with a last line `# EOF`, so that a
//! reader knows where a reading ends.
//!
//! Names and labels are those of OpenTelemetry's semantic conventions for hosts and processes (`system.cpu.time`), as its
//! Prometheus compatibility rules spell them (`system_cpu_time_seconds_total`). What those do not know (load averages,
//! pressure, stages of the agent) is named alike. Processes and ports have no metrics: each would be a series.

use std::collections::BTreeMap;
use std::io::Write;

use super::format::Spec;
use super::{MAX_LINE, Refused};
use crate::model::{
    Agent, Cpu, Disk, Group, Load, Memory, Network, Pressure, PressureStats, SystemMetrics,
};

/// The format.
pub(super) const FORMAT: Spec = Spec { carries, joins: true, ..Spec::of_everything("prometheus", encode) };

/// The last line of a reading.
pub const END: &str = "# EOF\n";

/// The labels of a sample; one without a name is none.
type Labels<'a> = [(&'a str, &'a str); 3];
const NONE: (&str, &str) = ("", "");

/// Whether `group` has metrics.
fn carries(group: Group) -> bool {
    [
        Group::Cpu,
        Group::Load,
        Group::Memory,
        Group::Disk,
        Group::Network,
        Group::Pressure,
        Group::Agent,
    ]
    .contains(&group)
}

/// Writes one reading.
///
/// # Errors
/// `oversize` where all of it is above [`MAX_LINE`]. Nothing is written then.
fn encode(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    write_target(reading, out);
    reading.cpu.iter().for_each(|cpu| write_cpu(cpu, out));
    reading.load.iter().for_each(|load| write_load(load, out));
    reading.memory.iter().for_each(|memory| write_memory(memory, out));
    reading.disk.iter().for_each(|disk| write_disk(disk, out));
    reading.network.iter().for_each(|network| write_network(network, out));
    reading.pressure.iter().for_each(|pressure| write_pressure(pressure, out));
    reading.agent.iter().for_each(|agent| write_agent(agent, out));
    out.extend_from_slice(END.as_bytes());
    if out.len() - start > MAX_LINE {
        out.truncate(start);
        return Err(Refused::Oversize);
    }
    Ok(())
}

fn write_target(reading: &SystemMetrics, out: &mut Vec<u8>) {
    let identity = reading.identity.as_deref();
    let mut labels: Vec<(String, &str)> = Vec::new();
    if let Some(identity) = identity {
        labels.push(("host_name".to_owned(), &identity.host));
        labels.extend(identity.vm_id.iter().map(|id| ("host_id".to_owned(), id.as_str())));
    }
    for (name, value) in reading.tags.iter().flat_map(|tags| tags.iter()) {
        let name = label(name);
        if labels.iter().all(|(known, _)| *known != name) {
            labels.push((name, value));
        }
    }
    if labels.is_empty() {
        return;
    }
    let help = "What speaks: the machine, and the operator's tags";
    out.extend_from_slice(header("target_info", "gauge", help).as_bytes());
    out.extend_from_slice(b"target_info");
    write_labels(out, &mut labels.iter().map(|(name, value)| (name.as_str(), *value)));
    out.extend_from_slice(b" 1\n");
}

fn write_cpu(cpu: &Cpu, out: &mut Vec<u8>) {
    let states = cpu.seconds.map(|seconds| seconds.states()).into_iter().flatten();
    let states = states.map(|(state, seconds)| {
        let mode = if state == "irq" { "interrupt" } else { state };
        ([("cpu_mode", mode), NONE, NONE], seconds)
    });
    let help = "Processor time since boot by mode, all cores together";
    family(out, "system_cpu_time_seconds_total", "counter", help, &mut { states });
    let help = "Share of all cores in use since the reading before, 0 to 1";
    gauge(out, "system_cpu_utilization_ratio", help, cpu.usage_percent / 100.0);
}

fn write_load(load: &Load, out: &mut Vec<u8>) {
    gauge(out, "system_cpu_load_average_1m", "Load average over one minute", load.one);
    gauge(out, "system_cpu_load_average_5m", "Load average over five minutes", load.five);
    gauge(out, "system_cpu_load_average_15m", "Load average over fifteen minutes", load.fifteen);
    gauge(out, "system_uptime_seconds", "Time since boot", load.uptime_seconds as f64);
}

fn write_memory(memory: &Memory, out: &mut Vec<u8>) {
    let free = memory.total_bytes.saturating_sub(memory.used_bytes);
    let state = |state, bytes: u64| ([("system_memory_state", state), NONE, NONE], bytes as f64);
    let states = [state("used", memory.used_bytes), state("free", free)];
    let help = "Memory by state; free is what could be given to a new program";
    family(out, "system_memory_usage_bytes", "gauge", help, &mut states.into_iter());
    gauge(
        out,
        "system_memory_limit_bytes",
        "All memory that the kernel manages",
        memory.total_bytes as f64,
    );
    let free = memory.swap_total_bytes.saturating_sub(memory.swap_used_bytes);
    let state = |state, bytes: u64| ([("system_paging_state", state), NONE, NONE], bytes as f64);
    let states = [state("used", memory.swap_used_bytes), state("free", free)];
    family(
        out,
        "system_paging_usage_bytes",
        "gauge",
        "Swap space by state",
        &mut states.into_iter(),
    );
}

fn write_disk(disk: &Disk, out: &mut Vec<u8>) {
    let usage = disk.mounts.iter().flat_map(|mount| {
        let reserved = mount.total_bytes.saturating_sub(mount.used_bytes + mount.available_bytes);
        let states =
            [("used", mount.used_bytes), ("free", mount.available_bytes), ("reserved", reserved)];
        states.map(|(state, bytes)| {
            let labels = [
                ("system_filesystem_mountpoint", mount.mount_point.as_str()),
                ("system_filesystem_type", mount.filesystem.as_str()),
                ("system_filesystem_state", state),
            ];
            (labels, bytes as f64)
        })
    });
    let help = "Space of a file system by state";
    family(out, "system_filesystem_usage_bytes", "gauge", help, &mut { usage });
    let sizes = disk.mounts.iter().map(|mount| {
        let labels = [
            ("system_filesystem_mountpoint", mount.mount_point.as_str()),
            ("system_filesystem_type", mount.filesystem.as_str()),
            NONE,
        ];
        (labels, mount.total_bytes as f64)
    });
    family(out, "system_filesystem_limit_bytes", "gauge", "Size of a file system", &mut { sizes });
    type Count = fn(&crate::model::DiskCounters) -> [u64; 2];
    let families: [(&str, &str, Count); 2] = [
        (
            "system_disk_io_bytes_total",
            "Bytes of a block device since boot by direction",
            |device| [device.read_bytes, device.written_bytes],
        ),
        (
            "system_disk_operations_total",
            "Completed operations of a block device since boot by direction",
            |device| [device.reads, device.writes],
        ),
    ];
    for (name, help, counts) in families {
        let samples = disk.devices.iter().flat_map(|device| {
            let [read, write] = counts(device);
            [("read", read), ("write", write)].map(|(direction, count)| {
                let labels = [
                    ("system_device", device.device.as_str()),
                    ("disk_io_direction", direction),
                    NONE,
                ];
                (labels, count as f64)
            })
        });
        family(out, name, "counter", help, &mut { samples });
    }
    let busy = disk.devices.iter().map(|device| {
        ([("system_device", device.device.as_str()), NONE, NONE], device.busy_seconds)
    });
    let help = "Time in which a block device was busy since boot";
    family(out, "system_disk_io_time_seconds_total", "counter", help, &mut { busy });
}

fn write_network(network: &Network, out: &mut Vec<u8>) {
    type Count = fn(&crate::model::Interface) -> [u64; 2];
    let families: [(&str, &str, Count); 3] = [
        ("system_network_io_bytes_total", "Bytes of an interface by direction", |one| {
            [one.received_bytes, one.sent_bytes]
        }),
        ("system_network_packets_total", "Packets of an interface by direction", |one| {
            [one.received_packets, one.sent_packets]
        }),
        ("system_network_errors_total", "Errors of an interface by direction", |one| {
            [one.receive_errors, one.send_errors]
        }),
    ];
    for (name, help, counts) in families {
        let samples = network.interfaces.iter().flat_map(|interface| {
            let [receive, transmit] = counts(interface);
            [("receive", receive), ("transmit", transmit)].map(|(direction, count)| {
                let labels = [
                    ("network_interface_name", interface.name.as_str()),
                    ("network_io_direction", direction),
                    NONE,
                ];
                (labels, count as f64)
            })
        });
        family(out, name, "counter", help, &mut { samples });
    }
}

fn write_pressure(pressure: &Pressure, out: &mut Vec<u8>) {
    let resources = [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("io", &pressure.io)];
    let samples = resources.into_iter().flat_map(|(resource, stats)| {
        let of = |part: fn(&PressureStats) -> Option<f64>| stats.as_ref().and_then(part);
        let waits = [("some", of(|one| one.some_seconds)), ("full", of(|one| one.full_seconds))];
        waits.into_iter().filter_map(move |(tasks, seconds)| {
            Some(([("resource", resource), ("tasks", tasks), NONE], seconds?))
        })
    });
    let help = "Time since boot in which some or all tasks waited for a resource";
    family(out, "system_linux_pressure_stall_time_seconds_total", "counter", help, &mut {
        samples
    });
}

fn write_agent(agent: &Agent, out: &mut Vec<u8>) {
    let none = [NONE, NONE, NONE];
    let one = |value: f64| [(none, value)].into_iter();
    let help = "Processor time of the agent";
    family(out, "process_cpu_time_seconds_total", "counter", help, &mut one(agent.cpu_seconds));
    gauge(
        out,
        "process_memory_usage_bytes",
        "Resident memory of the agent",
        agent.rss_bytes as f64,
    );
    gauge(
        out,
        "process_uptime_seconds",
        "Time since the agent started",
        agent.uptime_seconds as f64,
    );
    let help = "How often the agent woke up";
    family(out, "process_context_switches_total", "counter", help, &mut one(agent.wakeups as f64));
    // Several stages may have one name, and a series must come once.
    let (mut received, mut sent) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    let mut dropped = BTreeMap::<(&str, &str), u64>::new();
    for node in &agent.nodes {
        *received.entry(&node.node).or_default() += node.received;
        *sent.entry(&node.node).or_default() += node.sent;
        for (reason, count) in &node.dropped {
            *dropped.entry((&node.node, reason)).or_default() += count;
        }
    }
    let help = "Items that a stage took in";
    family(out, "infiniservice_stage_received_total", "counter", help, &mut by_stage(&received));
    let help = "Items that a stage handed on";
    family(out, "infiniservice_stage_sent_total", "counter", help, &mut by_stage(&sent));
    let dropped = dropped.into_iter().map(|((stage, reason), count)| {
        ([("stage", stage), ("reason", reason), NONE], count as f64)
    });
    let help = "Items that a stage dropped by reason";
    family(out, "infiniservice_stage_dropped_total", "counter", help, &mut { dropped });
}

fn by_stage<'a>(counts: &BTreeMap<&'a str, u64>) -> impl Iterator<Item = (Labels<'a>, f64)> {
    counts.iter().map(|(stage, count)| ([("stage", *stage), NONE, NONE], *count as f64))
}

fn gauge(out: &mut Vec<u8>, name: &str, help: &str, value: f64) {
    family(out, name, "gauge", help, &mut [([NONE, NONE, NONE], value)].into_iter());
}

/// A family, where it has a sample.
fn family(
    out: &mut Vec<u8>,
    name: &str,
    kind: &str,
    help: &str,
    samples: &mut dyn Iterator<Item = (Labels<'_>, f64)>,
) {
    let mut has_header = false;
    for (labels, value) in samples.filter(|(_, value)| value.is_finite()) {
        if !std::mem::replace(&mut has_header, true) {
            out.extend_from_slice(header(name, kind, help).as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        let mut named = labels.into_iter().filter(|(name, _)| !name.is_empty());
        write_labels(out, &mut named);
        // Writing to memory cannot fail.
        let _ = writeln!(out, " {value}");
    }
}

/// The lines in front of the samples of a family.
pub(crate) fn header(name: &str, kind: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

/// A label with its value.
pub(crate) fn pair(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

fn write_labels<'a>(out: &mut Vec<u8>, labels: &mut dyn Iterator<Item = (&'a str, &'a str)>) {
    let mut has_any = false;
    for (name, value) in labels {
        let before = if std::mem::replace(&mut has_any, true) { ',' } else { '{' };
        let _ = write!(out, "{before}{}", pair(name, value));
    }
    if has_any {
        out.push(b'}');
    }
}

/// A name as labels may have it: letters, digits and `_`, no digit first.
fn label(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = name.chars().map(plain).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        true => format!("_{name}"),
        // Two underscores in front are Prometheus's own.
        false => format!("{}{name}", if name.starts_with("__") { "tag" } else { "" }),
    }
}
