//! A metrics line as numbers to show. Lenient: a missing or invalid value is left out.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::message::{Kind, Message};

/// The content of a metrics line. Texts are the guest's and may contain anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// When it was taken, by the guest's clock.
    pub at: Option<SystemTime>,
    /// Since boot.
    pub uptime: Option<Duration>,
    /// Share of all cores in use.
    pub cpu_percent: Option<f64>,
    /// Number of cores.
    pub cores: usize,
    /// In use, and all there is.
    pub memory_bytes: Option<(u64, u64)>,
    /// Swap in use, and all there is.
    pub swap_bytes: Option<(u64, u64)>,
    /// Over 1, 5 and 15 minutes.
    pub load: Option<[f64; 3]>,
    /// Mounted file systems, as the guest orders them.
    pub mounts: Vec<Mount>,
    /// Read and written a second, all disks together.
    pub disk_bytes_per_second: Option<(f64, f64)>,
    /// Network interfaces without the loopback, as the guest orders them.
    pub interfaces: Vec<Interface>,
    /// Processes, as the guest orders them.
    pub processes: Vec<Process>,
    /// Listening ports.
    pub listening: usize,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mount {
    /// Where.
    pub mount_point: String,
    /// In use.
    pub used_bytes: f64,
    /// All there is.
    pub total_bytes: f64,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Whether it is up.
    pub is_up: bool,
    /// Bytes received and sent since boot.
    pub bytes: (u64, u64),
}

/// A process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Process {
    /// Its id.
    pub pid: u64,
    /// Its name.
    pub name: String,
    /// Share of one core.
    pub cpu_percent: f64,
    /// Resident.
    pub memory_bytes: u64,
}

impl Reading {
    /// The content of the line, if it is a metrics line.
    pub fn of(message: &Message) -> Option<Self> {
        if message.kind != Kind::Metrics {
            return None;
        }
        let at = message.timestamp().and_then(|text| humantime::parse_rfc3339(text).ok());
        let (data, system) = (&message.body["data"], &message.body["data"]["system"]);
        let pair = |of: &Value, one: &str, other: &str| {
            Some((of[one].as_u64()?.saturating_mul(1024), of[other].as_u64()?.saturating_mul(1024)))
        };
        let (memory, io, load) =
            (&system["memory"], &system["disk"]["io_stats"], &system["load_average"]);
        Some(Self {
            at,
            uptime: system["uptime_seconds"].as_u64().map(Duration::from_secs),
            cpu_percent: system["cpu"]["usage_percent"].as_f64(),
            cores: system["cpu"]["cores_usage"].as_array().map_or(0, Vec::len),
            memory_bytes: pair(memory, "used_kb", "total_kb"),
            swap_bytes: pair(memory, "swap_used_kb", "swap_total_kb"),
            load: (|| {
                let of = |minutes: &str| load[format!("load_{minutes}min")].as_f64();
                Some([of("1")?, of("5")?, of("15")?])
            })(),
            mounts: list(&system["disk"]["usage_stats"], mount),
            disk_bytes_per_second: io["read_bytes_per_sec"]
                .as_f64()
                .zip(io["write_bytes_per_sec"].as_f64()),
            interfaces: list(&system["network"]["interfaces"], interface),
            processes: list(&data["processes"], process),
            listening: list(&data["ports"], |port| (port["is_listening"] == true).then_some(()))
                .len(),
        })
    }

    /// Bytes received and sent a second since an `earlier` reading, all interfaces together.
    pub fn network_bytes_per_second(&self, earlier: &Self) -> Option<(f64, f64)> {
        let seconds = self.at?.duration_since(earlier.at?).ok()?.as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let mut sums = (0, 0);
        for now in &self.interfaces {
            if let Some(then) = earlier.interfaces.iter().find(|then| then.name == now.name) {
                sums.0 += now.bytes.0.saturating_sub(then.bytes.0);
                sums.1 += now.bytes.1.saturating_sub(then.bytes.1);
            }
        }
        Some((sums.0 as f64 / seconds, sums.1 as f64 / seconds))
    }
}

fn list<T>(of: &Value, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    of.as_array().map_or_else(Vec::new, |items| items.iter().filter_map(read).collect())
}

fn mount(of: &Value) -> Option<Mount> {
    const GIB: f64 = (1_u64 << 30) as f64;
    Some(Mount {
        mount_point: of["mount_point"].as_str()?.to_owned(),
        used_bytes: of["used_gb"].as_f64()? * GIB,
        total_bytes: of["total_gb"].as_f64()? * GIB,
    })
}

fn interface(of: &Value) -> Option<Interface> {
    let name = of["name"].as_str().filter(|name| *name != "lo")?.to_owned();
    Some(Interface {
        name,
        addresses: list(&of["ip_addresses"], |address| Some(address.as_str()?.to_owned())),
        is_up: of["is_up"] != false,
        bytes: (of["bytes_received"].as_u64()?, of["bytes_sent"].as_u64()?),
    })
}

fn process(of: &Value) -> Option<Process> {
    Some(Process {
        pid: of["pid"].as_u64()?,
        name: of["name"].as_str()?.to_owned(),
        cpu_percent: of["cpu_percent"].as_f64()?,
        memory_bytes: of["memory_kb"].as_u64().unwrap_or(0).saturating_mul(1024),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_nothing_in_it_is_a_reading_with_nothing_in_it() {
        let line =
            Message::read(r#"{"type":"metrics","data":{"system":7,"processes":null}}"#.into());
        assert_eq!(Reading::of(&line), Some(Reading::default()));
        let line = Message::read(r#"{"type":"agent_event"}"#.into());
        assert_eq!(Reading::of(&line), None);
    }

    #[test]
    fn network_rates_are_of_the_interfaces_that_were_there_before_and_never_negative() {
        let eth =
            |name: &str, bytes| Interface { name: name.into(), bytes, ..Interface::default() };
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let one =
            Reading { at: at(10), interfaces: vec![eth("a", (100, 50))], ..Reading::default() };
        let two = Reading {
            at: at(12),
            interfaces: vec![eth("a", (300, 20)), eth("new", (1 << 40, 0))],
            ..Reading::default()
        };
        assert_eq!(two.network_bytes_per_second(&one), Some((100.0, 0.0)));
        assert_eq!(one.network_bytes_per_second(&two), None, "time went back");
        assert_eq!(one.network_bytes_per_second(&one), None);
    }
}
