//! Keeps the processes that an operator asked for. Does not read any.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::Deserializer;
use tokio::time::Instant;

use super::{NoEffect, Enricher, Options, EnricherContext};
use crate::files::accounts::uid_of;
use crate::model::{Group, Process, SystemMetrics};
use crate::pipeline::{Output, Transform};
use crate::values::units::Bound;
use crate::values::value::Raw;
use crate::values::words::{NONE, SIZE};
use crate::values::{Glob, Manual, Problem, Section, Size, key};

pub(super) const MANUAL: Manual = Manual {
    key: key(
        "where",
        "table, see below",
        NONE,
        "{ user = [\"postgres\"], memory_above = \"100MiB\" }",
        "keeps the processes that match all conditions",
        ),
    options: Some(Section {
        header: "`where = { … }` in `[[enrich]]`",
        about: "One of them at least; a process stays if all that are given hold. It sees what `processes` in `from` has \
                kept, so give that a larger `keep`.",
        within: "[[collect]]\nevery = \"30s\"\nfrom = [\"processes\"]\n[[enrich]]\nwhere.{}\n[write]\nstdout = true",
        keys: &[
            key(
                "name",
                "list of patterns",
                NONE,
                "[\"postgres\", \"nginx*\"]",
                "its name, or the file name of its executable; `*` stands for any text",
            ),
            key(
                "user",
                "list of texts",
                NONE,
                "[\"www-data\", \"1000\"]",
                "its owner, by name or id; names are looked up in `/etc/passwd` when the file is read",
            ),
            key("cpu_above", "number", NONE, "5", "percent of one core"),
            key("memory_above", SIZE, NONE, "\"100MiB\"", "resident memory"),
        ],
    }),
};

/// Options of `where`: one of them at least.
#[derive(Debug, Clone, PartialEq)]
pub struct WhereOptions {
    /// Patterns of names.
    pub name: Option<Vec<String>>,
    /// Users.
    pub user: Option<Vec<User>>,
    /// Percent of one core.
    pub cpu_above: Option<f64>,
    /// Resident memory.
    pub memory_above: Option<Size>,
}

impl<'de> Deserialize<'de> for WhereOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let help = "give it name = [\"postgres\"], user = [\"www-data\"], cpu_above = 5 or memory_above = \"100MiB\"";
        let keys = WhereKeys::deserialize(deserializer)?;
        let is_empty = [keys.name.as_ref().map(Vec::len), keys.user.as_ref().map(Vec::len)];
        if is_empty.contains(&Some(0)) {
            return Err(Problem::new("has an empty list, which nothing matches", help).pack());
        }
        let WhereKeys { name, user, cpu_above, memory_above } = keys;
        let all = Self { name, user, cpu_above: cpu_above.map(|Bound(above)| above), memory_above };
        if all == (Self { name: None, user: None, cpu_above: None, memory_above: None }) {
            return Err(Problem::new("has no condition", help).pack());
        }
        Ok(all)
    }
}

impl Options for WhereOptions {
    fn build(&self, _: &EnricherContext<'_>) -> Enricher {
        let globs = |names: &Vec<String>| names.iter().map(Glob::new).collect();
        let uids = |users: &Vec<User>| users.iter().filter_map(|user| user.uid).collect();
        Box::new(ProcessFilter {
            names: self.name.as_ref().map(globs),
            uids: self.user.as_ref().map(uids),
            cpu_above: self.cpu_above,
            memory_above: self.memory_above.map(Size::bytes),
        })
    }

    fn needs(&self) -> Vec<Group> {
        vec![Group::Processes]
    }

    fn without_effect(&self) -> Vec<NoEffect> {
        let users = self.user.iter().flatten().enumerate();
        let unknown = users.filter(|(_, user)| user.uid.is_none()).map(|(item, user)| NoEffect {
            key: "user",
            item,
            message: format!("there is no user {:?} here: no process is theirs", user.name),
            help: "correct the name, or give the id",
        });
        unknown.collect()
    }
}

/// A user, by name or id. The name is looked up when the file is read, so a reload sees an account that has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// As the file has it.
    pub name: String,
    /// The id; `None` where no account of this machine has the name.
    pub uid: Option<u32>,
}

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = match Raw::deserialize(deserializer)? {
            Raw::Text(name) => name,
            Raw::Whole(uid) => uid.to_string(),
            _ => return Err(Problem::new("is no user", "write a name or an id").pack()),
        };
        let uid = name.parse().ok().or_else(|| uid_of(&name));
        Ok(Self { name, uid })
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhereKeys {
    name: Option<Vec<String>>,
    user: Option<Vec<User>>,
    cpu_above: Option<Bound>,
    memory_above: Option<Size>,
}

/// Keeps the processes for which everything holds that is given. A list of which all stay is shared as it is; one of
/// which none stays is there and empty.
///
/// ```
/// use infiniservice::metrics::enrich::ProcessFilter;
/// # use infiniservice::model::{Process, SystemMetrics};
/// # use infiniservice::pipeline::{Output, Transform};
/// # use std::{sync::Arc, time::{Duration, SystemTime}};
/// # let now = tokio::time::Instant::now();
/// # let process = |pid, cpu_percent| Process { pid, parent: None, name: "x".into(),
/// #     executable: None, command_line: None, cpu_percent, cpu_seconds: None, rss_bytes: 0, read_bytes: None,
/// #     written_bytes: None, status: "running", started: SystemTime::UNIX_EPOCH, uid: 0 };
/// # let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
/// reading.processes = Some(Arc::new(vec![process(1, 0.5), process(2, 90.0)]));
/// let mut filter = ProcessFilter { cpu_above: Some(5.0), ..ProcessFilter::default() };
/// let mut out = Output::default();
/// filter.apply(now, &reading, &mut out);
/// let kept = out.drain().next().unwrap().processes.unwrap();
/// assert_eq!(kept.iter().map(|process| process.pid).collect::<Vec<_>>(), [2]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct ProcessFilter {
    /// One of these matches the kernel's name for it, or the file name of its executable.
    pub names: Option<Vec<Glob>>,
    /// Its owner is one of these user ids.
    pub uids: Option<Vec<u32>>,
    /// Its processor time is above this, in percent of one core.
    pub cpu_above: Option<f64>,
    /// Its resident memory is above this, in bytes.
    pub memory_above: Option<u64>,
}

impl ProcessFilter {
    fn keeps(&self, process: &Process) -> bool {
        let file = process.executable.as_deref().and_then(|path| path.rsplit('/').next());
        let is_called = |glob: &Glob| {
            glob.matches(&process.name) || file.is_some_and(|file| glob.matches(file))
        };
        self.names.as_ref().is_none_or(|names| names.iter().any(is_called))
            && self.uids.as_ref().is_none_or(|uids| uids.contains(&process.uid))
            && self.cpu_above.is_none_or(|above| process.cpu_percent > above)
            && self.memory_above.is_none_or(|above| process.rss_bytes > above)
    }
}

impl Transform for ProcessFilter {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn name(&self) -> String {
        "where".to_owned()
    }

    fn apply(&mut self, _now: Instant, input: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let processes = input.processes.as_ref().map(|processes| {
            match processes.iter().all(|process| self.keeps(process)) {
                true => Arc::clone(processes),
                false => {
                    let kept = processes.iter().filter(|process| self.keeps(process));
                    Arc::new(kept.cloned().collect())
                }
            }
        });
        out.push(SystemMetrics { processes, ..input.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn process(name: &str, executable: &str, uid: u32, cpu_percent: f64) -> Process {
        Process {
            pid: 1,
            parent: None,
            name: name.into(),
            executable: (!executable.is_empty()).then(|| executable.to_owned()),
            command_line: None,
            cpu_percent,
            cpu_seconds: None,
            rss_bytes: 100,
            read_bytes: None,
            written_bytes: None,
            status: "running",
            started: SystemTime::UNIX_EPOCH,
            uid,
        }
    }

    /// The names of those that stay.
    fn kept(filter: &ProcessFilter, all: &[Process]) -> Vec<String> {
        let mut reading =
            SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), Duration::ZERO, 0);
        reading.processes = Some(Arc::new(all.to_vec()));
        let mut out = Output::default();
        filter.clone().apply(Instant::now(), &reading, &mut out);
        let processes = out.drain().next().and_then(|reading| reading.processes).unwrap();
        processes.iter().map(|process| process.name.clone()).collect()
    }

    #[test]
    fn everything_that_is_given_must_hold() {
        let all = [
            process("postgres", "", 26, 9.0),
            process("postgres", "", 0, 9.0),
            process("nginx", "", 26, 9.0),
            process("postgres", "", 26, 5.0),
        ];
        let filter = ProcessFilter {
            names: Some(vec![Glob::new("post*")]),
            uids: Some(vec![26, 27]),
            cpu_above: Some(5.0),
            memory_above: Some(99),
        };
        assert_eq!(kept(&filter, &all), ["postgres"]);
        assert_eq!(kept(&ProcessFilter { memory_above: Some(100), ..filter }, &all), [""; 0]);
        assert_eq!(kept(&ProcessFilter::default(), &all).len(), 4);
    }

    #[test]
    fn a_name_longer_than_the_kernel_keeps_is_found_by_the_executable() {
        let all = [process("systemd-network", "/usr/lib/systemd/systemd-networkd", 0, 0.0)];
        let filter = |name: &str| ProcessFilter {
            names: Some(vec![Glob::new(name)]),
            ..ProcessFilter::default()
        };
        assert_eq!(kept(&filter("systemd-networkd"), &all).len(), 1);
        assert_eq!(kept(&filter("systemd-network"), &all).len(), 1);
        assert_eq!(kept(&filter("networkd"), &all).len(), 0);
    }
}
