//! Decodes names and arguments of actions, as the host writes them, into [`Action`]s.

use serde::Deserialize;

use super::check;
use crate::commands::decode::argument::{
    Account, ComputerName, DomainName, PackageName, Query, ServiceName,
};
use crate::commands::decode::request::{Action, CleanupLevel, GoldenImage, Join, ServiceOperation};
use crate::commands::verify::secret::Secret;
use crate::model::Rank;
use crate::wire::inbound::{Arguments, Password};

/// In use above this share of a file system, where the host names none: a warning (as it has it itself).
const DISK_WARNING_PERCENT: f64 = 80.0;
/// Above this one: critical.
const DISK_CRITICAL_PERCENT: f64 = 90.0;
/// The longest distinguished name of a place in a directory.
const OU_MAX: usize = 1024;
/// The longest password.
const PASSWORD_MAX: usize = 1024;
/// Targets of one clean-up at most.
const TARGETS_MAX: usize = 32;

/// Decodes an action from its name and arguments; a missing argument gets its default, if there is one.
pub(super) fn decode(name: &str, arguments: Arguments<'_>) -> Result<Action, String> {
    let arguments: Given =
        arguments.read().map_err(|why| format!("the message was not understood: {why}"))?;
    let package = || PackageName::new(arguments.package.as_deref().unwrap_or_default());
    Ok(match name {
        "SystemInfo" => Action::SystemInfo,
        "OsInfo" => Action::OsInfo,
        "UserList" => Action::UserList,
        "ServiceList" => Action::ServiceList,
        "ServiceControl" => {
            let operation = operation(arguments.operation.as_deref())?;
            Action::ServiceControl { service: service(&arguments)?, operation }
        }
        "RestartServices" if service_name(&arguments).is_some() => Action::ServiceControl {
            service: service(&arguments)?,
            operation: ServiceOperation::Restart,
        },
        "PackageList" => Action::PackageList,
        "PackageSearch" => {
            Action::PackageSearch(Query::new(arguments.query.as_deref().unwrap_or_default())?)
        }
        "PackageInstall" => Action::PackageInstall(package()?),
        "PackageRemove" => Action::PackageRemove(package()?),
        "PackageUpdate" => Action::PackageUpdate(package()?),
        "UpdateSystemSoftware" => {
            let named = arguments.package.as_ref().is_some_and(|name| !name.is_empty());
            Action::UpdateSystemSoftware(named.then(package).transpose()?)
        }
        "ProcessList" => Action::ProcessList { limit: arguments.limit },
        "ProcessTop" => {
            Action::ProcessTop { limit: arguments.limit, by: rank(arguments.sort_by.as_deref())? }
        }
        "ProcessKill" => {
            let force = arguments.force.unwrap_or_default();
            Action::ProcessKill { pid: pid(arguments.pid)?, force }
        }
        "CheckDiskSpace" => disk_space(&arguments)?,
        "CheckResourceOptimization" => Action::CheckResourceOptimization,
        "RunHealthCheck" | "ValidateSystemHealth" => {
            let name = arguments.check_name.filter(|name| !name.is_empty());
            Action::RunHealthCheck(name.map(|name| check::plain_name(name, "a check")).transpose()?)
        }
        "RunAllHealthChecks" => Action::RunAllHealthChecks,
        "GetFirewallStatus" | "CheckFirewallStatus" => {
            Action::RunHealthCheck(Some("firewall_status".to_owned()))
        }
        "DiskCleanup" | "CleanTemporaryFiles" => {
            Action::DiskCleanup { targets: targets(arguments.targets)? }
        }
        "CheckLinuxUpdates" | "GetPendingLinuxUpdates" | "GetPendingUpdates" => {
            Action::CheckLinuxUpdates
        }
        "GetInstalledApplicationsWMI" | "GetInstalledApplications" => {
            Action::GetInstalledApplicationsWMI
        }
        "GetApplicationDetails" => {
            let Given { app_id, app_name, package, .. } = arguments;
            match [app_id, app_name, package].into_iter().flatten().find(|name| !name.is_empty()) {
                Some(application) => Action::GetApplicationDetails(PackageName::new(&application)?),
                None => Action::Incomplete {
                    name: name.to_owned(),
                    why: "name the application (app_id)",
                },
            }
        }
        "CheckApplicationUpdates" => Action::CheckApplicationUpdates,
        "GetUpdateHistory" | "GetLinuxUpdateHistory" => Action::GetUpdateHistory,
        "JoinDomain" => join(name, arguments)?,
        "PrepareGoldenImage" => golden_image(name, &arguments)?,
        "RebootSystem" => Action::RebootSystem { force: arguments.force.unwrap_or_default() },
        "CheckWindowsUpdates"
        | "CheckWindowsDefender"
        | "GetDefenderStatus"
        | "RunDefenderQuickScan"
        | "GetThreatHistory"
        | "AutoFixWindowsUpdates"
        | "AutoFixDefender" => Action::OtherSystem(name.to_owned()),
        "" => return Err("the command names no action".to_owned()),
        _ => match why_not_built(name) {
            Some(why) => Action::NotBuilt { name: name.to_owned(), why },
            None => {
                let name = check::shown(name);
                return Err(format!("the action {name:?} is not known to this agent"));
            }
        },
    })
}

/// Why an action that the host knows is not implemented; `None` if it is, or if the name is unknown.
pub fn why_not_built(name: &str) -> Option<&'static str> {
    Some(match name {
        "RunMaintenanceTask" => {
            "maintenance tasks are not built in this agent yet; send what they do as commands"
        }
        "RestartServices" => "restarting every service at once is not done; name one",
        "CheckSystemIntegrity" => "checking installed files is not built in this agent yet",
        "ExecutePowerShellScript" => {
            "PowerShell scripts are for Windows guests; send an UnsafeCommand with shell BASH"
        }
        "AutoOptimizeDisk" => "optimizing disks is not built in this agent yet",
        "CheckSpecificAppUpdates"
        | "EstimateUpdateSize"
        | "GetAvailableUpdates"
        | "GetSecurityUpdates"
        | "GetLinuxSecurityUpdates" => {
            "this view of updates is not built in this agent yet; CheckLinuxUpdates lists them all"
        }
        "EstimateDiskCleanup" => "estimating a clean-up is not built in this agent yet",
        "CheckLinuxSecurity" | "GetLinuxSecurityStatus" | "CheckSecurityModules" => {
            "this security check is not built in this agent yet; RunAllHealthChecks has what there is"
        }
        _ => return None,
    })
}

/// The arguments of all actions.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Given {
    service: Option<String>,
    service_name: Option<String>,
    operation: Option<String>,
    package: Option<String>,
    query: Option<String>,
    limit: Option<u32>,
    sort_by: Option<String>,
    pid: Option<u32>,
    force: Option<bool>,
    warning_threshold: Option<f64>,
    critical_threshold: Option<f64>,
    check_name: Option<String>,
    targets: Option<Vec<String>>,
    app_id: Option<String>,
    app_name: Option<String>,
    domain: Option<String>,
    username: Option<String>,
    password: Option<Password>,
    ou: Option<String>,
    computer_name: Option<String>,
    restart_after: Option<bool>,
    cleanup_level: Option<String>,
    sanitize_user_data: Option<bool>,
    shutdown_after: Option<bool>,
}

fn join(name: &str, arguments: Given) -> Result<Action, String> {
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let Given { domain, username, password, ou, computer_name, restart_after, .. } = arguments;
    let password = password.filter(|password| !password.0.is_empty());
    let (Some(domain), Some(username), Some(password)) = (some(domain), some(username), password)
    else {
        let why = "name the domain, and the username and password of whoever may let machines join";
        return Ok(Action::Incomplete { name: name.to_owned(), why });
    };
    // A line break would end it. The error does not contain the text.
    if password.0.len() > PASSWORD_MAX || password.0.contains(['\n', '\r', '\0']) {
        return Err(format!(
            "the password is longer than {PASSWORD_MAX} bytes, or holds a line break"
        ));
    }
    let Some(password) = Secret::new(password.0.as_bytes().to_vec()) else {
        return Err("the password is empty".to_owned());
    };
    let ou = some(ou).map(|ou| match ou.len() > OU_MAX || ou.chars().any(crate::wire::steers) {
        true => Err(format!(
            "the place in the directory (ou) is longer than {OU_MAX} bytes, or holds what steers"
        )),
        false => Ok(ou),
    });
    let computer_name = some(computer_name).map(|name| ComputerName::new(&name));
    Ok(Action::JoinDomain(Box::new(Join {
        domain: DomainName::new(&domain)?,
        username: Account::new(&username)?,
        password,
        ou: ou.transpose()?,
        computer_name: computer_name.transpose()?,
        restart_after: restart_after.unwrap_or_default(),
    })))
}

/// What cannot be taken back has no default.
fn golden_image(name: &str, arguments: &Given) -> Result<Action, String> {
    let level = arguments.cleanup_level.as_deref().filter(|level| !level.is_empty());
    let (Some(level), Some(sanitize_user_data), Some(shutdown_after)) =
        (level, arguments.sanitize_user_data, arguments.shutdown_after)
    else {
        let why = "say cleanup_level (minimal, standard or deep), sanitize_user_data and shutdown_after; \
                   what is taken away does not come back";
        return Ok(Action::Incomplete { name: name.to_owned(), why });
    };
    let level = match level.to_ascii_lowercase().as_str() {
        "minimal" => CleanupLevel::Minimal,
        "standard" => CleanupLevel::Standard,
        "deep" => CleanupLevel::Deep,
        other => {
            let other = check::shown(other);
            return Err(format!(
                "there is no clean-up level {other:?}; name minimal, standard or deep"
            ));
        }
    };
    Ok(Action::PrepareGoldenImage(GoldenImage { level, sanitize_user_data, shutdown_after }))
}

fn service_name(arguments: &Given) -> Option<&str> {
    let names = [&arguments.service, &arguments.service_name];
    names.into_iter().flatten().map(String::as_str).find(|name| !name.is_empty())
}

fn service(arguments: &Given) -> Result<ServiceName, String> {
    ServiceName::new(service_name(arguments).unwrap_or_default())
}

fn operation(name: Option<&str>) -> Result<ServiceOperation, String> {
    Ok(match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "start" => ServiceOperation::Start,
        "stop" => ServiceOperation::Stop,
        "restart" => ServiceOperation::Restart,
        "enable" => ServiceOperation::Enable,
        "disable" => ServiceOperation::Disable,
        "status" => ServiceOperation::Status,
        other => {
            let other = check::shown(other);
            return Err(format!(
                "a service has no operation {other:?}; \
                 name start, stop, restart, enable, disable or status"
            ));
        }
    })
}

fn rank(name: Option<&str>) -> Result<Rank, String> {
    match name.unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "cpu" | "cpu_usage" | "cpu_percent" => Ok(Rank::Cpu),
        "memory" | "mem" | "memory_kb" | "memory_usage" => Ok(Rank::Memory),
        other => {
            let other = check::shown(other);
            Err(format!("processes are not sorted by {other:?}; name cpu or memory"))
        }
    }
}

/// The kernel's process ids are positive and signed; 0 and negative ones would mean whole groups.
fn pid(pid: Option<u32>) -> Result<u32, String> {
    match pid {
        None => Err("the process is missing; name its pid".to_owned()),
        Some(0) => Err("no process has the pid 0".to_owned()),
        Some(pid) if i32::try_from(pid).is_err() => Err(format!("no process has the pid {pid}")),
        Some(pid) => Ok(pid),
    }
}

fn disk_space(arguments: &Given) -> Result<Action, String> {
    // A default gives way to the one that is named.
    let (warning, critical) = (arguments.warning_threshold, arguments.critical_threshold);
    let warning_percent =
        warning.unwrap_or(DISK_WARNING_PERCENT.min(critical.unwrap_or(DISK_WARNING_PERCENT)));
    let critical_percent = critical.unwrap_or(DISK_CRITICAL_PERCENT.max(warning_percent));
    let is_share = |share: &f64| (0.0..=100.0).contains(share);
    if !is_share(&warning_percent) || !is_share(&critical_percent) {
        return Err("a threshold is a share in use, from 0 to 100 percent".to_owned());
    }
    if warning_percent > critical_percent {
        return Err("the threshold of a warning is above that of a critical state".to_owned());
    }
    Ok(Action::CheckDiskSpace { warning_percent, critical_percent })
}

fn targets(targets: Option<Vec<String>>) -> Result<Vec<String>, String> {
    let targets = targets.unwrap_or_default();
    if targets.len() > TARGETS_MAX {
        return Err(format!("more than {TARGETS_MAX} targets are named"));
    }
    targets.into_iter().map(|name| check::plain_name(name, "a target")).collect()
}
