//! InfluxDB line protocol: a line for each group, core, mount, interface, process and port.
//!
//! Source: "Line protocol", InfluxDB v2 documentation, *Reference / Syntax*. This module does not
//! speak HTTP, and does not write a reading's command lines, executables or pipeline counters.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hash;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::format::Spec;
use super::rows::{Scalar, rows};
use super::{MAX_LINE, Refused};
use crate::model::{
    Agent, AnyGroup, Cpu, Disk, Host, Interface, Load, Memory, Port, Pressure, Process,
    SystemMetrics,
};

/// Everything that is a number, with the tags that InfluxDB allows.
pub(super) const FORMAT: Spec = Spec { refused_tag, ..Spec::of_everything("influx", encode) };

/// Before each measurement's name.
const PREFIX: &str = "infiniservice_";

/// Writes the lines of one reading, all with the same time in nanoseconds.
///
/// - Tags: `host` and `vm_id` of the identity, then the operator's tags, then what distinguishes the lines of
///   one measurement apart. A tag without value is left out (the protocol has no empty one), and so
///   is an operator's tag with a name that is taken ([`refused_tag`]). The boot id is
///   not a tag: it would begin all series anew at each boot.
/// - A process id is a field: as a tag it would begin a series with each process. Where several processes of one
///   name, or several owners of one port, are in a reading, the tag `instance` (1, 2 … in the order of the reading)
///   distinguishes the second and later ones: lines of the same tags and time would overwrite each other.
/// - Integers end in `i` and stop at 2^63 - 1; a float has the fewest digits that read back as the same number, and
///   one that is not finite is left out, and so is a line without a field.
/// - In tags and names a backslash becomes `/`, since before a comma it could not be told from an
///   escape; control characters become a space everywhere, so a line is always one line.
///
/// # Errors
/// `oversize` when all lines of the reading together are above [`MAX_LINE`]. Nothing is written then.
fn encode(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    let mut common = Vec::with_capacity(128);
    common_tags(&mut common, reading, &[]);
    let mut lines = Lines { out, common, at: nanoseconds(reading.at) };
    let lines = &mut lines;

    reading.cpu.iter().for_each(|cpu| write_cpu(lines, cpu));
    reading.memory.iter().for_each(|memory| write_memory(lines, memory));
    reading.load.iter().for_each(|load| write_load(lines, load));
    reading.disk.iter().for_each(|disk| write_disk(lines, disk));
    let interfaces = reading.network.iter().flat_map(|network| &network.interfaces);
    interfaces.for_each(|interface| write_interface(lines, interface));
    let mut seen = Instances(HashMap::new());
    for process in reading.processes.iter().flat_map(|processes| processes.iter()) {
        write_process(lines, process, seen.next(spelled(&process.name).into_owned()));
    }
    let mut seen = Instances(HashMap::new());
    for port in reading.ports.iter().flat_map(|ports| ports.iter()) {
        write_port(lines, port, seen.next((port.port, port.protocol, port.state)));
    }
    reading.host.iter().for_each(|host| write_host(lines, host));
    reading.pressure.iter().for_each(|pressure| write_pressure(lines, pressure));
    reading.agent.iter().for_each(|agent| write_agent(lines, agent));
    for own in reading.own.iter() {
        write_own(lines, reading, own);
    }
    for (at, trouble) in reading.troubles.iter().enumerate() {
        let line = lines.line("trouble").tag("group", trouble.group.name());
        line.tag_number("index", at as u64).text("what", &trouble.what).end();
    }
    if out.len() - start > MAX_LINE {
        out.truncate(start);
        return Err(Refused::Oversize);
    }
    Ok(())
}

fn write_cpu(lines: &mut Lines<'_>, cpu: &Cpu) {
    let line = lines.line("cpu").float("usage_percent", Some(cpu.usage_percent));
    let line = line.float("steal_percent", cpu.steal_percent);
    let line = line.float("iowait_percent", cpu.iowait_percent);
    let line = line.float("temperature_celsius", cpu.temperature_celsius);
    let states = cpu.seconds.map(|seconds| seconds.states()).into_iter().flatten();
    let line = states.fold(line, |line, (state, seconds)| {
        line.float(&format!("{state}_seconds"), Some(seconds))
    });
    line.end();
    for (core, share) in cpu.cores_usage_percent.iter().enumerate() {
        let line = lines.line("cpu_core").tag_number("core", core as u64);
        line.float("usage_percent", Some(*share)).end();
    }
}

fn write_memory(lines: &mut Lines<'_>, memory: &Memory) {
    let line = lines.line("memory").integer("total_bytes", Some(memory.total_bytes));
    let line = line.integer("used_bytes", Some(memory.used_bytes));
    let line = line.integer("available_bytes", Some(memory.available_bytes));
    let line = line.integer("swap_total_bytes", Some(memory.swap_total_bytes));
    line.integer("swap_used_bytes", Some(memory.swap_used_bytes)).end();
}

fn write_load(lines: &mut Lines<'_>, load: &Load) {
    let line = lines.line("load").float("one", Some(load.one)).float("five", Some(load.five));
    let line = line.float("fifteen", Some(load.fifteen));
    line.integer("uptime_seconds", Some(load.uptime_seconds)).end();
}

fn write_disk(lines: &mut Lines<'_>, disk: &Disk) {
    for mount in &disk.mounts {
        let line = lines.line("mount").tag("mount_point", &mount.mount_point);
        let line = line.tag("device", &mount.device).tag("filesystem", &mount.filesystem);
        let line = line.integer("total_bytes", Some(mount.total_bytes));
        let line = line.integer("used_bytes", Some(mount.used_bytes));
        let line = line.integer("available_bytes", Some(mount.available_bytes));
        let line = line.integer("total_inodes", mount.total_inodes);
        let line = line.integer("used_inodes", mount.used_inodes);
        line.integer("free_inodes", mount.free_inodes).end();
    }
    if let Some(io) = &disk.io {
        let line = lines.line("disk").integer("read_bytes_per_sec", Some(io.read_bytes_per_sec));
        let line = line.integer("write_bytes_per_sec", Some(io.write_bytes_per_sec));
        let line = line.integer("read_ops_per_sec", Some(io.read_ops_per_sec));
        let line = line.integer("write_ops_per_sec", Some(io.write_ops_per_sec));
        line.float("utilization_percent", Some(io.utilization_percent)).end();
    }
    for counters in &disk.devices {
        let line = lines.line("disk_device").tag("device", &counters.device);
        let line = line.integer("read_bytes", Some(counters.read_bytes));
        let line = line.integer("written_bytes", Some(counters.written_bytes));
        let line = line.integer("reads", Some(counters.reads));
        let line = line.integer("writes", Some(counters.writes));
        line.float("busy_seconds", Some(counters.busy_seconds)).end();
    }
}

fn write_interface(lines: &mut Lines<'_>, interface: &Interface) {
    let rates = interface.rates.as_ref();
    let line = lines.line("network").tag("interface", &interface.name);
    let line = line.integer("received_bytes", Some(interface.received_bytes));
    let line = line.integer("sent_bytes", Some(interface.sent_bytes));
    let line = line.integer("received_packets", Some(interface.received_packets));
    let line = line.integer("sent_packets", Some(interface.sent_packets));
    let line = line.integer("receive_errors", Some(interface.receive_errors));
    let line = line.integer("send_errors", Some(interface.send_errors));
    let line = line.boolean("is_up", interface.is_up);
    let line = line.float("received_bytes_per_sec", rates.map(|r| r.received_bytes_per_sec));
    let line = line.float("sent_bytes_per_sec", rates.map(|r| r.sent_bytes_per_sec));
    let line = line.float("received_packets_per_sec", rates.map(|r| r.received_packets_per_sec));
    line.float("sent_packets_per_sec", rates.map(|r| r.sent_packets_per_sec)).end();
}

fn write_process(lines: &mut Lines<'_>, process: &Process, instance: u64) {
    let line = lines.line("process").tag("name", &process.name).instance(instance);
    let line = line.float("cpu_percent", Some(process.cpu_percent));
    let line = line.float("cpu_seconds", process.cpu_seconds);
    let line = line.integer("rss_bytes", Some(process.rss_bytes));
    let line = line.integer("read_bytes", process.read_bytes);
    let line = line.integer("written_bytes", process.written_bytes);
    line.text("status", process.status).integer("pid", Some(process.pid.into())).end();
}

fn write_port(lines: &mut Lines<'_>, port: &Port, instance: u64) {
    let line = lines.line("port").tag_number("port", port.port.into());
    let line = line.tag("protocol", port.protocol).tag("state", port.state).instance(instance);
    let line = line.boolean("is_listening", port.is_listening);
    let line = line.integer("connection_count", Some(port.connection_count.into()));
    let line = line.integer("pid", port.pid.map(u64::from));
    match &port.process_name {
        Some(name) => line.text("process_name", name).end(),
        None => line.end(),
    }
}

/// Counts what has the same tags in one reading.
struct Instances<K>(HashMap<K, u64>);

impl<K: Hash + Eq> Instances<K> {
    /// How many of the same came before.
    fn next(&mut self, key: K) -> u64 {
        let count = self.0.entry(key).or_insert(0);
        *count += 1;
        *count - 1
    }
}

fn write_host(lines: &mut Lines<'_>, host: &Host) {
    let line = lines.line("host").text("hostname", &host.hostname).text("os", &host.os);
    let line = line.text("kernel", &host.kernel).text("architecture", &host.architecture);
    let line = line.text("boot_id", host.boot_id.as_deref().unwrap_or_default());
    line.integer("cores", Some(host.cores as u64)).end();
}

fn write_pressure(lines: &mut Lines<'_>, pressure: &Pressure) {
    let resources = [("cpu", &pressure.cpu), ("memory", &pressure.memory), ("io", &pressure.io)];
    for (resource, stall) in resources {
        let Some(stall) = stall else { continue };
        let line = lines.line("pressure").tag("resource", resource);
        let line = line.float("some_10s_percent", Some(stall.some_10s_percent));
        let line = line.float("some_60s_percent", Some(stall.some_60s_percent));
        let line = line.float("full_10s_percent", stall.full_10s_percent);
        let line = line.float("full_60s_percent", stall.full_60s_percent);
        let line = line.float("some_seconds", stall.some_seconds);
        line.float("full_seconds", stall.full_seconds).end();
    }
}

fn write_agent(lines: &mut Lines<'_>, agent: &Agent) {
    let line = lines.line("agent").text("version", agent.version);
    let line = line.integer("uptime_seconds", Some(agent.uptime_seconds));
    let line = line.float("cpu_percent", agent.cpu_percent);
    let line = line.float("cpu_seconds", Some(agent.cpu_seconds));
    let line = line.integer("rss_bytes", Some(agent.rss_bytes));
    let line = line.integer("wakeups", Some(agent.wakeups));
    line.integer("descriptors", Some(agent.descriptors)).end();
}

/// A group that this format has no words for: its name and those of the lists make the measurement. A tag of the operator
/// that has the name of one of its tags or fields is left out of that line.
fn write_own(lines: &mut Lines<'_>, reading: &SystemMetrics, own: &AnyGroup) {
    let value = own.value();
    let mut seen = Instances(HashMap::new());
    for row in rows(&value) {
        let measurement = [&[own.group().name()], &row.list[..]].concat().join("_");
        let tags = row.tags.iter().map(|(name, _)| name);
        let taken: Vec<&str> =
            tags.chain(row.fields.iter().map(|(name, _)| name)).map(String::as_str).collect();
        let mut common = Vec::new();
        common_tags(&mut common, reading, &taken);
        let mut line = lines.line_with(&field_name(&measurement), &common);
        for (name, value) in &row.tags {
            line = line.tag(name, value);
        }
        line = line.instance(seen.next((measurement, row.tags)));
        for (name, value) in &row.fields {
            let name = field_name(name);
            line = match value {
                Scalar::Whole(value) => line.integer(&name, Some(*value)),
                Scalar::Real(value) => line.float(&name, Some(*value)),
                Scalar::Text(value) => line.text(&name, value),
                Scalar::Bool(value) => line.boolean(&name, *value),
            };
        }
        line.end();
    }
}

/// A field's or measurement's name as it is written.
fn field_name(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    escape(&mut out, spelled(name).bytes(), |byte| matches!(byte, b',' | b' ' | b'='));
    String::from_utf8(out).unwrap_or_default()
}

/// The tags of every line but those with a name in `taken`.
fn common_tags(out: &mut Vec<u8>, reading: &SystemMetrics, taken: &[&str]) {
    if let Some(identity) = &reading.identity {
        tag(out, "host", &identity.host);
        tag(out, "vm_id", identity.vm_id.as_deref().unwrap_or_default());
    }
    for (name, value) in reading.tags.iter().flat_map(|tags| tags.iter()) {
        if refused_tag(name).is_none() && !taken.contains(&name.as_str()) {
            tag(out, name, value);
        }
    }
}

/// Tags that a line gives itself.
const OWN_TAGS: [&str; 15] = [
    "host",
    "vm_id",
    "core",
    "mount_point",
    "device",
    "filesystem",
    "interface",
    "instance",
    "name",
    "port",
    "protocol",
    "state",
    "resource",
    "group",
    "index",
];

/// Fields of any line. A tag of the same name would make queries of either ambiguous.
const FIELDS: [&str; 69] = [
    "available_bytes",
    "architecture",
    "boot_id",
    "busy_seconds",
    "connection_count",
    "cores",
    "cpu_percent",
    "cpu_seconds",
    "descriptors",
    "fifteen",
    "five",
    "free_inodes",
    "full_10s_percent",
    "full_60s_percent",
    "full_seconds",
    "hostname",
    "idle_seconds",
    "iowait_percent",
    "iowait_seconds",
    "irq_seconds",
    "is_listening",
    "is_up",
    "kernel",
    "nice_seconds",
    "one",
    "os",
    "pid",
    "process_name",
    "read_bytes",
    "read_bytes_per_sec",
    "read_ops_per_sec",
    "reads",
    "receive_errors",
    "received_bytes",
    "received_bytes_per_sec",
    "received_packets",
    "received_packets_per_sec",
    "rss_bytes",
    "send_errors",
    "sent_bytes",
    "sent_bytes_per_sec",
    "sent_packets",
    "sent_packets_per_sec",
    "some_10s_percent",
    "softirq_seconds",
    "some_60s_percent",
    "some_seconds",
    "status",
    "steal_percent",
    "steal_seconds",
    "swap_total_bytes",
    "swap_used_bytes",
    "system_seconds",
    "temperature_celsius",
    "total_bytes",
    "total_inodes",
    "uptime_seconds",
    "usage_percent",
    "used_bytes",
    "used_inodes",
    "user_seconds",
    "utilization_percent",
    "version",
    "wakeups",
    "what",
    "write_bytes_per_sec",
    "write_ops_per_sec",
    "writes",
    "written_bytes",
];

/// Why an operator's tag cannot have this name, as the end of a sentence; `None` where it can.
///
/// Names that begin with `_` are InfluxDB's own (`_field`, `_measurement`, `_time`), and `time` is its time column:
/// "Line protocol", InfluxDB v2 documentation, *Naming restrictions*.
fn refused_tag(name: &str) -> Option<&'static str> {
    let name = spelled(name);
    if name.starts_with('_') || name == "time" {
        Some("is reserved by InfluxDB")
    } else if OWN_TAGS.contains(&&*name) {
        Some("is a tag that the lines have themselves")
    } else if FIELDS.contains(&&*name) {
        Some("is a field of the lines")
    } else {
        None
    }
}

/// How a tag of this name is written, but for escapes.
fn spelled(name: &str) -> Cow<'_, str> {
    if !name.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control()) {
        return Cow::Borrowed(name);
    }
    let spell = |c: char| match c {
        '\\' => '/',
        c if c.is_ascii_control() => ' ',
        c => c,
    };
    name.chars().map(spell).collect()
}

/// Where lines are put, and what all of them share.
struct Lines<'a> {
    out: &'a mut Vec<u8>,
    common: Vec<u8>,
    at: i64,
}

impl Lines<'_> {
    fn line(&mut self, measurement: &str) -> Line<'_> {
        let common = std::mem::take(&mut self.common);
        let start = self.begin(measurement, &common);
        self.common = common;
        Line { out: self.out, at: self.at, start, fields: 0 }
    }

    /// A line with other common tags.
    fn line_with(&mut self, measurement: &str, common: &[u8]) -> Line<'_> {
        let start = self.begin(measurement, common);
        Line { out: self.out, at: self.at, start, fields: 0 }
    }

    fn begin(&mut self, measurement: &str, common: &[u8]) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(PREFIX.as_bytes());
        self.out.extend_from_slice(measurement.as_bytes());
        self.out.extend_from_slice(common);
        start
    }
}

/// One line being written: first its tags, then its fields.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    at: i64,
    start: usize,
    fields: usize,
}

impl Line<'_> {
    fn tag(self, name: &str, value: &str) -> Self {
        tag(self.out, name, value);
        self
    }

    fn tag_number(self, name: &str, value: u64) -> Self {
        number(self.out, format_args!(",{name}={value}"));
        self
    }

    fn instance(self, instance: u64) -> Self {
        if instance == 0 { self } else { self.tag_number("instance", instance) }
    }

    fn float(self, name: &str, value: Option<f64>) -> Self {
        match value {
            Some(value) if !value.is_finite() => self,
            // Without an exponent these are up to 300 zeros.
            Some(value) if value != 0.0 && !(1e-5..1e16).contains(&value.abs()) => {
                self.field(name, format_args!("{value:e}"))
            }
            Some(value) => self.field(name, format_args!("{value}")),
            None => self,
        }
    }

    fn integer(self, name: &str, value: Option<u64>) -> Self {
        match value {
            Some(value) => self.field(name, format_args!("{}i", value.min(i64::MAX as u64))),
            None => self,
        }
    }

    fn boolean(self, name: &str, value: bool) -> Self {
        self.field(name, format_args!("{value}"))
    }

    fn text(self, name: &str, value: &str) -> Self {
        let line = self.field(name, format_args!("\""));
        escape(line.out, value.bytes(), |byte| matches!(byte, b'"' | b'\\'));
        line.out.push(b'"');
        line
    }

    fn field(mut self, name: &str, value: std::fmt::Arguments<'_>) -> Self {
        self.out.push(if self.fields == 0 { b' ' } else { b',' });
        self.fields += 1;
        number(self.out, format_args!("{name}={value}"));
        self
    }

    fn end(self) {
        if self.fields == 0 {
            self.out.truncate(self.start);
        } else {
            let at = self.at;
            number(self.out, format_args!(" {at}\n"));
        }
    }
}

fn tag(out: &mut Vec<u8>, name: &str, value: &str) {
    let special = |byte| matches!(byte, b',' | b' ' | b'=');
    let slash = |byte| if byte == b'\\' { b'/' } else { byte };
    let start = out.len();
    out.push(b',');
    let before = out.len();
    escape(out, name.bytes().map(slash), special);
    let named = out.len() > before;
    out.push(b'=');
    let before = out.len();
    escape(out, value.bytes().map(slash), special);
    if !named || out.len() == before {
        out.truncate(start);
    }
}

/// `text` with a backslash before each special byte, and a space for each control character.
fn escape(out: &mut Vec<u8>, text: impl Iterator<Item = u8>, special: impl Fn(u8) -> bool) {
    for byte in text {
        let byte = if byte.is_ascii_control() { b' ' } else { byte };
        if special(byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

fn number(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing into a `Vec` cannot fail.
    let _ = out.write_fmt(text);
}

/// Nanoseconds since 1970, as far as the protocol can count (1677 to 2262).
fn nanoseconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanos| -nanos),
    }
}
