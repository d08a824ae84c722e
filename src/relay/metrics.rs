//! What Prometheus reads of a relay: the newest reading of each guest under the names of a guest's own output, with the labels
//! `site` and `vm`, and what is counted of each guest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::FutureExt;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::fleet::{Count, Fleet, Guest};
use crate::model::{Cpu, Disk, Interface, Load, Memory, Mount, Network, SystemMetrics};
use crate::sinks::{Listen, PrometheusServer};
use crate::tasks::spawn_blocking;
use crate::wire::prometheus::{header, pair};
use crate::wire::{Format, PROMETHEUS_END};

/// How long a page is served again, so that several scrapers cost one.
const PAGE_AGE_MAX: Duration = Duration::from_millis(500);

/// Serves the metrics of all guests until the returned value is dropped.
///
/// # Errors
/// It cannot listen there.
pub(super) async fn serve(fleet: &Arc<Fleet>, at: &Listen) -> io::Result<PrometheusServer> {
    let (fleet, newest) = (Arc::clone(fleet), Arc::new(Mutex::new(None::<(Instant, Bytes)>)));
    let body = move || {
        let (fleet, newest) = (Arc::clone(&fleet), Arc::clone(&newest));
        async move {
            let mut newest = newest.lock().await;
            match &*newest {
                Some((at, page)) if at.elapsed() < PAGE_AGE_MAX => page.clone(),
                _ => {
                    // A thousand guests are some megabytes.
                    let page = spawn_blocking(move || render(&fleet)).await;
                    let page = Bytes::from(page.unwrap_or_default());
                    *newest = Some((Instant::now(), page.clone()));
                    page
                }
            }
        }
        .boxed()
    };
    PrometheusServer::start(at.clone(), Arc::new(body)).await
}

/// Keeps a reading, or counts that it cannot be read.
pub(super) fn keep(fleet: &Fleet, guest: &Guest, reading: Option<&SystemMetrics>) {
    let now = Instant::now();
    let mut text = Vec::new();
    let encoded =
        reading.is_some_and(|reading| Format::Prometheus.encode(reading, &mut text).is_ok());
    match std::str::from_utf8(&text) {
        Ok(text) if encoded => {
            let labels = labels(&fleet.site, &guest.vm);
            let (text, left_out) = labelled(text, &labels, fleet.settings.series.items());
            guest.add(Count::Series, left_out);
            guest.read(now, text.into());
        }
        _ => guest.count(Count::Unreadable),
    }
}

/// `site="…",vm="…"`.
fn labels(site: &str, vm: &str) -> String {
    format!("{},{}", pair("site", site), pair("vm", vm))
}

/// `text` of a guest's own output with `labels` in each sample, at most `series` of them, each once; and how many were left
/// out.
fn labelled(text: &str, labels: &str, series: usize) -> (String, u64) {
    let (mut out, mut seen, mut left_out) =
        (String::with_capacity(2 * text.len()), BTreeSet::new(), 0);
    let end = PROMETHEUS_END.trim_end();
    for line in text.lines().filter(|line| *line != end) {
        if line.starts_with('#') {
            let _ = writeln!(out, "{line}"); // a text can be written to
            continue;
        }
        // The value is behind the last space; a label may hold others.
        let Some((name, _)) = line.rsplit_once(' ') else { continue };
        if seen.len() == series || !seen.insert(name) {
            left_out += 1;
            continue;
        }
        let at = line.find(['{', ' ']).unwrap_or(line.len());
        let (name, rest) = line.split_at(at);
        let _ = match rest.strip_prefix('{') {
            Some(rest) => writeln!(out, "{name}{{{labels},{rest}"),
            None => writeln!(out, "{name}{{{labels}}}{rest}"),
        };
    }
    (out, left_out)
}

/// Everything that is served: families in the order of their names, each with its samples of all guests.
pub(super) fn render(fleet: &Fleet) -> String {
    let now = Instant::now();
    let guests: Vec<_> = fleet
        .guests()
        .into_iter()
        .map(|guest| {
            let snapshot = guest.snapshot(now, &fleet.settings);
            (labels(&fleet.site, &guest.vm), guest, snapshot)
        })
        .collect();
    // By name: kind, help and samples.
    let mut families = BTreeMap::<&str, [String; 3]>::new();
    for text in guests.iter().filter_map(|(_, _, snapshot)| snapshot.reading.as_deref()) {
        let mut name = "";
        for line in text.lines() {
            if let Some((of, help)) =
                line.strip_prefix("# HELP ").and_then(|head| head.split_once(' '))
            {
                name = of;
                families.entry(name).or_default()[1] = help.to_owned();
            } else if let Some((_, kind)) =
                line.strip_prefix("# TYPE ").and_then(|head| head.split_once(' '))
            {
                families.entry(name).or_default()[0] = kind.to_owned();
            } else {
                let samples = &mut families.entry(name).or_default()[2];
                samples.push_str(line);
                samples.push('\n');
            }
        }
    }
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &str| {
        if !samples.is_empty() {
            out.push_str(&header(name, kind, help));
            out.push_str(samples);
        }
    };
    for (name, [kind, help, samples]) in &families {
        family(name, kind, help, samples);
    }
    let (mut up, mut last, mut info) = (String::new(), String::new(), String::new());
    for (labels, _, snapshot) in &guests {
        if let Some(version) = &snapshot.version {
            let version = pair("version", version);
            let _ = writeln!(info, "infiniservice_guest_info{{{labels},{version}}} 1");
        }
        let _ = writeln!(up, "infiniservice_guest_up{{{labels}}} {}", u8::from(snapshot.is_up));
        let seconds = snapshot.last_seconds;
        let _ =
            writeln!(last, "infiniservice_guest_last_line_timestamp_seconds{{{labels}}} {seconds}");
    }
    family(
        "infiniservice_guest_up",
        "gauge",
        "Whether the guest is connected and has sent a line lately",
        &up,
    );
    let help = "When the last line of the guest came, since 1970; 0 before the first";
    family("infiniservice_guest_last_line_timestamp_seconds", "gauge", help, &last);
    let help = "The agent of the guest, as it has said of itself";
    family("infiniservice_guest_info", "gauge", help, &info);
    for (name, help) in FAMILIES {
        let mut samples = String::new();
        for count in Count::ALL.into_iter().filter(|count| count.names().0 == name) {
            let (_, label, value) = count.names();
            for (labels, guest, _) in &guests {
                // What never happened has no series, which bounds their number.
                match guest.counted(count) {
                    0 => {}
                    times => {
                        let _ = writeln!(
                            samples,
                            "infiniservice_guest_{name}_total{{{labels},{label}=\"{value}\"}} {times}"
                        );
                    }
                }
            }
        }
        family(&format!("infiniservice_guest_{name}_total"), "counter", help, &samples);
    }
    let of_site = pair("site", &fleet.site);
    let connected = guests.iter().filter(|(_, _, snapshot)| snapshot.is_connected).count();
    let states = [("connected", connected), ("absent", guests.len() - connected)];
    let samples = states.map(|(state, count)| {
        format!("infiniservice_relay_guests{{{of_site},state=\"{state}\"}} {count}\n")
    });
    family(
        "infiniservice_relay_guests",
        "gauge",
        "Guests by state of their socket",
        &samples.concat(),
    );
    let refused = &fleet.refused;
    let refused = [
        ("too_many", &refused.too_many),
        ("twice", &refused.twice),
        ("unprintable", &refused.unprintable),
    ];
    let samples = refused.map(|(reason, count)| {
        let count = count.load(Relaxed);
        format!("infiniservice_relay_sockets_refused{{{of_site},reason=\"{reason}\"}} {count}\n")
    });
    let help = "Sockets that are not read, by reason";
    family("infiniservice_relay_sockets_refused", "gauge", help, &samples.concat());
    let samples = fleet.commands.counted().into_iter().map(|(outcome, count)| {
        format!("infiniservice_relay_commands_total{{{of_site},outcome=\"{outcome}\"}} {count}\n")
    });
    let (samples, help) =
        (samples.collect::<String>(), "Commands for guests, by what became of them");
    family("infiniservice_relay_commands_total", "counter", help, &samples);
    let samples = fleet.rejected.counted().into_iter().map(|(signal, count)| {
        format!(
            "infiniservice_relay_otlp_rejected_total{{{of_site},signal=\"{signal}\"}} {count}\n"
        )
    });
    let help = "Log records and data points that the receiver of OTLP has not taken, by signal";
    let samples = samples.collect::<String>();
    family("infiniservice_relay_otlp_rejected_total", "counter", help, &samples);
    out
}

/// The families of counters of a guest.
const FAMILIES: [(&str, &str); 5] = [
    ("lines", "Lines that were taken of the guest, by kind"),
    ("bytes", "Bytes that were read of the guest"),
    ("dropped", "What of the guest was not handed on, by reason"),
    ("disconnects", "Connections to the guest that ended, by reason"),
    ("throttled", "How often the guest was not read for a while, by reason"),
];

/// The reading in a metrics line of today's host; `None` where it is none. Parts that an agent has marked as missing are left
/// out.
///
/// # Why not `host::Reading`
/// That one is for eyes: it leaves out each value that cannot be read. Here a line with such a value is counted as unreadable and
/// not served, so that no series is silently incomplete; and the groups become those of a guest's own output.
pub(super) fn reading(line: &[u8], now: Instant) -> Option<SystemMetrics> {
    let Line { data } = serde_json::from_slice(line).ok()?;
    let has = |group: &str| data.missing.iter().all(|missing| missing != group);
    let kib = |kib: u64| kib.saturating_mul(1024);
    let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
    let System { cpu, memory, disk, network, load_average, uptime_seconds } = data.system;
    reading.cpu = cpu.filter(|_| has("cpu")).map(|cpu| {
        let usage_percent = cpu.usage_percent;
        Arc::new(Cpu { usage_percent, cores_usage_percent: cpu.cores_usage, ..Cpu::default() })
    });
    reading.memory = memory.filter(|_| has("memory")).map(|memory| {
        Arc::new(Memory {
            total_bytes: kib(memory.total_kb),
            used_bytes: kib(memory.used_kb),
            available_bytes: kib(memory.available_kb),
            swap_total_bytes: kib(memory.swap_total_kb),
            swap_used_bytes: kib(memory.swap_used_kb),
        })
    });
    reading.load = load_average.filter(|_| has("load")).map(|load| {
        let (one, five, fifteen) = (load.load_1min, load.load_5min, load.load_15min);
        Arc::new(Load { one, five, fifteen, uptime_seconds })
    });
    // Two of them may be added up.
    let bytes = |gib: f64| (gib * (1_u64 << 30) as f64).clamp(0.0, (1_u64 << 60) as f64) as u64;
    reading.disk = disk.filter(|_| has("disk")).map(|disk| {
        let mounts = disk.usage_stats.into_iter().map(|mount| Mount {
            mount_point: mount.mount_point,
            filesystem: mount.filesystem,
            total_bytes: bytes(mount.total_gb),
            used_bytes: bytes(mount.used_gb),
            available_bytes: bytes(mount.available_gb),
            ..Mount::default()
        });
        Arc::new(Disk { mounts: mounts.collect(), ..Disk::default() })
    });
    reading.network = network.filter(|_| has("network")).map(|network| {
        let interfaces = network.interfaces.into_iter().map(|one| Interface {
            name: one.name,
            received_bytes: one.bytes_received,
            sent_bytes: one.bytes_sent,
            received_packets: one.packets_received,
            sent_packets: one.packets_sent,
            receive_errors: one.errors_in,
            send_errors: one.errors_out,
            ..Interface::default()
        });
        Arc::new(Network { interfaces: interfaces.collect() })
    });
    Some(reading)
}

/// Declares tables of the line, in which everything may be left out.
macro_rules! lenient {
    ($($Table:ident { $($field:ident: $Type:ty),* $(,)? })*) => {
        $(
            #[derive(Default, Deserialize)]
            #[serde(default)]
            struct $Table { $($field: $Type),* }
        )*
    };
}

lenient! {
    Line { data: Data }
    Data { system: System, missing: Vec<String> }
    System {
        cpu: Option<Processor>,
        memory: Option<Ram>,
        disk: Option<Disks>,
        network: Option<Interfaces>,
        load_average: Option<Averages>,
        uptime_seconds: u64,
    }
    Processor { usage_percent: f64, cores_usage: Vec<f64> }
    Ram { total_kb: u64, used_kb: u64, available_kb: u64, swap_total_kb: u64, swap_used_kb: u64 }
    Disks { usage_stats: Vec<Usage> }
    Usage { mount_point: String, filesystem: String, total_gb: f64, used_gb: f64, available_gb: f64 }
    Interfaces { interfaces: Vec<Counters> }
    Counters {
        name: String,
        bytes_received: u64,
        bytes_sent: u64,
        packets_received: u64,
        packets_sent: u64,
        errors_in: u64,
        errors_out: u64,
    }
    Averages { load_1min: f64, load_5min: f64, load_15min: f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Guests;

    const LINE: &str = r#"{"type":"metrics","data":{"system":{"cpu":{"usage_percent":12.5,"cores_usage":[10]},"memory":{"total_kb":8,"used_kb":4},"disk":{"usage_stats":[{"mount_point":"/","total_gb":1.0,"used_gb":0.5,"available_gb":0.25,"filesystem":"ext4"},{"mount_point":"/","filesystem":"ext4"}]},"network":{"interfaces":[{"name":"eth\"0 x","bytes_received":7,"bytes_sent":1}]},"uptime_seconds":3600,"load_average":{"load_1min":0.1}},"missing":["load"]}}"#;

    fn keep(fleet: &Fleet, guest: &Guest, line: &[u8]) {
        super::keep(fleet, guest, reading(line, Instant::now()).as_ref());
    }

    fn fleet(series: u32) -> Fleet {
        let settings =
            Guests { series: crate::config::Count::new(series).unwrap(), ..Guests::at(Vec::new()) };
        Fleet::new("a \"site\"", settings)
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_reading_of_each_guest_is_in_one_family_and_goes_when_it_is_old() {
        let fleet = fleet(500);
        for vm in ["web-1", "web-2"] {
            let guest = fleet.guest(vm);
            guest.connected(true);
            guest.heard(Instant::now());
            guest.runs("0.1.0");
            keep(&fleet, &guest, LINE.as_bytes());
            assert_eq!(guest.counted(Count::Series), 4, "a file system that is there twice");
        }
        let text = render(&fleet);
        let samples = r#"# TYPE system_cpu_utilization_ratio gauge
system_cpu_utilization_ratio{site="a \"site\"",vm="web-1"} 0.125
system_cpu_utilization_ratio{site="a \"site\"",vm="web-2"} 0.125
"#;
        assert!(text.contains(samples), "{text}");
        assert!(
            text.contains(
                r#"vm="web-2",network_interface_name="eth\"0 x",network_io_direction="receive"} 7"#
            ),
            "{text}"
        );
        assert!(
            text.contains("infiniservice_guest_up{site=\"a \\\"site\\\"\",vm=\"web-1\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("infiniservice_guest_info{site=\"a \\\"site\\\"\",vm=\"web-1\",version=\"0.1.0\"} 1\n"),
            "{text}"
        );
        assert!(!text.contains("load_average"), "{text}");
        let heads: Vec<&str> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let once: BTreeSet<&str> = heads.iter().copied().collect();
        assert_eq!(heads.len(), once.len(), "a family is there once");

        tokio::time::advance(fleet.settings.silence.get()).await;
        let text = render(&fleet);
        assert!(!text.contains("system_cpu_utilization_ratio"), "{text}");
        assert!(
            text.contains("infiniservice_guest_up{site=\"a \\\"site\\\"\",vm=\"web-1\"} 0\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_guest_has_no_more_series_than_it_may_and_nonsense_is_counted() {
        let fleet = fleet(3);
        let guest = fleet.guest("web");
        keep(&fleet, &guest, LINE.as_bytes());
        let text = guest.snapshot(Instant::now(), &fleet.settings).reading.unwrap();
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 3);
        assert!(guest.counted(Count::Series) > 3);
        keep(&fleet, &guest, br#"{"type":"metrics","data":{"system":{"cpu":7}}}"#);
        assert_eq!(guest.counted(Count::Unreadable), 1);
    }
}
