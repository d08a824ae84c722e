//! What the web page shows of a guest beside its newest state: its last readings, its busiest processes and its last events.
//! Bounded by number and length, whatever the guest sends.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::model::SystemMetrics;
use crate::wire::plain;
use crate::wire::raw::Raw;

/// Readings of a guest: an hour of one every 30 s.
pub(super) const READINGS_MAX: usize = 120;
/// Processes of a line that are looked at: as many as an agent sends.
const ROWS_MAX: usize = 1000;
/// Processes of its newest reading that are kept.
const PROCESSES_MAX: usize = 20;
/// Events of it.
const EVENTS_MAX: usize = 16;
/// Characters of a text of a guest.
const TEXT_MAX: usize = 160;

/// What is kept of a guest.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Its last readings, the oldest first.
    pub readings: VecDeque<Reading>,
    /// The busiest processes of its newest reading.
    pub processes: Vec<Process>,
    /// Its last events, the oldest first.
    pub events: VecDeque<Event>,
    /// The counters of its network of the newest reading.
    traffic: Option<Traffic>,
}

/// The figures of one reading.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Reading {
    /// When it came, in milliseconds since 1970.
    pub at: u64,
    /// Shares of what there is, in percent.
    pub cpu: Option<f32>,
    /// See `cpu`.
    pub memory: Option<f32>,
    /// Of the file system that is fullest, without what is kept for root.
    pub disk: Option<f32>,
    /// Bytes a second since the reading before, of all interfaces but the loopback.
    pub received: Option<f32>,
    /// See `received`.
    pub sent: Option<f32>,
    /// The load average of one minute.
    pub load: Option<f32>,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Process {
    pub pid: u32,
    pub name: String,
    /// Percent of one processor.
    pub cpu: f32,
    pub memory_bytes: u64,
    pub status: String,
}

/// Something that an agent has said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Event {
    /// When it came, in milliseconds since 1970.
    pub at: u64,
    /// The agent's word for how bad it is.
    pub severity: String,
    /// What has happened.
    pub text: String,
}

#[derive(Debug, Clone, Copy)]
struct Traffic {
    at: u64,
    received: u64,
    sent: u64,
}

impl History {
    /// Keeps the reading in a metrics line, which was read from `line`.
    pub(super) fn read(&mut self, reading: &SystemMetrics, line: &[u8], at: SystemTime) {
        let at = milliseconds(at);
        let share = |part: u64, whole: u64| {
            (whole > 0).then(|| (100.0 * part as f64 / whole as f64).clamp(0.0, 100.0) as f32)
        };
        let percent = |value: f64| value.is_finite().then(|| value.clamp(0.0, 100.0) as f32);
        let disk = reading.disk.as_ref().and_then(|disk| {
            let full = disk.mounts.iter().filter_map(|mount| {
                share(mount.used_bytes, mount.used_bytes.saturating_add(mount.available_bytes))
            });
            full.max_by(f32::total_cmp)
        });
        let traffic = reading.network.as_ref().map(|network| {
            let others = || network.interfaces.iter().filter(|one| one.name != "lo");
            Traffic {
                at,
                received: others().fold(0, |sum, one| one.received_bytes.saturating_add(sum)),
                sent: others().fold(0, |sum, one| one.sent_bytes.saturating_add(sum)),
            }
        });
        let rate = |of: fn(&Traffic) -> u64| {
            let (before, now) = (self.traffic.as_ref()?, traffic.as_ref()?);
            let bytes = of(now).checked_sub(of(before))?;
            let milliseconds = now.at.checked_sub(before.at).filter(|passed| *passed > 0)?;
            Some((bytes as f64 * 1000.0 / milliseconds as f64) as f32)
        };
        let new = Reading {
            at,
            cpu: reading.cpu.as_ref().and_then(|cpu| percent(cpu.usage_percent)),
            memory: reading.memory.as_ref().and_then(|one| share(one.used_bytes, one.total_bytes)),
            disk,
            received: rate(|traffic| traffic.received),
            sent: rate(|traffic| traffic.sent),
            load: reading
                .load
                .as_ref()
                .filter(|load| load.one.is_finite())
                .map(|load| load.one.clamp(0.0, 1e6) as f32),
        };
        self.traffic = traffic;
        push(&mut self.readings, new, READINGS_MAX);
        self.processes = processes(line);
    }

    /// Keeps what an event says.
    pub(super) fn hear(&mut self, line: &[u8], at: SystemTime) {
        if let Some((severity, text)) = said(line) {
            push(&mut self.events, Event { at: milliseconds(at), severity, text }, EVENTS_MAX);
        }
    }
}

fn push<T>(to: &mut VecDeque<T>, item: T, most: usize) {
    if to.len() == most {
        to.pop_front();
    }
    to.push_back(item);
}

/// Since 1970.
pub(super) fn milliseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A text of a guest as a person may see it: without what steers a terminal or turns its direction, and not too long.
fn short(text: &str) -> String {
    plain(text).chars().take(TEXT_MAX).collect()
}

/// The busiest processes of a metrics line; none where it has none.
fn processes(line: &[u8]) -> Vec<Process> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Row {
        pid: u32,
        name: String,
        cpu_percent: f64,
        memory_kb: u64,
        status: String,
    }
    let rows = || {
        let line = Raw::parse(std::str::from_utf8(line).ok()?).ok()?;
        let [data] = line.fields(["data"]).ok()?;
        let [processes] = data?.fields(["processes"]).ok()?;
        let rows = processes?.elements()?.take(ROWS_MAX);
        Some(rows.filter_map(|row| serde_json::from_str(row.as_str()).ok()).collect::<Vec<Row>>())
    };
    let mut rows = rows().unwrap_or_default();
    rows.sort_by(|one, other| other.cpu_percent.total_cmp(&one.cpu_percent));
    rows.truncate(PROCESSES_MAX);
    let process = |row: Row| Process {
        pid: row.pid,
        name: short(&row.name),
        cpu: row.cpu_percent.clamp(0.0, 1e6) as f32,
        memory_bytes: row.memory_kb.saturating_mul(1024),
        status: short(&row.status),
    };
    rows.into_iter().map(process).collect()
}

/// How bad an event is, and what has happened; `None` for what says neither.
fn said(line: &[u8]) -> Option<(String, String)> {
    let line = Raw::parse(std::str::from_utf8(line).ok()?).ok()?;
    let fields = line.fields(["type", "severity", "source", "message", "error_type", "state"]);
    let [kind, severity, source, message, error, state] =
        fields.ok()?.map(|field| field.and_then(Raw::text));
    let kind = kind?;
    let what = message.or(error).or(state).unwrap_or_else(|| kind.clone());
    let text = match source {
        Some(source) => format!("{source}: {what}"),
        None if kind == "agent_event" || what == kind => what,
        None => format!("{kind}: {what}"),
    };
    Some((short(&severity.unwrap_or_default()).to_lowercase(), short(&text)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::relay::metrics::reading;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn take(history: &mut History, line: &str, seconds: u64) {
        let read = reading(line.as_bytes(), tokio::time::Instant::now()).unwrap();
        history.read(&read, line.as_bytes(), at(seconds));
    }

    #[test]
    fn figures_are_shares_and_rates_and_what_is_not_known_is_left_out() {
        let mut history = History::default();
        let line = |received: u64| {
            format!(
                r#"{{"data":{{"system":{{"cpu":{{"usage_percent":12.5}},"memory":{{"total_kb":8,"used_kb":2}},"disk":{{"usage_stats":[{{"used_gb":1.0,"available_gb":3.0}},{{"used_gb":3.0,"available_gb":1.0}}]}},"network":{{"interfaces":[{{"name":"lo","bytes_received":{}}},{{"name":"eth0","bytes_received":{received}}}]}},"load_average":{{"load_1min":0.5}}}}}}}}"#,
                received * 7
            )
        };
        take(&mut history, &line(1000), 10);
        take(&mut history, &line(3000), 20);
        take(&mut history, &line(10), 30);
        take(&mut history, r#"{"data":{"system":{}}}"#, 40);
        let first = Reading {
            at: 10_000,
            cpu: Some(12.5),
            memory: Some(25.0),
            disk: Some(75.0),
            received: None,
            sent: None,
            load: Some(0.5),
        };
        let second = Reading { at: 20_000, received: Some(200.0), sent: Some(0.0), ..first };
        assert_eq!([history.readings[0], history.readings[1]], [first, second]);
        assert_eq!(history.readings[2].received, None, "the counter began anew");
        let (cpu, memory, disk, load) = (None, None, None, None);
        let nothing = Reading { at: 40_000, cpu, memory, disk, load, ..first };
        assert_eq!(history.readings[3], nothing);
    }

    #[test]
    fn what_is_kept_of_a_guest_is_bounded_whatever_it_sends() {
        let mut history = History::default();
        let name = "\u{202e}x".repeat(1000);
        let row =
            format!(r#"{{"pid":7,"name":"{name}","cpu_percent":1e300,"memory_kb":{}}}"#, u64::MAX);
        let rows = vec![row; 1000].join(",");
        let line = format!(
            r#"{{"data":{{"processes":[{rows}],"system":{{"cpu":{{"usage_percent":1e300}}}}}}}}"#
        );
        for number in 0..READINGS_MAX as u64 + 7 {
            take(&mut history, &line, number);
            let event = format!(r#"{{"type":"agent_event","message":"{name}"}}"#);
            history.hear(event.as_bytes(), at(number));
        }
        let lengths = [history.readings.len(), history.processes.len(), history.events.len()];
        assert_eq!(lengths, [READINGS_MAX, PROCESSES_MAX, EVENTS_MAX]);
        assert_eq!(history.readings[0].at, 7_000, "the oldest has gone");
        assert_eq!(history.readings[0].cpu, Some(100.0));
        let texts = [&history.processes[0].name, &history.events[0].text];
        for text in texts {
            assert!(text.chars().count() <= TEXT_MAX && !text.contains('\u{202e}'), "{text:?}");
        }
        take(&mut history, r#"{"data":{"processes":{"no":"list"}}}"#, 0);
        assert_eq!(history.processes, []);
    }

    #[test]
    fn an_event_says_what_has_happened_in_its_own_words() {
        for (line, expected) in [
            (
                r#"{"type":"agent_event","severity":"WARN","source":"port","message":"the host is back"}"#,
                Some(("warn", "port: the host is back")),
            ),
            (
                r#"{"type":"error_report","severity":"Temporary","error_type":"io"}"#,
                Some(("temporary", "error_report: io")),
            ),
            (
                r#"{"type":"circuit_breaker_state","state":"Open"}"#,
                Some(("", "circuit_breaker_state: Open")),
            ),
            (r#"{"type":"handshake"}"#, Some(("", "handshake"))),
            (r#"{"type":7}"#, None),
        ] {
            let expected = expected.map(|(severity, text)| (severity.to_owned(), text.to_owned()));
            assert_eq!(said(line.as_bytes()), expected, "{line}");
        }
    }
}
