//! The metrics line as today's Infinibay host reads it, straight from the typed reading.
//!
//! This module does not join, rank or batch. It does not send what that host has no place for:
//! identity, tags, host facts, pressure, the agent's own counters, and the text of troubles.

use std::io::Write;

use super::ascii::Json;
use super::format::Spec;
use super::{MAX_LINE, Refused};
use crate::model::{
    Cpu, Disk, Group, Interface, Iso8601, Load, Memory, Mount, Network, Port, Process,
    SystemMetrics,
};

/// The line of today's host, which has a fixed place for each group and no tags.
pub(super) const FORMAT: Spec = Spec {
    needs: &[Group::Cpu, Group::Memory, Group::Disk, Group::Network],
    carries,
    carries_tags: false,
    joins: true,
    ..Spec::of_everything("infinibay", encode)
};

/// The groups without which the host stores nothing, or a row with holes. Join the cadences
/// for them ([`Join`](crate::metrics::enrich::Join)): a group that is missing all the same is written as zeros and
/// empty lists, since the host refuses a null there, and named in `data.missing`.
pub const NEEDED: [Group; 5] =
    [Group::Cpu, Group::Memory, Group::Load, Group::Disk, Group::Network];

/// Whether the host has a place for the group.
fn carries(group: Group) -> bool {
    NEEDED.contains(&group) || matches!(group, Group::Processes | Group::Ports)
}

/// The host reads this many items of a list and no more.
const MAX_ITEMS: usize = 1000;

/// Kept free at the end of a line for what follows the lists.
const TAIL: usize = 128;

const GIB: f64 = (1_u64 << 30) as f64;

/// Writes one line, with its newline. Pure ASCII, at most [`MAX_LINE`].
///
/// - Numbers the host needs are numbers whatever the reading says: not finite or negative becomes 0,
///   shares stay within 0 to 100, integers within 2^53 - 1.
/// - Floats have one to three decimals.
/// - A process or port that the host's database would refuse (an id outside 1 to 2^31 - 1, port 0, a
///   share that is no number) is left out: one such item costs the host the rest of the line.
/// - Lists end at 1000 items and where the line would grow too long; ports come first,
///   being the shorter. `data.truncated` has how many were cut.
///
/// # Errors
/// `oversize`, when mounts, cores and interfaces alone do not fit. Nothing is written then.
fn encode(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    let limit = start + MAX_LINE - TAIL;
    let mut json = Json(out);
    json.raw("{\"type\":\"metrics\",\"timestamp\":\"").raw(Iso8601::new(reading.at).as_str());
    json.raw("\",\"data\":{\"system\":{\"cpu\":");
    cpu(&mut json, reading.cpu.as_deref());
    json.raw(",\"memory\":");
    memory(&mut json, reading.memory.as_deref());
    json.raw(",\"disk\":");
    disk(&mut json, reading.disk.as_deref());
    json.raw(",\"network\":");
    network(&mut json, reading.network.as_deref());
    load(&mut json, reading.load.as_deref());
    json.raw("}");
    missing(&mut json, reading);
    if json.0.len() > limit {
        out.truncate(start);
        return Err(Refused::Oversize);
    }
    let ports = reading.ports.as_ref();
    let ports = ports.map_or(0, |ports| list(&mut json, ",\"ports\":[", ports, port, limit));
    let processes = reading.processes.as_ref();
    let processes =
        processes.map_or(0, |all| list(&mut json, ",\"processes\":[", all, process, limit));
    if ports + processes > 0 {
        json.raw(",\"truncated\":{\"ports\":").integer(ports);
        json.raw(",\"processes\":").integer(processes).raw("}");
    }
    json.raw("}}\n");
    Ok(())
}

/// Items until the list or the line is full. Gives how many did not fit; one left out because the
/// host would refuse it is not counted.
fn list<T>(
    json: &mut Json<'_>,
    open: &str,
    items: &[T],
    write: fn(&mut Json<'_>, &T) -> bool,
    limit: usize,
) -> u64 {
    json.raw(open);
    let mut written = 0;
    let mut cut = 0;
    for (at, item) in items.iter().enumerate() {
        let before = json.0.len();
        if written > 0 {
            json.raw(",");
        }
        let fit = written < MAX_ITEMS;
        let wanted = write(json, item);
        if wanted && fit && json.0.len() <= limit {
            written += 1;
            continue;
        }
        json.0.truncate(before);
        if wanted {
            cut = items.len() - at;
            break;
        }
    }
    json.raw("]");
    cut as u64
}

fn cpu(json: &mut Json<'_>, cpu: Option<&Cpu>) {
    json.raw("{\"usage_percent\":").decimal(percent(cpu.map_or(0.0, |cpu| cpu.usage_percent)));
    json.raw(",\"cores_usage\":[");
    let cores = cpu.map_or(&[][..], |cpu| &cpu.cores_usage_percent);
    separated(json, cores, |json, share| {
        json.decimal(percent(*share));
    });
    json.raw("],\"temperature\":");
    match cpu.and_then(|cpu| cpu.temperature_celsius) {
        Some(celsius) if celsius.is_finite() => json.decimal(celsius),
        _ => json.raw("null"),
    };
    json.raw("}");
}

fn memory(json: &mut Json<'_>, memory: Option<&Memory>) {
    let kib = |bytes: fn(&Memory) -> u64| memory.map_or(0, bytes) / 1024;
    json.raw("{\"total_kb\":").integer(kib(|memory| memory.total_bytes));
    json.raw(",\"used_kb\":").integer(kib(|memory| memory.used_bytes));
    json.raw(",\"available_kb\":").integer(kib(|memory| memory.available_bytes));
    json.raw(",\"swap_total_kb\":").integer(kib(|memory| memory.swap_total_bytes));
    json.raw(",\"swap_used_kb\":").integer(kib(|memory| memory.swap_used_bytes));
    json.raw("}");
}

fn disk(json: &mut Json<'_>, disk: Option<&Disk>) {
    json.raw("{\"usage_stats\":[");
    separated(json, disk.map_or(&[][..], |disk| &disk.mounts), |json, mount: &Mount| {
        let gib = |bytes: u64| bytes as f64 / GIB;
        json.raw("{\"mount_point\":").text(&mount.mount_point);
        json.raw(",\"total_gb\":").decimal(gib(mount.total_bytes));
        json.raw(",\"used_gb\":").decimal(gib(mount.used_bytes));
        json.raw(",\"available_gb\":").decimal(gib(mount.available_bytes));
        json.raw(",\"filesystem\":").text(&mount.filesystem).raw("}");
    });
    // All zeros while there is no interval yet: the host wants the object.
    let io = disk.and_then(|disk| disk.io.as_ref());
    json.raw("],\"io_stats\":{\"read_bytes_per_sec\":");
    json.integer(io.map_or(0, |io| io.read_bytes_per_sec));
    json.raw(",\"write_bytes_per_sec\":").integer(io.map_or(0, |io| io.write_bytes_per_sec));
    json.raw(",\"read_ops_per_sec\":").integer(io.map_or(0, |io| io.read_ops_per_sec));
    json.raw(",\"write_ops_per_sec\":").integer(io.map_or(0, |io| io.write_ops_per_sec));
    json.raw(",\"io_utilization_percent\":");
    json.decimal(percent(io.map_or(0.0, |io| io.utilization_percent))).raw("}}");
}

fn network(json: &mut Json<'_>, network: Option<&Network>) {
    json.raw("{\"interfaces\":[");
    let interfaces = network.map_or(&[][..], |network| &network.interfaces);
    separated(json, interfaces, |json, interface: &Interface| {
        json.raw("{\"name\":").text(&interface.name);
        json.raw(",\"bytes_received\":").integer(interface.received_bytes);
        json.raw(",\"bytes_sent\":").integer(interface.sent_bytes);
        json.raw(",\"packets_received\":").integer(interface.received_packets);
        json.raw(",\"packets_sent\":").integer(interface.sent_packets);
        json.raw(",\"errors_in\":").integer(interface.receive_errors);
        json.raw(",\"errors_out\":").integer(interface.send_errors);
        json.raw(",\"ip_addresses\":[");
        separated(json, &interface.addresses, |json, address| {
            // Writing into a `Vec` cannot fail, and no address needs an escape.
            let _ = write!(json.0, "\"{address}\"");
        });
        json.raw("],\"is_up\":").boolean(interface.is_up);
        if let Some(rates) = &interface.rates {
            json.raw(",\"bytes_received_per_sec\":")
                .decimal(positive(rates.received_bytes_per_sec));
            json.raw(",\"bytes_sent_per_sec\":").decimal(positive(rates.sent_bytes_per_sec));
            json.raw(",\"packets_received_per_sec\":");
            json.decimal(positive(rates.received_packets_per_sec));
            json.raw(",\"packets_sent_per_sec\":").decimal(positive(rates.sent_packets_per_sec));
        }
        json.raw("}");
    });
    json.raw("]}");
}

/// Uptime and load stand directly in `system`; without a value, no load is sent.
fn load(json: &mut Json<'_>, load: Option<&Load>) {
    json.raw(",\"uptime_seconds\":").integer(load.map_or(0, |load| load.uptime_seconds));
    if let Some(load) = load {
        json.raw(",\"load_average\":{\"load_1min\":").decimal(positive(load.one));
        json.raw(",\"load_5min\":").decimal(positive(load.five));
        json.raw(",\"load_15min\":").decimal(positive(load.fifteen)).raw("}");
    }
}

fn missing(json: &mut Json<'_>, reading: &SystemMetrics) {
    if NEEDED.into_iter().all(|group| reading.has(group)) {
        return;
    }
    let missing: Vec<_> = NEEDED.into_iter().filter(|group| !reading.has(*group)).collect();
    json.raw(",\"missing\":[");
    separated(json, &missing, |json, group| {
        json.text(group.name());
    });
    json.raw("]");
}

fn process(json: &mut Json<'_>, process: &Process) -> bool {
    let share = process.cpu_percent;
    if !is_id(process.pid) || !share.is_finite() || share < 0.0 {
        return false;
    }
    json.raw("{\"pid\":").integer(process.pid.into());
    if let Some(parent) = process.parent.filter(|parent| is_id(*parent)) {
        json.raw(",\"ppid\":").integer(parent.into());
    }
    json.raw(",\"name\":").text(&process.name);
    optional(json, ",\"exe_path\":", process.executable.as_deref());
    optional(json, ",\"cmd_line\":", process.command_line.as_deref());
    json.raw(",\"cpu_percent\":").decimal(share);
    json.raw(",\"memory_kb\":").integer(process.rss_bytes / 1024);
    if let Some(bytes) = process.read_bytes {
        json.raw(",\"disk_read_bytes\":").integer(bytes);
    }
    if let Some(bytes) = process.written_bytes {
        json.raw(",\"disk_write_bytes\":").integer(bytes);
    }
    json.raw(",\"status\":").text(process.status);
    json.raw(",\"start_time\":\"").raw(Iso8601::new(process.started).as_str()).raw("\"}");
    true
}

/// Protocol and state in upper case, as the host's own rules and the guests before this one
/// spell them.
fn port(json: &mut Json<'_>, port: &Port) -> bool {
    if port.port == 0 {
        return false;
    }
    json.raw("{\"port\":").integer(port.port.into()).raw(",\"protocol\":\"");
    upper(json, port.protocol);
    json.raw("\",\"state\":\"");
    upper(json, port.state);
    json.raw("\"");
    if let Some(pid) = port.pid.filter(|pid| is_id(*pid)) {
        json.raw(",\"pid\":").integer(pid.into());
    }
    optional(json, ",\"process_name\":", port.process_name.as_deref());
    optional(json, ",\"exe_path\":", port.executable.as_deref());
    json.raw(",\"is_listening\":").boolean(port.is_listening);
    let connections = port.connection_count.min(i32::MAX as u32);
    json.raw(",\"connection_count\":").integer(connections.into()).raw("}");
    true
}

fn optional(json: &mut Json<'_>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        json.raw(key).text(text);
    }
}

/// At most [`MAX_ITEMS`] items with commas between.
fn separated<T>(json: &mut Json<'_>, items: &[T], mut write: impl FnMut(&mut Json<'_>, &T)) {
    for (at, item) in items.iter().take(MAX_ITEMS).enumerate() {
        if at > 0 {
            json.raw(",");
        }
        write(json, item);
    }
}

/// The word in upper case; only letters, digits and `_` of it.
fn upper(json: &mut Json<'_>, word: &str) {
    let plain = word.bytes().filter(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    json.0.extend(plain.map(|byte| byte.to_ascii_uppercase()));
}

/// The host keeps ids in a signed 32-bit column.
fn is_id(id: u32) -> bool {
    (1..=i32::MAX as u32).contains(&id)
}

/// 0 to 100; 0 when it is not a number.
fn percent(value: f64) -> f64 {
    positive(value).min(100.0)
}

/// 0 when it is negative or not a number.
fn positive(value: f64) -> f64 {
    value.max(0.0) // `max` takes 0 over NaN
}
