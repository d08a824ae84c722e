//! Processes on demand, with their true share of the processor. How one is ended is in `kill`.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::ActionError;
use super::action::{Action, Unfit};
use super::page::{Missing, Name, json as parameter, text};
use super::plan::{Argument, Plan};
use super::{ActionOutcome, Context, blocking, kill as ending, sample, users};
use crate::commands::argument::{ArgumentError, shown};
use crate::commands::outcome::Outcome;
use crate::metrics::collect::{Collector, ProcessesCollector, ProcessesOptions};
use crate::model::{Iso8601, Process, Rank};

/// How long processes are watched. Processor time is counted in steps of 10 ms, so this is exact to 2 %.
const INTERVAL: Duration = Duration::from_millis(500);
/// How many `ProcessList` tells of where no number is asked for, and how many at most.
const LIST: usize = 200;
/// The same for `ProcessTop`.
const TOP: usize = 10;
/// The most that can be asked for; the host keeps no more.
const MOST: usize = 1_000;
/// What is reported of a command line, so that a thousand fit into an answer.
const COMMAND_LINE_MAX: usize = 512;

/// `{processes: [{pid, ppid, name, cpu_usage, memory_kb, status, command_line, user, start_time}], count}`,
/// the busiest first. `cpu_usage` is percent of one core over the half second that was measured.
///
/// # Why the metrics flow is not asked
/// Its last reading holds its top 20 only, and may be half a minute old.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessList {
    /// At most so many.
    pub limit: Option<u32>,
}

/// How many processes, and by what they are ranked.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ListArguments {
    limit: Option<u32>,
    sort_by: Option<String>,
}

impl Action for ProcessList {
    const NAMES: &'static [Name] = &[Name::new(
        "ProcessList",
        "lists processes, measured over half a second",
        "`{processes: [{pid, name, cpu_usage, memory_kb, status, command_line, user, start_time}], count, truncated}`",
    )
    .takes("limit?")
    .sent(&[parameter("limit", Missing::Null)])];
    const IN_AGENT: bool = true;
    type Arguments = ListArguments;

    fn new(_: &'static str, arguments: ListArguments) -> Result<Self, Unfit> {
        Ok(Self { limit: arguments.limit })
    }

    fn plan(&self) -> Plan {
        Plan::reads(MEASURES)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        list(cx, keep(self.limit, LIST), Rank::Cpu).await.into()
    }
}

/// The same, ranked as asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessTop {
    /// At most so many.
    pub limit: Option<u32>,
    /// By what.
    pub by: Rank,
}

impl Action for ProcessTop {
    const NAMES: &'static [Name] =
        &[Name::new("ProcessTop", "lists the processes that use most", "as ProcessList")
            .takes("limit?, sort_by?: cpu or memory")
            .sent(&[parameter("limit", Missing::Null), text("sort_by", Missing::Null)])];
    const IN_AGENT: bool = true;
    type Arguments = ListArguments;

    fn new(_: &'static str, arguments: ListArguments) -> Result<Self, Unfit> {
        let ListArguments { limit, sort_by } = arguments;
        let by = match sort_by.unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "cpu" | "cpu_usage" | "cpu_percent" => Rank::Cpu,
            "memory" | "mem" | "memory_kb" | "memory_usage" => Rank::Memory,
            other => {
                return Err(Unfit::Wrong(ArgumentError::Choice {
                    what: "processes are not sorted by",
                    given: shown(other),
                    choices: "cpu or memory",
                }));
            }
        };
        Ok(Self { limit, by })
    }

    fn plan(&self) -> Plan {
        Plan::reads(MEASURES)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        list(cx, keep(self.limit, TOP), self.by).await.into()
    }
}

/// Ends a process: SIGTERM, or SIGKILL where `force`. `{pid, name, signal, ended}`.
///
/// Refused are process 0 and 1, kernel threads, the agent itself, and a thread that is no process.
#[derive(Debug, Clone, PartialEq)]
pub struct ProcessKill {
    /// Which.
    pub pid: u32,
    /// At once (SIGKILL) instead of asking it (SIGTERM).
    pub force: bool,
}

/// Which process to end, and how.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct KillArguments {
    pid: Option<u32>,
    force: Option<bool>,
}

impl Action for ProcessKill {
    const NAMES: &'static [Name] = &[Name::new(
        "ProcessKill",
        "sends SIGTERM, or SIGKILL; never to pid 1, the agent or a thread of the kernel",
        "`{pid, name, signal, ended}`",
    )
    .takes("pid, force?")
    .sent(&[parameter("pid", Missing::Refused), parameter("force", Missing::Null)])];
    const RULES: &'static [Argument] = &[Argument::Pid];
    type Arguments = KillArguments;

    fn new(_: &'static str, arguments: KillArguments) -> Result<Self, Unfit> {
        let KillArguments { pid, force } = arguments;
        // The kernel's process ids are positive and signed; 0 and negative ones would mean whole groups.
        let pid = match pid {
            None => Err(ArgumentError::Rule("the process is missing; name its pid")),
            Some(0) => Err(ArgumentError::Pid(0)),
            Some(pid) if i32::try_from(pid).is_err() => Err(ArgumentError::Pid(pid)),
            Some(pid) => Ok(pid),
        };
        Ok(Self { pid: pid?, force: force.unwrap_or_default() })
    }

    fn plan(&self) -> Plan {
        let (pid, force) = (self.pid, self.force);
        let signal = if force { "SIGKILL" } else { "SIGTERM" };
        Plan::changes(format!("sends {signal} to process {pid}; runs no program"))
            .with(Argument::Pid, &pid.to_string())
            .force(force)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let (pid, force, deadline) = (self.pid, self.force, cx.deadline);
        let killed = blocking(cx.deadline, "ending the process", move || {
            ending::end(pid, force, std::process::id(), deadline)
        });
        let outcome = match killed.await.and_then(|killed| killed.map_err(ActionError::Kill)) {
            Ok(killed) => {
                tracing::info!(
                    pid,
                    signal = killed.signal,
                    ended = killed.ended,
                    "signal was sent to a process"
                );
                let mut outcome = Outcome::text(killed.to_string());
                outcome.data = Some(json!({
                    "pid": pid, "name": killed.name, "signal": killed.signal, "ended": killed.ended,
                }));
                outcome
            }
            Err(error) => Outcome::failed(error),
        };
        outcome.into()
    }
}

const MEASURES: &str = "reads /proc twice, half a second apart; runs no program";

fn keep(limit: Option<u32>, default: usize) -> usize {
    // A host that asks for none asks for the usual number.
    let asked = limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
    asked.unwrap_or(default).min(MOST)
}

async fn list(cx: &Context, keep: usize, by: Rank) -> Outcome {
    let collector =
        ProcessesCollector::new(ProcessesOptions { keep, by, command_line: cx.command_line });
    let collectors: Vec<Box<dyn Collector>> = vec![Box::new(collector)];
    let reading = match sample::over(cx.deadline, INTERVAL, collectors).await {
        Ok(reading) => reading,
        Err(error) => return Outcome::failed(error),
    };
    let Some(processes) = reading.processes else {
        let trouble = reading.troubles.into_iter().map(|trouble| trouble.what).next();
        return Outcome::failed(trouble.unwrap_or_else(|| "cannot list processes".to_owned()));
    };
    let names = match blocking(cx.deadline, "reading /etc/passwd", names).await {
        Ok(names) => names,
        Err(error) => return Outcome::failed(error),
    };
    let processes: Vec<Value> = processes.iter().map(|process| row(process, &names)).collect();
    Outcome::data(json!({
        "count": processes.len(),
        "truncated": 0,
        "measured_over_ms": INTERVAL.as_millis() as u64,
        "processes": processes,
    }))
}

fn names() -> HashMap<u32, String> {
    let accounts = users::accounts(&std::fs::read("/etc/passwd").unwrap_or_default());
    let mut names = HashMap::new();
    for account in accounts {
        names.entry(account.uid).or_insert(account.name);
    }
    names
}

fn row(process: &Process, names: &HashMap<u32, String>) -> Value {
    let line = process.command_line.as_deref().unwrap_or_default();
    json!({
        "pid": process.pid,
        "ppid": process.parent,
        "name": process.name,
        "cpu_usage": (process.cpu_percent * 10.0).round() / 10.0,
        "memory_kb": process.rss_bytes / 1024,
        "status": process.status,
        "command_line": &line[..line.floor_char_boundary(COMMAND_LINE_MAX)],
        "user": names.get(&process.uid).cloned().unwrap_or_else(|| process.uid.to_string()),
        "start_time": Iso8601::new(process.started).as_str(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use std::process::{Child, Command};

    struct Busy(Child);
    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn a_busy_process_is_seen_busy_with_what_ps_says_of_it() {
        let busy = Busy(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
        let data =
            ProcessList { limit: Some(1_000) }.run(&test_context()).await.outcome.data.unwrap();
        let processes = data["processes"].as_array().unwrap();
        let found = processes.iter().find(|process| process["pid"] == busy.0.id()).unwrap();
        // Other tests share the cores: what it must not be is idle, or above one core.
        let cpu = found["cpu_usage"].as_f64().unwrap();
        assert!((5.0..=104.0).contains(&cpu), "{cpu}");
        let pid = busy.0.id().to_string();
        let output = Command::new("ps").args(["-o", "user=,comm=,rss=", "-p", &pid]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!((&found["user"], &found["name"]), (&words[0].into(), &words[1].into()));
        let rss: u64 = words[2].parse().unwrap();
        assert!(found["memory_kb"].as_u64().unwrap().abs_diff(rss) <= 512, "{found} {rss}");
        assert_eq!(found["command_line"], "sh -c while :; do :; done");
        assert_eq!(found["start_time"].as_str().unwrap().len(), 24);
    }

    #[tokio::test]
    async fn the_top_is_as_long_as_asked_and_in_order() {
        let data = ProcessTop { limit: Some(3), by: Rank::Memory }
            .run(&test_context())
            .await
            .outcome
            .data
            .unwrap();
        let memory: Vec<u64> = data["processes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|process| process["memory_kb"].as_u64().unwrap())
            .collect();
        assert_eq!(memory.len(), 3);
        assert!(memory.is_sorted_by(|a, b| a >= b), "{memory:?}");
    }

    #[test]
    fn a_limit_is_never_none_at_all_nor_above_what_the_host_keeps() {
        assert_eq!(keep(None, LIST), 200);
        assert_eq!(keep(Some(0), TOP), 10);
        assert_eq!(keep(Some(u32::MAX), TOP), 1_000);
    }

    #[tokio::test]
    async fn a_time_out_that_leaves_no_interval_is_told_at_once() {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(100);
        let cx = Context { deadline, ..test_context() };
        let error = ProcessList { limit: None }.run(&cx).await.outcome.error.unwrap();
        assert!(error.contains("longer"), "{error}");
    }
}
