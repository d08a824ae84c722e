//! What of guests' lines goes into the messages of OTLP: readings become metrics, everything else log records, each guest a
//! resource of its own. Sends nothing.
//!
//! Names are those of OpenTelemetry's semantic conventions for hosts, as in the [Prometheus output](crate::wire); what these do not
//! know (load averages) is named as the Collector's host receiver does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tokio::time::Instant;

use crate::model::SystemMetrics;
use crate::relay::fair_queue::GuestLine;
use crate::relay::fleet::{Guest, LineKind};
use crate::relay::metrics;
use crate::wire::raw::Raw;

/// A message that can be sent.
pub(super) struct Message {
    /// In protobuf.
    pub bytes: Vec<u8>,
    /// Its log records or data points.
    pub items: u64,
    /// A guest for each reading that cannot be read, and is not in it.
    pub unreadable: Vec<Arc<Guest>>,
}

/// The readings among `lines`, as metrics.
pub(super) fn metrics(site: &str, lines: &[GuestLine]) -> Message {
    let (mut items, mut unreadable, mut resource_metrics) = (0, Vec::new(), Vec::new());
    let readings = lines.iter().filter(|line| line.kind == LineKind::Metrics);
    for (guest, lines) in by_guest(readings) {
        let mut points = Points::default();
        for line in lines {
            match metrics::reading(&line.bytes, Instant::now()) {
                Some(reading) => points.read(&reading, line.at),
                None => unreadable.push(Arc::clone(guest)),
            }
        }
        items += points.count();
        let metrics = points.metrics();
        resource_metrics.push(ResourceMetrics {
            resource: Some(resource(site, guest)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics,
                ..Default::default()
            }],
            ..Default::default()
        });
    }
    let bytes = ExportMetricsServiceRequest { resource_metrics }.encode_to_vec();
    Message { bytes, items, unreadable }
}

/// The other lines, as log records whose body is the line.
pub(super) fn logs(site: &str, lines: &[GuestLine]) -> Message {
    let (mut items, mut resource_logs) = (0, Vec::new());
    let others = lines.iter().filter(|line| line.kind != LineKind::Metrics);
    for (guest, lines) in by_guest(others) {
        items += lines.len() as u64;
        resource_logs.push(ResourceLogs {
            resource: Some(resource(site, guest)),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope()),
                log_records: lines.into_iter().map(record).collect(),
                ..Default::default()
            }],
            ..Default::default()
        });
    }
    let bytes = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    Message { bytes, items, unreadable: Vec::new() }
}

/// The lines of each guest, in their order.
fn by_guest<'a>(
    lines: impl Iterator<Item = &'a GuestLine>,
) -> Vec<(&'a Arc<Guest>, Vec<&'a GuestLine>)> {
    let mut guests = BTreeMap::<u64, (&Arc<Guest>, Vec<&GuestLine>)>::new();
    for line in lines {
        guests.entry(line.guest.id).or_insert_with(|| (&line.guest, Vec::new())).1.push(line);
    }
    guests.into_values().collect()
}

/// Who speaks. The relay knows a guest by its name at a site, whatever the guest says of itself.
fn resource(site: &str, guest: &Guest) -> Resource {
    let mut attributes = vec![
        attribute("host.id", &format!("{site}/{}", guest.vm)),
        attribute("host.name", &guest.vm),
        attribute("vm.id", &guest.vm),
        attribute("site", site),
        attribute("service.name", "infiniservice"),
    ];
    attributes.extend(guest.version().map(|version| attribute("service.version", &version)));
    Resource { attributes, ..Default::default() }
}

fn scope() -> InstrumentationScope {
    let (name, version) = ("infiniservice-host", env!("CARGO_PKG_VERSION"));
    InstrumentationScope { name: name.into(), version: version.into(), ..Default::default() }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: Some(text(value)), ..Default::default() }
}

fn text(value: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value.into())) }
}

fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A line as a record. Its time is when it came: what a guest says of its own clock is in the line.
fn record(line: &GuestLine) -> LogRecord {
    let body = String::from_utf8_lossy(&line.bytes);
    let severity = Raw::parse(&body).ok().and_then(|line| {
        let [severity] = line.fields(["severity"]).ok()?;
        severity?.text().map(|severity| severity.to_ascii_lowercase())
    });
    let number = match severity.as_deref() {
        Some("debug") => SeverityNumber::Debug,
        Some("info") => SeverityNumber::Info,
        Some("warn") => SeverityNumber::Warn,
        Some("error") => SeverityNumber::Error,
        _ => SeverityNumber::Unspecified,
    };
    let is_known = number != SeverityNumber::Unspecified;
    LogRecord {
        time_unix_nano: nanoseconds(line.at),
        observed_time_unix_nano: nanoseconds(line.at),
        severity_number: number.into(),
        severity_text: severity.filter(|_| is_known).unwrap_or_default(),
        body: Some(text(&body)),
        attributes: vec![
            attribute("infiniservice.kind", line.kind.word()),
            attribute("log.record.uid", &line.id.to_string()),
        ],
        ..Default::default()
    }
}

/// What a metric is.
#[derive(Clone, Copy)]
enum MetricKind {
    /// A value that is not added up.
    Gauge,
    /// One that is, and may fall.
    Sum,
    /// One that only grows until the machine starts anew.
    Counter,
}

/// The data points of the readings of one guest, by metric.
#[derive(Default)]
struct Points(BTreeMap<&'static str, (&'static str, MetricKind, Vec<NumberDataPoint>)>);

impl Points {
    fn read(&mut self, reading: &SystemMetrics, at: SystemTime) {
        let at = nanoseconds(at);
        let uptime = reading.load.as_ref().map_or(0, |load| load.uptime_seconds);
        // Counters begin when the machine does; 0 where that is not known.
        let since = match uptime {
            0 => 0,
            seconds => at.saturating_sub(seconds.saturating_mul(1_000_000_000)),
        };
        let mut add = |name, unit, is, value: f64, labels: &[(&str, &str)]| {
            if value.is_finite() {
                let attributes = labels.iter().map(|(key, value)| attribute(key, value)).collect();
                let point = NumberDataPoint {
                    attributes,
                    start_time_unix_nano: if matches!(is, MetricKind::Counter) { since } else { 0 },
                    time_unix_nano: at,
                    value: Some(number_data_point::Value::AsDouble(value)),
                    ..Default::default()
                };
                let metric = self.0.entry(name).or_insert_with(|| (unit, is, Vec::new()));
                metric.2.push(point);
            }
        };
        if let Some(cpu) = &reading.cpu {
            add("system.cpu.utilization", "1", MetricKind::Gauge, cpu.usage_percent / 100.0, &[]);
        }
        if let Some(load) = &reading.load {
            for (name, value) in [
                ("system.cpu.load_average.1m", load.one),
                ("system.cpu.load_average.5m", load.five),
                ("system.cpu.load_average.15m", load.fifteen),
            ] {
                add(name, "{thread}", MetricKind::Gauge, value, &[]);
            }
            add("system.uptime", "s", MetricKind::Gauge, load.uptime_seconds as f64, &[]);
        }
        if let Some(memory) = &reading.memory {
            let free = memory.total_bytes.saturating_sub(memory.used_bytes);
            for (state, bytes) in [("used", memory.used_bytes), ("free", free)] {
                let state = [("system.memory.state", state)];
                add("system.memory.usage", "By", MetricKind::Sum, bytes as f64, &state);
            }
            add("system.memory.limit", "By", MetricKind::Sum, memory.total_bytes as f64, &[]);
            let free = memory.swap_total_bytes.saturating_sub(memory.swap_used_bytes);
            for (state, bytes) in [("used", memory.swap_used_bytes), ("free", free)] {
                let state = [("system.paging.state", state)];
                add("system.paging.usage", "By", MetricKind::Sum, bytes as f64, &state);
            }
        }
        for mount in reading.disk.iter().flat_map(|disk| &disk.mounts) {
            let [place, kind] = [
                ("system.filesystem.mountpoint", &*mount.mount_point),
                ("system.filesystem.type", &*mount.filesystem),
            ];
            let taken = mount.used_bytes.saturating_add(mount.available_bytes);
            for (state, bytes) in [
                ("used", mount.used_bytes),
                ("free", mount.available_bytes),
                ("reserved", mount.total_bytes.saturating_sub(taken)),
            ] {
                let labels = [place, kind, ("system.filesystem.state", state)];
                add("system.filesystem.usage", "By", MetricKind::Sum, bytes as f64, &labels);
            }
            let limit = mount.total_bytes as f64;
            add("system.filesystem.limit", "By", MetricKind::Sum, limit, &[place, kind]);
        }
        for one in reading.network.iter().flat_map(|network| &network.interfaces) {
            for (name, unit, counts) in [
                ("system.network.io", "By", [one.received_bytes, one.sent_bytes]),
                ("system.network.packets", "{packet}", [one.received_packets, one.sent_packets]),
                ("system.network.errors", "{error}", [one.receive_errors, one.send_errors]),
            ] {
                for (direction, count) in ["receive", "transmit"].into_iter().zip(counts) {
                    let interface = ("network.interface.name", &*one.name);
                    let labels = [interface, ("network.io.direction", direction)];
                    add(name, unit, MetricKind::Counter, count as f64, &labels);
                }
            }
        }
    }

    fn count(&self) -> u64 {
        self.0.values().map(|(_, _, points)| points.len() as u64).sum()
    }

    fn metrics(self) -> Vec<Metric> {
        let metric = |(name, (unit, is, data_points)): (&str, (&str, MetricKind, _))| {
            let sum = |is_monotonic, data_points| {
                let aggregation_temporality = AggregationTemporality::Cumulative.into();
                metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic })
            };
            let data = match is {
                MetricKind::Sum => sum(false, data_points),
                MetricKind::Counter => sum(true, data_points),
                MetricKind::Gauge => metric::Data::Gauge(Gauge { data_points }),
            };
            let (name, unit) = (name.to_owned(), unit.to_owned());
            Metric { name, unit, data: Some(data), ..Default::default() }
        };
        self.0.into_iter().map(metric).collect()
    }
}
