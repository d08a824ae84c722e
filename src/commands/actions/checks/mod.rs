//! Health checks: each is measured when it is asked for, none is invented. Repairs nothing.
//!
//! A check that cannot be made here (no sensor, no SMART) is passed with a note and
//! `details.available: false`: the host raises an issue for everything else. One that should have
//! worked and did not is a warning.

pub(crate) mod disk;

mod crashes;
mod firewall;
mod journal;
mod load;
mod network;
mod system;

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};

use super::action::{Action, NoArguments, Unfit};
use super::page::{Missing, Name, text};
use super::plan::{Argument, Effect, Plan, Value as Seen};
use super::{ActionOutcome, Context};
use crate::commands::argument::plain_name;
use crate::commands::outcome::Outcome;

/// The longest that all checks together wait for the last of them.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Status {
    Passed,
    Warning,
    Failed,
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }

    /// Where `value` stands, of which more is worse.
    fn above(value: f64, warning: f64, failed: f64) -> Self {
        if value > failed {
            Self::Failed
        } else if value > warning {
            Self::Warning
        } else {
            Self::Passed
        }
    }
}

/// One check that was made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    /// The host's name for it, where it has one.
    pub name: &'static str,
    pub status: Status,
    /// One sentence.
    pub message: String,
    /// The figures behind it: an object.
    pub details: Value,
}

impl Check {
    fn new(name: &'static str, status: Status, message: impl Into<String>, details: Value) -> Self {
        Self { name, status, message: message.into(), details }
    }

    /// Could not be made on this machine, which is no fault of it.
    fn unavailable(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Passed, why, json!({ "available": false }))
    }

    /// Could not be made although it should have been.
    fn broken(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Warning, why, json!({ "available": false }))
    }

    fn value(&self) -> Value {
        json!({ "status": self.status.word(), "message": self.message, "details": self.details })
    }
}

/// The names that can be asked for, in the order they are reported.
const NAMES: [&str; 15] = [
    "disk_space",
    "disk_health",
    "memory_usage",
    "cpu_usage",
    "performance_counters",
    "system_temperature",
    "boot_time",
    "critical_services",
    "security_updates",
    "reboot_required",
    "time_sync",
    "network_connectivity",
    "firewall_status",
    "event_log_errors",
    "application_health",
];

/// Names of the host's that ask for something only Windows has.
const OTHER_SYSTEM: [&str; 7] = [
    "disk_fragmentation",
    "windows_updates",
    "update_services",
    "windows_defender",
    "startup_programs",
    "system_files",
    "registry_health",
];

/// All checks, side by side: a map of name → `{status, message, details}`, with `overall_health`
/// (`Healthy`, `Warning`, `Critical`) and `checks: [{name, status, message, details}]` beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunAllHealthChecks;

impl Action for RunAllHealthChecks {
    const NAMES: &'static [Name] = &[Name::new(
        "RunAllHealthChecks",
        "runs all checks",
        "a map of check to `{status, message, details}`, `overall_health`, `checks`",
    )
    .sent_bare()];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        let every = vec![(Argument::Name, Seen::Everything)];
        Plan::reads(ALL).also([Effect::side_effect("RunHealthCheck", every)])
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        Outcome::data(map(&run_all(cx).await)).into()
    }
}

/// One check by its name, or all as one `{status, message, details}` for a host that names none.
#[derive(Debug, Clone, PartialEq)]
pub struct RunHealthCheck(pub Option<String>);

/// The name of a check.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct CheckArguments {
    check_name: Option<String>,
}

impl Action for RunHealthCheck {
    const NAMES: &'static [Name] = &[
        Name::new(
            "RunHealthCheck",
            "runs one check, or all of them as one",
            "`{status, message, details}`",
        )
        .takes("check_name?")
        .sent_bare(),
        Name::new("GetFirewallStatus", "is RunHealthCheck of firewall_status", "as that"),
        Name::new("CheckFirewallStatus", "is RunHealthCheck of firewall_status", "as that"),
        Name::new("ValidateSystemHealth", "is RunHealthCheck", "as that")
            .takes("check_name?")
            .sent(&[text("check_name", Missing::Absent)]),
    ];
    const RULES: &'static [Argument] = &[Argument::Name];
    type Arguments = CheckArguments;

    fn new(asked: &'static str, arguments: CheckArguments) -> Result<Self, Unfit> {
        let name = match asked {
            "GetFirewallStatus" | "CheckFirewallStatus" => Some("firewall_status".to_owned()),
            _ => arguments.check_name.filter(|name| !name.is_empty()),
        };
        Ok(Self(name.map(|name| plain_name(name, "a check")).transpose()?))
    }

    fn plan(&self) -> Plan {
        match &self.0 {
            Some(name) => Plan::reads(does(name)).with(Argument::Name, name),
            None => Plan::reads(ALL)
                .with_every(Argument::Name)
                .also([Effect::side_effect("RunAllHealthChecks", Vec::new())]),
        }
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        match &self.0 {
            Some(name) => one(cx, name).await.into(),
            None => Outcome::data(summarized(&run_all(cx).await)).into(),
        }
    }
}

const ALL: &str = "makes all health checks, which change nothing; those that ask a program run smartctl, \
     journalctl, nft, iptables-save, chronyc, systemctl, needs-restarting and the package \
     manager, where they are there";

/// One check by name: `{status, message, details, name}`. A name that only Windows knows is passed with
/// a note; one that nobody knows fails with the list of those there are.
async fn one(cx: &Context, name: &str) -> Outcome {
    if OTHER_SYSTEM.contains(&name) {
        let note = format!("{name} is not supported on Linux; nothing was checked");
        let details = json!({ "supported": false });
        return Outcome::data(
            json!({ "name": name, "status": "passed", "message": note, "details": details }),
        );
    }
    match run(cx, name).await {
        Some(check) => {
            let mut data = check.value();
            data["name"] = check.name.into();
            Outcome::data(data)
        }
        None => Outcome::failed(format!(
            "there is no check of that name; there are {}",
            NAMES.join(", ")
        )),
    }
}

/// What the check of this name does, after "it": for `explain`.
fn does(name: &str) -> String {
    let how = match name {
        "disk_space"
        | "memory_usage"
        | "cpu_usage"
        | "performance_counters"
        | "system_temperature"
        | "network_connectivity"
        | "resource_optimization" => "measures and reads; runs no program",
        "disk_health" => "reads /sys, and asks smartctl where it is there",
        "boot_time" => "reads /proc and asks systemd over D-Bus; runs no program",
        "critical_services" => {
            "asks systemd; runs no program where its D-Bus answers, else systemctl"
        }
        "security_updates" => "asks the package manager",
        "reboot_required" => {
            "looks for Debian's mark; runs zypper needs-rebooting or needs-restarting -r elsewhere"
        }
        "time_sync" => "asks systemd over D-Bus; runs chronyc where that does not answer",
        "firewall_status" => "runs nft, iptables-save and ip6tables-save where they are there",
        "event_log_errors" => "runs journalctl where it is there, else reads /dev/kmsg",
        "application_health" => "reads /dev/kmsg; runs no program",
        other if OTHER_SYSTEM.contains(&other) => {
            "answers that this is not for Linux; runs no program"
        }
        _ => {
            return format!(
                "fails: there is no check of that name; there are {}",
                NAMES.join(", ")
            );
        }
    };
    format!("{how}; changes nothing")
}

async fn run(cx: &Context, name: &str) -> Option<Check> {
    Some(match name {
        "disk_space" => disk::check(cx).await,
        "disk_health" => disk::health(cx).await,
        "memory_usage" => load::memory(cx).await,
        "cpu_usage" => load::cpu(cx).await,
        "performance_counters" => load::pressure(cx).await,
        "system_temperature" => load::temperature(cx).await,
        "boot_time" => system::boot(cx).await,
        "critical_services" => system::services(cx).await,
        "security_updates" => system::updates(cx).await,
        "reboot_required" => system::reboot(cx).await,
        "time_sync" => system::clock(cx).await,
        "network_connectivity" => network::check(cx).await,
        "firewall_status" => firewall::check(cx).await,
        "event_log_errors" => journal::check(cx).await,
        "application_health" => crashes::check(cx).await,
        "resource_optimization" => load::resources(cx).await,
        _ => return None,
    })
}

/// Each check has the same nine tenths of the time there is, so that one that hangs costs only itself
/// and the answer still reaches a host that waits.
async fn run_all(cx: &Context) -> Vec<Check> {
    let now = Instant::now();
    let deadline = now + cx.deadline.saturating_duration_since(now).mul_f64(0.9).min(PATIENCE);
    let cx = &Context {
        deadline,
        runner: cx.runner.clone(),
        latest: cx.latest.clone(),
        state: None,
        agent: None,
        ..*cx
    };
    let checks = NAMES.map(async |name| {
        let late = || Check::broken(name, "it did not finish in time");
        timeout_at(deadline, run(cx, name)).await.unwrap_or_else(|_| Some(late()))
    });
    futures::future::join_all(checks).await.into_iter().flatten().collect()
}

fn overall(checks: &[Check]) -> &'static str {
    match checks.iter().map(|check| check.status).max() {
        Some(Status::Failed) => "Critical",
        Some(Status::Warning) => "Warning",
        Some(Status::Passed) | None => "Healthy",
    }
}

fn map(checks: &[Check]) -> Value {
    let mut map: Map<String, Value> =
        checks.iter().map(|check| (check.name.to_owned(), check.value())).collect();
    let list: Vec<Value> = checks
        .iter()
        .map(|check| {
            let mut value = check.value();
            value["name"] = check.name.into();
            value
        })
        .collect();
    map.insert("overall_health".to_owned(), overall(checks).into());
    map.insert("checks".to_owned(), list.into());
    map.into()
}

fn summarized(checks: &[Check]) -> Value {
    let worst = checks.iter().map(|check| check.status).max().unwrap_or(Status::Passed);
    let of = |status| {
        let names: Vec<_> =
            checks.iter().filter(|check| check.status == status).map(|check| check.name).collect();
        names
    };
    let (warnings, failures) = (of(Status::Warning), of(Status::Failed));
    let message = match (warnings.as_slice(), failures.as_slice()) {
        ([], []) => format!("all {} checks passed", checks.len()),
        _ => format!("failed: {}; warnings: {}", words(&failures), words(&warnings)),
    };
    json!({
        "status": worst.word(),
        "message": message,
        "overall_health": overall(checks),
        "details": Map::from_iter(checks.iter().map(|check| (check.name.to_owned(), check.value()))),
    })
}

fn words(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;

    fn has_null(value: &Value) -> bool {
        value.as_object().is_some_and(|map| map.values().any(Value::is_null))
    }

    #[tokio::test]
    async fn all_checks_make_a_map_without_null_and_a_list_of_the_same() {
        let data = RunAllHealthChecks.run(&test_context()).await.outcome.data.unwrap();
        assert!(!has_null(&data), "a null entry makes the host's query fail");
        for name in NAMES {
            let check = &data[name];
            assert!(
                ["passed", "warning", "failed"].contains(&check["status"].as_str().unwrap()),
                "{name}"
            );
            assert!(
                !check["message"].as_str().unwrap().is_empty() && check["details"].is_object(),
                "{name}"
            );
        }
        let list = data["checks"].as_array().unwrap();
        assert_eq!(list.len(), NAMES.len());
        let health = data["overall_health"].as_str().unwrap();
        let any = |word: &str| list.iter().any(|check| check["status"] == word);
        let expected = if any("failed") {
            "Critical"
        } else if any("warning") {
            "Warning"
        } else {
            "Healthy"
        };
        assert_eq!(health, expected);
        assert!(data.to_string().len() < 100_000);
    }

    #[tokio::test]
    async fn a_check_is_found_by_its_name_and_an_unknown_one_is_told_what_there_is() {
        let cx = test_context();
        let data = one(&cx, "memory_usage").await.data.unwrap();
        assert_eq!(data["name"], "memory_usage");
        assert!(one(&cx, "nonsense").await.error.unwrap().contains("disk_space, disk_health"));
        let crashes = one(&cx, "application_health").await;
        assert!(crashes.success && crashes.data.unwrap()["name"] == "application_health");
        let windows = one(&cx, "registry_health").await;
        assert!(windows.success && windows.data.unwrap()["status"] == "passed");
    }

    #[tokio::test]
    async fn a_check_that_has_no_time_left_costs_only_itself() {
        let deadline = Instant::now() + Duration::from_millis(600);
        let checks = run_all(&Context { deadline, ..test_context() }).await;
        assert_eq!(checks.len(), NAMES.len());
        let of = |name| checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(of("cpu_usage").details["available"], false, "it needs a second");
        assert!(of("disk_space").details["mounts"].is_array());
    }

    #[test]
    fn what_a_check_does_is_told_of_each_that_there_is() {
        for name in NAMES.iter().chain(&OTHER_SYSTEM).chain(&["resource_optimization"]) {
            assert!(!does(name).starts_with("fails"), "{name}");
        }
        assert!(does("no such").starts_with("fails: there is no check of that name"));
    }

    #[test]
    fn the_worst_check_decides() {
        let check = |status| Check::new("cpu_usage", status, "m", json!({}));
        assert_eq!(overall(&[]), "Healthy");
        assert_eq!(overall(&[check(Status::Passed), check(Status::Warning)]), "Warning");
        let checks = [check(Status::Failed), check(Status::Warning)];
        assert_eq!(overall(&checks), "Critical");
        let one = summarized(&checks);
        assert_eq!(
            (&one["status"], &one["message"]),
            (&"failed".into(), &"failed: cpu_usage; warnings: cpu_usage".into())
        );
        assert_eq!(Status::above(80.0, 80.0, 90.0), Status::Passed);
        assert_eq!(Status::above(80.1, 80.0, 90.0), Status::Warning);
        assert_eq!(Status::above(99.0, 80.0, 90.0), Status::Failed);
    }
}
