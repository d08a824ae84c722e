//! Gives fields of readings other names in `json-lines`. The other formats have names of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use tokio::time::Instant;

use super::added::Added;
use super::{Enricher, Options, EnricherContext};
use crate::metrics::collect::Tasks;
use crate::model::{Group, OwnGroup, Renames, SystemMetrics, field_paths};
use crate::pipeline::{Output, Transform};
use crate::values::words::NONE;
use crate::values::{Manual, Problem, key};
use crate::wire::Format;

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "rename",
        "table of texts",
        NONE,
        "{ timestamp = \"@timestamp\", \"memory.used_bytes\" = \"used\" }",
        "gives fields other names, each in its place, for `format = \"json-lines\"`; a field is named as there, after its group, \
         also behind another `rename`. The other formats have names of their own",
    ),
    options: None,
};

/// Options of `rename`: the new name of each field; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameOptions(BTreeMap<FieldPath, NewName>);

impl RenameOptions {
    fn renames(&self) -> Renames {
        let mut renames = Renames::default();
        for (FieldPath(path), NewName(name)) in &self.0 {
            renames.insert(path, name);
        }
        renames
    }
}

impl Options for RenameOptions {
    fn build(&self, _: &EnricherContext<'_>) -> Enricher {
        Box::new(RenameFields(Added::new(self.renames())))
    }

    fn shows_in(&self, format: Format) -> bool {
        format == Format::JsonLines
    }
}

impl<'de> Deserialize<'de> for RenameOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let renames = BTreeMap::deserialize(deserializer)?;
        if renames.is_empty() {
            let help = "give it \"memory.used_bytes\" = \"used\", or leave it out";
            return Err(Problem::new("names no field", help).pack());
        }
        match twice(&renames) {
            None => Ok(Self(renames)),
            Some((table, name)) => {
                let what = format!("gives two fields of {table} the name {name:?}");
                Err(Problem::new(what, "give one of them another name").pack())
            }
        }
    }
}

/// A table of a reading that would have two fields of one name, and that name.
fn twice(renames: &BTreeMap<FieldPath, NewName>) -> Option<(&str, &str)> {
    let mut given = BTreeSet::new();
    renames.iter().find_map(|(FieldPath(path), NewName(name))| {
        let (table, _) = path.rsplit_once('.').unwrap_or(("", path));
        let old = if table.is_empty() { name.clone() } else { format!("{table}.{name}") };
        let stays = fields().any(|known| known == old) && !renames.contains_key(&FieldPath(old));
        let shown = if table.is_empty() { "a reading" } else { table };
        (!given.insert((table, name)) || stays).then_some((shown, name.as_str()))
    })
}

/// The name of a field in `json-lines`, after those of its group and of the table that it is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FieldPath(String);

impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(PathVisitor)
    }
}

/// Its errors have the place of the name in the file.
struct PathVisitor;

impl Visitor<'_> for PathVisitor {
    type Value = FieldPath;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<FieldPath, E> {
        if is_field(path) {
            return Ok(FieldPath(path.to_owned()));
        }
        let near = fields().min_by_key(|known| strsim::osa_distance(path, known));
        let help = format!("did you mean {:?}? docs/metrics.md names all of them", near.unwrap_or_default());
        Err(Problem::new("is no field of a reading", help).pack())
    }
}

/// What a field is called instead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct NewName(String);

impl<'de> Deserialize<'de> for NewName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)? {
            name if name.is_empty() => Err(Problem::new("is no name", "give the field a name, or `drop` it").pack()),
            name => Ok(Self(name)),
        }
    }
}

/// Whether a reading may have this field. Those of `agent` are not known here.
fn is_field(path: &str) -> bool {
    path.starts_with("agent.") || fields().any(|known| known == path)
}

/// All fields by their paths, groups included.
fn fields() -> impl Iterator<Item = String> {
    let tasks = Tasks::FIELDS.iter().map(|field| format!("{}.{}", Tasks::GROUP.name(), field.name));
    let groups = [Group::Agent, Tasks::GROUP].map(|group| group.name().to_owned());
    field_paths().chain(groups).chain(tasks)
}

/// Gives fields other names in `json-lines`.
///
/// Costs a reference count for a reading; what writes it pays a second walk over the line.
#[derive(Debug)]
pub struct RenameFields(Added<Renames>);

impl Transform for RenameFields {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "rename".to_owned()
    }

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let renames = self.0.to(input.renames.as_ref(), |earlier, own| {
            let mut all = earlier.clone();
            all.extend(own);
            all
        });
        out.push(SystemMetrics { renames: Some(renames), ..input.clone() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::model::{Disk, Memory, Mount};

    fn options(toml: &str) -> Result<RenameOptions, String> {
        toml::from_str(toml).map_err(|error| error.message().to_owned())
    }

    fn reading() -> SystemMetrics {
        let mut reading = SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), Duration::ZERO, 7);
        let mount = |mount_point: &str| Mount { mount_point: mount_point.into(), ..Mount::default() };
        let mounts = vec![mount("/"), mount("a \"total_bytes\":{[\\")];
        reading.disk = Some(Arc::new(Disk { mounts, ..Disk::default() }));
        reading.memory = Some(Arc::new(Memory { used_bytes: 5, ..Memory::default() }));
        reading.tags = Some(Arc::new([("total_bytes".to_owned(), "memory".to_owned())].into()));
        reading
    }

    fn written(reading: &SystemMetrics, stages: &[&str]) -> String {
        let mut reading = reading.clone();
        for stage in stages {
            let mut out = Output::default();
            let own = Added::new(options(stage).unwrap().renames());
            RenameFields(own).apply(Instant::now(), &reading, &mut out);
            reading = out.drain().next().unwrap();
        }
        let mut line = Vec::new();
        Format::JsonLines.encode(&reading, &mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_field_has_its_new_name_in_its_place_and_everything_else_stays() {
        let plain = written(&reading(), &[]);
        let renamed = written(
            &reading(),
            &[
                "timestamp = \"@timestamp\"\n\"memory.used_bytes\" = \"used \\\"é\\\"\"\n\"disk.mounts.total_bytes\" = \"size\"",
                "disk = \"storage\"\n\"disk.mounts.total_bytes\" = \"bytes\"",
            ],
        );
        let expected = plain.replace("\"timestamp\"", "\"@timestamp\"").replace("\"disk\":", "\"storage\":");
        let (mounts, rest) = expected.split_once("\"mounts\"").unwrap();
        let (_, memory) = mounts.split_once("\"memory\"").unwrap();
        let memory = memory.replacen("\"used_bytes\"", "\"used \\\"\\u00e9\\\"\"", 1);
        let head = mounts.split_once("\"memory\"").unwrap().0;
        let rest = rest.replace(",\"total_bytes\":", ",\"bytes\":");
        assert_eq!(renamed, format!("{head}\"memory\"{memory}\"mounts\"{rest}"));
        assert!(renamed.contains("{\"total_bytes\":\"memory\"}"), "a tag is no field of a group: {renamed}");
    }

    #[test]
    fn what_is_no_field_or_would_be_there_twice_is_refused_with_a_remedy() {
        for (toml, words) in [
            ("\"memory.used_byte\" = \"used\"", "did you mean \"memory.used_bytes\""),
            ("memry = \"used\"", "did you mean \"memory\""),
            ("\"memory.used_bytes\" = \"total_bytes\"", "gives two fields of memory the name \"total_bytes\""),
            ("cpu = \"x\"\nload = \"x\"", "gives two fields of a reading the name \"x\""),
            ("\"cpu.usage_percent\" = \"\"", "is no name"),
            ("", "names no field"),
        ] {
            let error = options(toml).unwrap_err();
            assert!(error.contains(words), "{toml}: {error}");
        }
        options("\"memory.used_bytes\" = \"total_bytes\"\n\"memory.total_bytes\" = \"used_bytes\"").unwrap();
        options("\"agent.rss_bytes\" = \"rss\"\n\"tasks.running\" = \"r\"").unwrap();
    }
}
