//! Drops fields of each reading, whatever the format. Does not drop whole groups: `select` does.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use tokio::time::Instant;

use super::{Enricher, Options, EnricherContext};
use crate::model::{Group, SystemMetrics};
use crate::pipeline::{Output, Transform};
use crate::values::words::{NEEDED, NONE};
use crate::values::{Manual, Problem, Section, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "drop",
        "table, see below",
        NONE,
        "{ fields = [\"processes.command_line\"] }",
        "drops fields of each reading",
    ),
    options: Some(Section {
        header: "`drop = { … }` in `[[enrich]]`",
        about: "No format writes them, and later enrichers do not see them. Fields that every reading of their group has, \
                such as `cpu.usage_percent`, stay: `select` drops whole groups.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"processes\"]\n[[enrich]]\ndrop.{}\n[write]\nstdout = true",
        keys: &[key(
            "fields",
            "list of fields",
            NEEDED,
            "[\"processes.command_line\", \"host.machine_id\"]",
            "their names as in `json-lines`, after that of the group; `validate` lists all of them for an unknown name",
        )],
    }),
};

/// A field that a reading may lack.
#[derive(Debug, Clone, Copy)]
struct Optional {
    group: Group,
    take_out: fn(&mut SystemMetrics),
}

/// Declares the fields: the group's field in a reading, then for each its name there and what takes it out.
macro_rules! optional_fields {
    ($($Group:ident $group:ident { $($name:literal: |$data:ident| $take_out:expr,)* })*) => {
        /// Each field by its name in `json-lines`.
        const NAMES: &[&str] = &[$($(concat!(stringify!($group), ".", $name)),*),*];

        /// The fields, in the order of their names.
        const FIELDS: &[Optional] = &[$($(Optional {
            group: Group::$Group,
            take_out: |reading| {
                if let Some($data) = reading.$group.as_mut().map(Arc::make_mut) {
                    $take_out;
                }
            },
        }),*),*];
    };
}

// Not the addresses of interfaces: `join` gives an interface that has none its last ones back, since today's host would forget them.
optional_fields! {
    Cpu cpu {
        "cores_usage_percent": |cpu| cpu.cores_usage_percent.clear(),
        "steal_percent": |cpu| cpu.steal_percent = None,
        "iowait_percent": |cpu| cpu.iowait_percent = None,
        "temperature_celsius": |cpu| cpu.temperature_celsius = None,
        "seconds": |cpu| cpu.seconds = None,
    }
    Disk disk {
        "mounts.total_inodes": |disk| each(&mut disk.mounts, |one| one.total_inodes = None),
        "mounts.used_inodes": |disk| each(&mut disk.mounts, |one| one.used_inodes = None),
        "mounts.free_inodes": |disk| each(&mut disk.mounts, |one| one.free_inodes = None),
        "devices": |disk| disk.devices.clear(),
    }
    Network network {
        "interfaces.rates": |network| each(&mut network.interfaces, |one| one.rates = None),
    }
    Processes processes {
        "parent": |all| each(all, |one| one.parent = None),
        "executable": |all| each(all, |one| one.executable = None),
        "command_line": |all| each(all, |one| one.command_line = None),
        "cpu_seconds": |all| each(all, |one| one.cpu_seconds = None),
        "read_bytes": |all| each(all, |one| one.read_bytes = None),
        "written_bytes": |all| each(all, |one| one.written_bytes = None),
    }
    Ports ports {
        "pid": |all| each(all, |one| one.pid = None),
        "process_name": |all| each(all, |one| one.process_name = None),
        "executable": |all| each(all, |one| one.executable = None),
    }
    Host host {
        "os_id": |host| host.os_id = None,
        "machine_id": |host| host.machine_id = None,
        "boot_id": |host| host.boot_id = None,
        "boot_time": |host| host.boot_time = None,
    }
    Pressure pressure {
        "cpu": |pressure| pressure.cpu = None,
        "memory": |pressure| pressure.memory = None,
        "io": |pressure| pressure.io = None,
    }
    Agent agent {
        "cpu_percent": |agent| agent.cpu_percent = None,
        "nodes": |agent| agent.nodes.clear(),
    }
}

fn each<T>(all: &mut [T], take_out: fn(&mut T)) {
    all.iter_mut().for_each(take_out);
}

/// Options of `drop`: one field at least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropOptions {
    fields: Vec<FieldName>,
}

impl Options for DropOptions {
    fn build(&self, _: &EnricherContext<'_>) -> Enricher {
        Box::new(DropFields { fields: self.fields.iter().map(|field| FIELDS[field.0]).collect() })
    }

    fn needs(&self) -> Vec<Group> {
        self.fields.iter().map(|field| FIELDS[field.0].group).collect()
    }
}

impl<'de> Deserialize<'de> for DropOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DropKeys { fields } = DropKeys::deserialize(deserializer)?;
        if fields.is_empty() {
            let help = "give it fields = [\"processes.command_line\"], or leave it out";
            return Err(Problem::new("names no field", help).pack());
        }
        Ok(Self { fields })
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DropKeys {
    fields: Vec<FieldName>,
}

/// The place of a field in [`NAMES`] and [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FieldName(usize);

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Its errors have the place of the name in the file.
struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = FieldName;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<FieldName, E> {
        let known = NAMES.iter().position(|known| *known == name);
        known.map(FieldName).ok_or_else(|| E::unknown_variant(name, NAMES))
    }
}

/// Drops its fields of each reading, as if they could not have been read.
///
/// Costs a copy of each group that it changes.
#[derive(Debug)]
pub struct DropFields {
    fields: Vec<Optional>,
}

impl Transform for DropFields {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "drop".to_owned()
    }

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let mut reading = input.clone();
        for field in &self.fields {
            (field.take_out)(&mut reading);
        }
        out.push(reading);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::Agent;
    use crate::pipeline::StageCounts;
    use crate::wire::Format;

    /// A reading that lacks nothing; each text that can be taken out is a word of its own.
    fn whole() -> SystemMetrics {
        let stall = json!({ "some_10s_percent": 1.0, "some_60s_percent": 1.0, "some_seconds": 2.0 });
        let rates = json!({ "received_bytes_per_sec": 1.0 });
        let line = json!({
            "cpu": {
                "usage_percent": 5.0, "cores_usage_percent": [5.0], "steal_percent": 1.0, "iowait_percent": 1.0,
                "temperature_celsius": 40.0, "seconds": { "user": 1.0 },
            },
            "memory": { "total_bytes": 8 },
            "load": { "one": 0.5 },
            "disk": {
                "mounts": [{ "mount_point": "/", "total_inodes": 9, "used_inodes": 4, "free_inodes": 5 }],
                "devices": [{ "device": "vda", "reads": 1 }],
            },
            "network": { "interfaces": [{ "name": "eth0", "is_up": true, "rates": rates }] },
            "processes": [{
                "pid": 7, "parent": 1, "name": "a", "executable": "/canary-executable", "cpu_seconds": 1.0,
                "command_line": "a --canary-command", "read_bytes": 1, "written_bytes": 1,
            }],
            "ports": [{
                "port": 22, "protocol": "tcp", "state": "listen", "pid": 7, "process_name": "canary-owner",
                "executable": "/canary-owner-executable",
            }],
            "host": {
                "hostname": "web-1", "os_id": "canary-os", "machine_id": "canary-machine", "boot_id": "canary-boot",
                "boot_time": "2026-01-01T00:00:00.000Z",
            },
            "pressure": { "cpu": stall, "memory": stall, "io": stall },
        });
        let line = line.to_string();
        let now = Instant::now();
        let mut reading = SystemMetrics::from_json(&line, SystemTime::UNIX_EPOCH, now, 0).unwrap();
        let nodes = vec![StageCounts::default()];
        reading.agent = Some(Arc::new(Agent { cpu_percent: Some(1.0), nodes, ..Agent::default() }));
        reading
    }

    fn without(fields: Vec<Optional>) -> SystemMetrics {
        let mut out = Output::default();
        DropFields { fields }.apply(Instant::now(), &whole(), &mut out);
        out.drain().next().unwrap()
    }

    /// Takes the value at a path out of the reading, of each item where there is a list.
    fn take(value: &mut Value, path: &[&str]) {
        match (value, path) {
            (Value::Array(items), path) => items.iter_mut().for_each(|item| take(item, path)),
            (Value::Object(fields), [last]) => {
                assert!(fields.remove(*last).is_some_and(|found| !found.is_null()), "{last}");
            }
            (Value::Object(fields), [first, rest @ ..]) => take(fields.get_mut(*first).unwrap(), rest),
            (other, path) => panic!("{path:?} of {other}"),
        }
    }

    /// Without what stands for an absent value.
    fn compact(value: Value) -> Value {
        let is_nothing = |value: &Value| value.is_null() || *value == json!([]);
        match value {
            Value::Array(items) => items.into_iter().map(compact).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter().filter(|(_, value)| !is_nothing(value));
                fields.map(|(name, value)| (name, compact(value))).collect()
            }
            other => other,
        }
    }

    #[test]
    fn each_name_is_that_of_the_field_in_json_lines_and_nothing_else_goes() {
        assert_eq!(NAMES.len(), FIELDS.len());
        for (name, field) in NAMES.iter().zip(FIELDS) {
            assert!(name.starts_with(&format!("{}.", field.group.name())), "{name}");
            let mut expected = serde_json::to_value(whole()).unwrap();
            take(&mut expected, &name.split('.').collect::<Vec<_>>());
            let left = serde_json::to_value(without(vec![*field])).unwrap();
            assert_eq!(compact(left), compact(expected), "{name}");
        }
    }

    #[test]
    fn no_format_has_what_was_dropped() {
        let written = |format: Format, reading: &SystemMetrics| {
            let mut line = Vec::new();
            format.encode(reading, &mut line).unwrap();
            String::from_utf8(line).unwrap()
        };
        let text = written(Format::Infinibay, &whole());
        assert!(text.contains("canary"), "{text}");
        let reading = without(FIELDS.to_vec());
        for format in Format::ALL {
            let text = written(format, &reading);
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
