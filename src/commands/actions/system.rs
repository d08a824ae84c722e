//! What kind of machine this is. Does not say how it is doing.

use std::time::Duration;

use serde_json::{Value, json};

use super::ActionError;
use super::action::{Action, NoArguments, Unfit};
use super::page::Name;
use super::plan::Plan;
use super::{ActionOutcome, Context, blocking, find_program, sample};
use crate::commands::outcome::Outcome;
use crate::metrics::collect::{Collector, HostCollector, MemoryCollector, Release};
use crate::model::{Host, Iso8601, SystemMetrics};

/// `{os_type, version, architecture, hostname, kernel_version, linux_distro, windows_edition: null}`
/// and a few facts more.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemInfo;

impl Action for SystemInfo {
    const NAMES: &'static [Name] = &[Name::new(
        "SystemInfo",
        "reports the operating system",
        "`{os_type, version, architecture, hostname, kernel_version, linux_distro, …}`",
    )
    .sent(&[])];
    const IN_AGENT: bool = true;
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("reads what system this is; runs no program")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        facts(cx).await.map_or_else(Outcome::failed, Outcome::data).into()
    }
}

/// The same, with `available_package_managers` and `default_shell`: the one that a raw command gets
/// which names none.
#[derive(Debug, Clone, PartialEq)]
pub struct OsInfo;

impl Action for OsInfo {
    const NAMES: &'static [Name] = &[Name::new(
        "OsInfo",
        "the same, with package managers and the default shell",
        "as SystemInfo, `available_package_managers`, `default_shell`",
    )
    .sent(&[])];
    const IN_AGENT: bool = true;
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads(
            "reads what system this is and which package managers are there; runs no program",
        )
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let managers = blocking(cx.deadline, "looking for package managers", || {
            let found = MANAGERS.iter().filter(|(_, program)| find_program(program).is_some());
            found.map(|(name, _)| *name).collect::<Vec<_>>()
        });
        let outcome = match (facts(cx).await, managers.await) {
            (Ok(mut data), Ok(managers)) => {
                data["available_package_managers"] = managers.into();
                data["default_shell"] = "/bin/sh".into();
                Outcome::data(data)
            }
            (Err(error), _) | (_, Err(error)) => Outcome::failed(error),
        };
        outcome.into()
    }
}

/// Names as the host has them, and the program that shows that one is there.
const MANAGERS: [(&str, &str); 8] = [
    ("apt", "apt-get"),
    ("dnf", "dnf"),
    ("yum", "yum"),
    ("zypper", "zypper"),
    ("pacman", "pacman"),
    ("apk", "apk"),
    ("snap", "snap"),
    ("flatpak", "flatpak"),
];

async fn facts(cx: &Context) -> Result<Value, ActionError> {
    let collectors: Vec<Box<dyn Collector>> =
        vec![Box::new(HostCollector::new()), Box::new(MemoryCollector::new())];
    let reading = sample::over(cx.deadline, Duration::ZERO, collectors).await?;
    let release = blocking(cx.deadline, "reading os-release", Release::read).await?;
    let host = reading.host.clone().ok_or_else(|| {
        ActionError::NoReading("cannot tell what machine this is; look in the log".to_owned())
    })?;
    Ok(info(&host, &release, &reading))
}

fn info(host: &Host, release: &Release, reading: &SystemMetrics) -> Value {
    json!({
        "os_type": "Linux",
        "version": release.version.as_ref().unwrap_or(&host.kernel),
        "architecture": host.architecture,
        "hostname": host.hostname,
        "kernel_version": host.kernel,
        "linux_distro": host.os,
        "linux_distro_id": host.os_id,
        "windows_edition": null,
        "cpu_cores": host.cores,
        "memory_total_kb": reading.memory.as_ref().map(|memory| memory.total_bytes / 1024),
        "boot_time": host.boot_time.map(|at| Iso8601::new(at).as_str().to_owned()),
        "agent_version": env!("CARGO_PKG_VERSION"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use std::process::Command;

    fn said(program: &str, argument: &str) -> String {
        let output = Command::new(program).arg(argument).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn the_machine_is_what_uname_says_it_is() {
        let data = SystemInfo.run(&test_context()).await.outcome.data.unwrap();
        assert_eq!(data["os_type"], "Linux");
        assert_eq!(data["hostname"], said("uname", "-n"));
        assert_eq!(data["kernel_version"], said("uname", "-r"));
        assert_eq!(data["architecture"], said("uname", "-m"));
        assert!(data["windows_edition"].is_null() && data.get("windows_edition").is_some());
        let cores: u64 = said("nproc", "--all").parse().unwrap();
        assert_eq!(data["cpu_cores"], cores);
    }

    #[tokio::test]
    async fn each_package_manager_told_of_is_there_to_be_run() {
        let data = OsInfo.run(&test_context()).await.outcome.data.unwrap();
        let there = |name: &str| find_program(name).is_some();
        let managers = data["available_package_managers"].as_array().unwrap();
        assert_eq!(managers.contains(&"apt".into()), there("apt-get"));
        assert_eq!(managers.contains(&"pacman".into()), there("pacman"));
        assert_eq!(data["default_shell"], "/bin/sh");
    }

    #[test]
    fn a_rolling_system_has_its_kernel_as_its_version() {
        let at = tokio::time::Instant::now();
        let reading = SystemMetrics::empty(std::time::SystemTime::now(), at, Duration::ZERO, 0);
        let host = Host {
            hostname: "h".into(),
            os: "Arch Linux".into(),
            os_id: None,
            kernel: "6.9".into(),
            architecture: "x86_64".into(),
            machine_id: None,
            boot_id: None,
            boot_time: None,
            cores: 1,
        };
        assert_eq!(info(&host, &Release::default(), &reading)["version"], "6.9");
    }
}
