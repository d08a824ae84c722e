//! Checks of the system as a whole: boot, failed units, updates, restart, clock. Changes none of them.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::super::packages::Root;
use super::super::{
    Context, blocking, find_program, program, sample, services as units, updates as pending,
};
use super::{Check, Status};
use crate::commands::process::Exit;
use crate::commands::systemd;
use crate::metrics::collect::{Collector, HostCollector, LoadCollector};
use crate::model::Iso8601;

/// A boot that took longer is a warning.
const BOOT_MAX: Duration = Duration::from_secs(180);
/// Units without which a machine is not of much use: what fails among them is a failure.
const CRITICAL: [&str; 10] = [
    "dbus.service",
    "dbus-broker.service",
    "local-fs.target",
    "network.target",
    "networking.service",
    "NetworkManager.service",
    "systemd-journald.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-udevd.service",
];

/// `boot_time`: when the machine booted, and how long that took where systemd tells.
pub(super) async fn boot(cx: &Context) -> Check {
    const NAME: &str = "boot_time";
    let collectors: Vec<Box<dyn Collector>> =
        vec![Box::new(HostCollector::new()), Box::new(LoadCollector::new())];
    let reading = match sample::over(cx.deadline, Duration::ZERO, collectors).await {
        Ok(reading) => reading,
        Err(error) => return Check::broken(NAME, error),
    };
    let (Some(host), Some(load)) = (reading.host, reading.load) else {
        return Check::broken(NAME, "the time of the boot cannot be read");
    };
    let took = match units::bus(cx).await {
        Ok(bus) => bus.boot_took().await.ok().filter(|micros| *micros > 0),
        Err(_) => None,
    };
    let at = host.boot_time.map(|at| Iso8601::new(at).as_str().to_owned()).unwrap_or_default();
    let mut message = format!("the machine has been up for {} s", load.uptime_seconds);
    let mut details = json!({ "boot_time": at, "uptime_seconds": load.uptime_seconds });
    let mut status = Status::Passed;
    if let Some(micros) = took {
        let took = Duration::from_micros(micros);
        message = format!("{message}; its boot took {:.1} s", took.as_secs_f64());
        details["boot_seconds"] = took.as_secs_f64().into();
        status = if took > BOOT_MAX { Status::Warning } else { status };
    }
    Check::new(NAME, status, message, details)
}

/// `critical_services`: units of systemd that have failed; a warning, or failed where one of those has
/// that hold up the others.
pub(super) async fn services(cx: &Context) -> Check {
    const NAME: &str = "critical_services";
    if !systemd::is_running() {
        return Check::unavailable(
            NAME,
            "this machine does not run systemd, so no service can be asked for its state",
        );
    }
    match units::failed(cx).await {
        Ok(failed) => judged(&failed),
        Err(error) => Check::broken(NAME, error),
    }
}

/// `security_updates`: what is pending by what the package manager knows now.
pub(super) async fn updates(cx: &Context) -> Check {
    const NAME: &str = "security_updates";
    match pending::pending(cx).await {
        Ok(pending) => {
            // Where nothing tells, any of them may be.
            let status = match pending.security.unwrap_or(pending.total) {
                0 => Status::Passed,
                _ => Status::Warning,
            };
            let security = match pending.security {
                Some(some) => format!("{some} of them for security"),
                None => "and it is not told which are for security".to_owned(),
            };
            let message = format!("{} updates are pending, {security}", pending.total);
            let details = json!({ "pending": pending.total, "security": pending.security });
            Check::new(NAME, status, message, details)
        }
        Err(error) => Check::unavailable(NAME, format!("pending updates are not known: {error}")),
    }
}

/// `reboot_required`: whether something that was updated waits for a restart.
pub(super) async fn reboot(cx: &Context) -> Check {
    const NAME: &str = "reboot_required";
    match pending::reboot_required(&Root::machine(), cx).await {
        (Some(true), since) => {
            let since = since.unwrap_or_default();
            let message = "updates wait for a restart of the machine";
            Check::new(NAME, Status::Warning, message, json!({ "required": true, "since": since }))
        }
        (Some(false), _) => Check::new(
            NAME,
            Status::Passed,
            "nothing waits for a restart",
            json!({ "required": false }),
        ),
        (None, _) => {
            Check::unavailable(NAME, "nothing on this machine tells whether it needs a restart")
        }
    }
}

/// `time_sync`: whether the clock follows another one. Asks systemd's timedate1, then chrony, then looks
/// for the mark of systemd-timesyncd.
pub(super) async fn clock(cx: &Context) -> Check {
    const NAME: &str = "time_sync";
    let found = |synchronised: bool, by: &str| {
        let details = json!({ "synchronised": synchronised, "told_by": by });
        if synchronised {
            Check::new(
                NAME,
                Status::Passed,
                format!("the clock is synchronised, {by} says"),
                details,
            )
        } else {
            let message = format!(
                "the clock is not synchronised, {by} says; commands of the host expire when it is 5 minutes off"
            );
            Check::new(NAME, Status::Warning, message, details)
        }
    };
    if let Ok(bus) = units::bus(cx).await
        && let Ok(synchronised) = bus.clock_is_synchronised().await
    {
        return found(synchronised, "timedate1");
    }
    if find_program("chronyc").is_some()
        && let Ok(finished) =
            cx.runner.run(program("chronyc", &["-c", "tracking"], cx.deadline)).await
        && finished.exit == Exit::Code(0)
        && let Some(synchronised) = chrony(&finished.stdout.text)
    {
        return found(synchronised, "chrony");
    }
    let mark = blocking(cx.deadline, "reading /run", || {
        Path::new("/run/systemd/timesync/synchronized").exists()
    });
    if matches!(mark.await, Ok(true)) {
        return found(true, "systemd-timesyncd");
    }
    Check::unavailable(NAME, "no program on this machine tells whether its clock is synchronised")
}

fn judged(failed: &[(String, String)]) -> Check {
    const NAME: &str = "critical_services";
    let details = json!({
        "failed": failed.iter().take(100)
            .map(|(name, description)| json!({ "name": name, "description": description })).collect::<Vec<_>>(),
        "count": failed.len(),
    });
    let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
    let critical = names.iter().any(|name| CRITICAL.contains(name));
    let some = names.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    match (names.len(), critical) {
        (0, _) => Check::new(NAME, Status::Passed, "no unit has failed", details),
        (count, false) => {
            Check::new(NAME, Status::Warning, format!("{count} units have failed: {some}"), details)
        }
        (count, true) => {
            Check::new(NAME, Status::Failed, format!("{count} units have failed: {some}"), details)
        }
    }
}

/// `chronyc -c tracking`: comma-separated, the last field is the leap status, `Not synchronised` among
/// its words (chronyc(1)).
fn chrony(text: &str) -> Option<bool> {
    let line = text.lines().next()?;
    let fields: Vec<&str> = line.split(',').collect();
    (fields.len() >= 14).then(|| *fields.last().unwrap_or(&"") != "Not synchronised")
}

#[cfg(test)]
mod tests {
    use super::super::super::test_context;
    use super::*;

    #[tokio::test]
    async fn the_boot_is_as_long_ago_as_the_kernel_says() {
        let check = boot(&test_context()).await;
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = text.split(' ').next().unwrap().parse().unwrap();
        let reported = check.details["uptime_seconds"].as_f64().unwrap();
        assert!((reported - uptime).abs() < 2.0, "{reported} {uptime}");
        assert_eq!(check.details["boot_time"].as_str().unwrap().len(), 24);
    }

    #[test]
    fn a_unit_that_holds_up_the_others_fails_the_check_and_another_one_warns() {
        let unit = |name: &str| (name.to_owned(), "What it does".to_owned());
        assert_eq!(judged(&[]).status, Status::Passed);
        let check = judged(&[unit("logrotate.service")]);
        assert!(check.status == Status::Warning && check.message.contains("logrotate"));
        assert_eq!(
            judged(&[unit("logrotate.service"), unit("dbus.service")]).status,
            Status::Failed
        );
    }

    #[tokio::test]
    async fn a_machine_without_systemd_has_no_unit_that_failed_and_says_why() {
        if systemd::is_running() {
            eprintln!("skipped: this machine runs systemd");
            return;
        }
        let check = services(&test_context()).await;
        assert!(check.status == Status::Passed && check.message.contains("does not run systemd"));
    }

    #[test]
    fn chrony_says_in_its_last_field_whether_it_follows_a_clock() {
        let line = "A29FC87B,162.159.200.123,4,1718000000.123,0.000012,-0.000003,0.00002,-1.2,0.001,0.02,0.01,0.0005,64.5,Normal\n";
        assert_eq!(chrony(line), Some(true));
        assert_eq!(chrony(&line.replace("Normal", "Not synchronised")), Some(false));
        assert_eq!(chrony("506 Cannot talk to daemon\n"), None);
        assert_eq!(chrony(""), None);
    }
}
