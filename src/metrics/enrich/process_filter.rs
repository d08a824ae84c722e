//! Keeps the processes that an operator asked for. Does not read any.

use std::sync::Arc;

use tokio::time::Instant;

use crate::model::{Process, SystemMetrics};
use crate::pipeline::{Output, Transform};
use crate::values::Glob;

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
