//! Space on file systems, and whether disks and file systems report errors. Frees nothing.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::ActionError;
use super::super::action::{Action, Unfit};
use super::super::page::Name;
use super::super::plan::Plan;
use super::super::{ActionOutcome, Context, blocking, find_program, program, sample};
use super::{Check, Status, tenth};
use crate::commands::argument::ArgumentError;
use crate::commands::outcome::Outcome;
use crate::commands::process::Exit;
use crate::metrics::collect::{Collector, DiskCollector, DiskOptions};
use crate::model::Mount;
use crate::sort;

/// Shares in use above which the host's analyser warns and calls it critical.
const WARNING_PERCENT: f64 = 80.0;
const CRITICAL_PERCENT: f64 = 90.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// `drives` and `disks`, one object for each real file system in both,
/// because different readers of the host want different names. Sizes are GiB; what is free is
/// what an ordinary user can write; `used_percent` is as in `df`.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckDiskSpace {
    /// Above this share in use: a warning.
    pub warning_percent: f64,
    /// Above this one: critical.
    pub critical_percent: f64,
}

/// Shares in use, in percent.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct DiskArguments {
    warning_threshold: Option<f64>,
    critical_threshold: Option<f64>,
}

impl Action for CheckDiskSpace {
    const NAMES: &'static [Name] =
        &[Name::new("CheckDiskSpace", "measures the file systems", "`{drives: […], disks: […]}`")
            .takes("warning_threshold?, critical_threshold? (percent in use)")
            .sent_bare()];
    type Arguments = DiskArguments;

    fn new(_: &'static str, arguments: DiskArguments) -> Result<Self, Unfit> {
        // A default gives way to the one that is named.
        let DiskArguments { warning_threshold: warning, critical_threshold: critical } = arguments;
        let warning_percent =
            warning.unwrap_or(WARNING_PERCENT.min(critical.unwrap_or(WARNING_PERCENT)));
        let critical_percent = critical.unwrap_or(CRITICAL_PERCENT.max(warning_percent));
        let is_share = |share: &f64| (0.0..=100.0).contains(share);
        if !is_share(&warning_percent) || !is_share(&critical_percent) {
            let why = "a threshold is a share in use, from 0 to 100 percent";
            return Err(ArgumentError::Rule(why).into());
        }
        if warning_percent > critical_percent {
            let why = "the threshold of a warning is above that of a critical state";
            return Err(ArgumentError::Rule(why).into());
        }
        Ok(Self { warning_percent, critical_percent })
    }

    fn plan(&self) -> Plan {
        Plan::reads("measures the file systems; runs no program")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let outcome = match mounts(cx).await {
            Ok((mounts, troubles)) => {
                let mut data = report(&mounts, self.warning_percent, self.critical_percent);
                if !troubles.is_empty() {
                    data["not_readable"] = troubles.into();
                }
                Outcome::data(data)
            }
            Err(error) => Outcome::failed(error),
        };
        outcome.into()
    }
}

/// `disk_space`.
pub(super) async fn check(cx: &Context) -> Check {
    match mounts(cx).await {
        Ok((mounts, troubles)) => judged(&mounts, &troubles),
        Err(error) => Check::broken("disk_space", error),
    }
}

/// `disk_health`: errors that file systems have noted, and SMART where `smartctl` is and a disk has it.
pub(super) async fn health(cx: &Context) -> Check {
    let found = blocking(cx.deadline, "reading /sys", || (noted_errors(), smart_disks())).await;
    let (errors, disks) = match found {
        Ok(found) => found,
        Err(error) => return Check::broken("disk_health", error),
    };
    let mut smart = Vec::new();
    if find_program("smartctl").is_some() {
        for disk in &disks {
            smart.push((disk.clone(), ask_smart(cx, disk).await));
        }
    }
    health_judged(&errors, &disks, &smart)
}

async fn mounts(cx: &Context) -> Result<(Vec<Mount>, Vec<String>), ActionError> {
    let collector: Vec<Box<dyn Collector>> =
        vec![Box::new(DiskCollector::new(DiskOptions::default()))];
    let reading = sample::over(cx.deadline, Duration::ZERO, collector).await?;
    let troubles: Vec<String> = reading.troubles.into_iter().map(|trouble| trouble.what).collect();
    match reading.disk {
        Some(disk) => Ok((disk.mounts.clone(), troubles)),
        None => {
            let why = troubles.into_iter().next();
            Err(ActionError::NoReading(why.unwrap_or_else(|| "cannot list file systems".into())))
        }
    }
}

/// As `df`: what is reserved for root counts neither as used nor as free.
fn used_percent(mount: &Mount) -> f64 {
    let size = mount.used_bytes + mount.available_bytes;
    if size == 0 { 0.0 } else { tenth(mount.used_bytes as f64 * 100.0 / size as f64) }
}

fn gib(bytes: u64) -> f64 {
    (bytes as f64 / GIB * 1_000.0).round() / 1_000.0
}

fn report(mounts: &[Mount], warning_percent: f64, critical_percent: f64) -> Value {
    let drives = mounts.iter().map(|mount| {
        json!({
            "drive": mount.mount_point,
            "drive_letter": mount.mount_point,
            "label": mount.device,
            "mount_point": mount.mount_point,
            "filesystem": mount.filesystem,
            "total_gb": gib(mount.total_bytes),
            "used_gb": gib(mount.used_bytes),
            "free_gb": gib(mount.available_bytes),
            "available_gb": gib(mount.available_bytes),
            "used_percent": used_percent(mount),
            "status": Status::above(used_percent(mount), warning_percent, critical_percent).word(),
        })
    });
    let disks = mounts.iter().map(|mount| {
        json!({
            "mount_point": mount.mount_point,
            "total_gb": gib(mount.total_bytes),
            "used_gb": gib(mount.used_bytes),
            "available_gb": gib(mount.available_bytes),
            "usage_percent": used_percent(mount),
        })
    });
    json!({ "drives": drives.collect::<Vec<_>>(), "disks": disks.collect::<Vec<_>>() })
}

fn judged(mounts: &[Mount], troubles: &[String]) -> Check {
    let details = json!({
        "mounts": report(mounts, WARNING_PERCENT, CRITICAL_PERCENT)["disks"],
        "not_readable": troubles,
    });
    let fullest = mounts.iter().max_by(|a, b| used_percent(a).total_cmp(&used_percent(b)));
    let Some(fullest) = fullest else {
        return Check::unavailable("disk_space", "there is no file system that stores anything");
    };
    let percent = used_percent(fullest);
    let status = Status::above(percent, WARNING_PERCENT, CRITICAL_PERCENT);
    let message = format!(
        "{percent} % of {} is used, {} GiB are free",
        fullest.mount_point,
        gib(fullest.available_bytes)
    );
    Check::new("disk_space", status, message, details)
}

/// File systems that have noted errors since they were last checked:
/// `Documentation/ABI/testing/sysfs-fs-ext4`, `errors_count`.
fn noted_errors() -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir("/sys/fs/ext4") else { return Vec::new() };
    let errors = entries.flatten().filter_map(|entry| {
        let count = std::fs::read_to_string(entry.path().join("errors_count")).ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        Some((name, count.trim().parse().ok()?))
    });
    errors.collect()
}

/// Disks that may have SMART: ATA, SCSI and NVMe. A virtio disk has none.
fn smart_disks() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut disks: Vec<String> = names
        .filter(|name| name.starts_with("sd") || name.starts_with("hd") || name.starts_with("nvme"))
        .collect();
    sort::by(&mut disks, Ord::cmp);
    disks
}

async fn ask_smart(cx: &Context, disk: &str) -> Result<bool, ActionError> {
    let device = format!("/dev/{disk}");
    let asked = program("smartctl", &["--json=c", "-H", "-n", "standby", &device], cx.deadline);
    let finished = cx.runner.run(asked).await?;
    match finished.exit {
        // The code is a set of bits, of which some tell of errors long past.
        Exit::Code(_) => smart_passed(&finished.stdout.text).ok_or(ActionError::NoHealth),
        _ => Err(ActionError::Unfinished("smartctl")),
    }
}

fn smart_passed(text: &str) -> Option<bool> {
    serde_json::from_str::<Value>(text).ok()?.get("smart_status")?.get("passed")?.as_bool()
}

fn health_judged(
    errors: &[(String, u64)],
    disks: &[String],
    smart: &[(String, Result<bool, ActionError>)],
) -> Check {
    let failing: Vec<&str> = smart
        .iter()
        .filter(|(_, passed)| matches!(passed, Ok(false)))
        .map(|(disk, _)| disk.as_str())
        .collect();
    let damaged: Vec<&str> =
        errors.iter().filter(|(_, count)| *count > 0).map(|(name, _)| name.as_str()).collect();
    let asked = smart.iter().filter(|(_, passed)| passed.is_ok()).count();
    let details = json!({
        "filesystem_errors": errors.iter().map(|(name, count)| json!({ "device": name, "errors": count })).collect::<Vec<_>>(),
        "smart": smart.iter().map(|(disk, passed)| match passed {
            Ok(passed) => json!({ "disk": disk, "passed": passed }),
            Err(why) => json!({ "disk": disk, "note": why.to_string() }),
        }).collect::<Vec<_>>(),
        "smart_available": asked > 0,
    });
    if !failing.is_empty() || !damaged.is_empty() {
        let mut what = Vec::new();
        if !failing.is_empty() {
            what.push(format!("SMART says that {} is failing", failing.join(", ")));
        }
        if !damaged.is_empty() {
            what.push(format!(
                "the file system on {} has noted errors; check it with fsck",
                damaged.join(", ")
            ));
        }
        return Check::new("disk_health", Status::Failed, what.join("; "), details);
    }
    let smart = match (asked, disks.len()) {
        (0, 0) => "SMART is not available: no disk of this machine has it".to_owned(),
        (0, _) => "SMART is not available (is smartmontools installed?)".to_owned(),
        (asked, _) => format!("SMART passed on {asked} disks"),
    };
    let message = format!("no errors noted on {} file systems; {smart}", errors.len());
    Check::new("disk_health", Status::Passed, message, details)
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn the_space_is_what_df_says_it_is() {
        let data = CheckDiskSpace { warning_percent: 80.0, critical_percent: 90.0 }
            .run(&test_context())
            .await
            .outcome
            .data
            .unwrap();
        let output =
            Command::new("df").args(["-B1", "--output=size,used,avail,pcent", "/"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let words: Vec<f64> = text
            .lines()
            .nth(1)
            .unwrap()
            .split_whitespace()
            .map(|word| word.trim_end_matches('%').parse().unwrap())
            .collect();
        let drive = &data["drives"][0];
        assert_eq!((&drive["drive"], &drive["mount_point"]), (&"/".into(), &"/".into()));
        let near = |name: &str, bytes: f64| {
            let reported = drive[name].as_f64().unwrap();
            assert!((reported - bytes / GIB).abs() < 0.5, "{name} {reported} {}", bytes / GIB);
        };
        near("total_gb", words[0]);
        near("used_gb", words[1]);
        near("free_gb", words[2]);
        // df rounds up.
        assert!((drive["used_percent"].as_f64().unwrap() - words[3]).abs() <= 1.5);
        assert_eq!(data["disks"][0]["usage_percent"], drive["used_percent"]);
        assert!(data.get("check_name").is_none());
    }

    fn mount(used: u64, available: u64) -> Mount {
        Mount {
            mount_point: "/".into(),
            total_bytes: used + available + 5,
            used_bytes: used,
            available_bytes: available,
            ..Mount::default()
        }
    }

    #[test]
    fn the_fullest_file_system_decides() {
        assert_eq!(judged(&[mount(10, 90), mount(85, 15)], &[]).status, Status::Warning);
        assert_eq!(judged(&[mount(91, 9)], &[]).status, Status::Failed);
        assert_eq!(judged(&[mount(80, 20)], &[]).status, Status::Passed);
        assert_eq!(judged(&[mount(0, 0)], &[]).status, Status::Passed);
        assert_eq!(judged(&[], &[]).details["available"], false);
    }

    #[test]
    fn a_failing_disk_or_a_damaged_file_system_fails() {
        let smart = smart_passed(r#"{"smart_status":{"passed":false,"nvme":{"value":4}}}"#);
        assert_eq!(smart, Some(false));
        assert_eq!(smart_passed(r#"{"smartctl":{"exit_status":2}}"#), None);
        assert_eq!(smart_passed("not JSON"), None);
        let disks = ["sda".to_owned()];
        let failing = health_judged(&[], &disks, &[("sda".into(), Ok(false))]);
        assert_eq!(failing.status, Status::Failed);
        assert_eq!(health_judged(&[("vda".into(), 2)], &[], &[]).status, Status::Failed);
        let none = health_judged(&[("vda".into(), 0)], &[], &[]);
        assert!(none.status == Status::Passed && none.message.contains("not available"));
    }
}
