//! Services, through systemd's bus or else its `systemctl`. Knows no other init system, and says so.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::outcome::Outcome;
use super::super::request::ServiceOperation;
use super::super::words::ServiceName;
use super::systemd::{Bus, Unit, UnitFile};
use super::{Context, find_program, fit, power, systemctl};

/// An array of `{name, display_name, description, status, startup_type, can_start, can_stop,
/// can_restart, load_state, active_state, sub_state}`, in the order of names.
///
/// `startup_type` is systemd's word for the unit file (`enabled`, `disabled`, `static`, …). `can_start`
/// and its like follow from the state; a unit that refuses to be started by hand is not asked.
pub async fn list(cx: &Context) -> Outcome {
    let listed = match reach(cx).await {
        Ok(Way::Bus(bus)) => {
            let units = bus.units(&[], &["*.service"]).await;
            both(units, bus.unit_files().await)
        }
        Ok(Way::Program(_)) => {
            let units = systemctl::units(cx, &["--type=service"]).await;
            both(units, systemctl::unit_files(cx).await)
        }
        Err(error) => Err(error),
    };
    match listed {
        Ok((units, files)) => {
            let (services, cut) = fit(merge(units, files).iter().map(row).collect());
            let mut outcome = Outcome::data(services.into());
            if cut > 0 {
                outcome.stdout =
                    format!("{cut} services were left out; there are too many for one answer");
            }
            outcome
        }
        Err(error) => Outcome::failed(error),
    }
}

/// Does `operation` and tells how the service is afterwards, as one object of [`list`].
pub async fn control(cx: &Context, service: &ServiceName, operation: ServiceOperation) -> Outcome {
    let name = unit_name(service.as_str());
    let way = match reach(cx).await {
        Ok(way) => way,
        Err(error) => return Outcome::failed(error),
    };
    let done = match &way {
        Way::Bus(bus) => bus.control(&name, operation).await,
        Way::Program(_) => systemctl::control(cx, &name, operation).await,
    };
    let state = state(cx, &way, &name).await;
    match (done, state) {
        (Ok(()), Ok(service)) if operation == ServiceOperation::Status && !service.is_there() => {
            Outcome::failed(format!("there is no service {name}; list the services"))
        }
        (Ok(()), Ok(service)) => {
            let mut outcome = Outcome::said(format!("{name} is {}", service.status()));
            outcome.data = Some(row(&service));
            outcome
        }
        (Ok(()), Err(error)) if operation == ServiceOperation::Status => Outcome::failed(error),
        (Ok(()), Err(_)) => Outcome::said(format!("{operation:?} of {name} is done")),
        (Err(error), state) => {
            let mut outcome = Outcome::failed(format!("{operation:?} of {name}: {error}"));
            outcome.data = state.ok().filter(Service::is_there).as_ref().map(row);
            outcome
        }
    }
}

/// Units of any kind that have failed, with their descriptions.
///
/// # Errors
/// The end of a sentence, where there is no systemd or it does not answer.
pub(super) async fn failed(cx: &Context) -> Result<Vec<(String, String)>, String> {
    let units = match reach(cx).await? {
        Way::Bus(bus) => bus.units(&["failed"], &[]).await?,
        Way::Program(_) => systemctl::units(cx, &["--state=failed"]).await?,
    };
    Ok(units.into_iter().map(|unit| (unit.name, unit.description)).collect())
}

/// A connection to systemd's bus, where this machine has one.
pub(super) async fn bus(cx: &Context) -> Result<Bus, String> {
    match reach(cx).await? {
        Way::Bus(bus) => Ok(bus),
        Way::Program(why) => Err(why),
    }
}

enum Way {
    Bus(Bus),
    /// And why not the bus.
    Program(String),
}

async fn reach(cx: &Context) -> Result<Way, String> {
    if !power::is_systemd() {
        return Err("this machine does not run systemd, and services of other init systems are not known here".to_owned());
    }
    match Bus::connect(cx.deadline).await {
        Ok(bus) => Ok(Way::Bus(bus)),
        Err(error) if find_program("systemctl").is_some() => {
            tracing::debug!(%error, "systemctl is used instead of the bus");
            Ok(Way::Program(error))
        }
        Err(error) => Err(format!("{error}, and there is no systemctl")),
    }
}

async fn state(cx: &Context, way: &Way, name: &str) -> Result<Service, String> {
    match way {
        Way::Bus(bus) => {
            let unit = bus.unit(name).await?;
            Ok(Service { unit, startup: bus.file_state(name).await })
        }
        Way::Program(_) => {
            let units = systemctl::units(cx, &["--", name]).await?;
            let files = systemctl::unit_files(cx).await?;
            let known = merge(units, files).into_iter().find(|service| service.unit.name == name);
            known.ok_or_else(|| format!("there is no service {name}; list the services"))
        }
    }
}

/// Adds the suffix where there is none that systemd knows.
fn unit_name(name: &str) -> String {
    // systemd.unit(5)
    const SUFFIXES: [&str; 11] = [
        "service",
        "socket",
        "device",
        "mount",
        "automount",
        "swap",
        "target",
        "path",
        "timer",
        "slice",
        "scope",
    ];
    match name.rsplit_once('.') {
        Some((_, suffix)) if SUFFIXES.contains(&suffix) => name.to_owned(),
        _ => format!("{name}.service"),
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Service {
    unit: Unit,
    /// State of its file; empty where it has none.
    startup: String,
}

impl Service {
    fn is_there(&self) -> bool {
        self.unit.load != "not-found"
    }

    /// In the host's words, `running` and `stopped`, and a few that it shows as they are.
    fn status(&self) -> &'static str {
        match self.unit.active.as_str() {
            "active" | "reloading" | "refreshing" => "running",
            "activating" => "starting",
            "deactivating" => "stopping",
            "failed" => "failed",
            _ => "stopped",
        }
    }
}

/// Units in memory, and those that are only files, as stopped. A file of a template (`getty@.service`) is
/// no service, but tells how its instances start; a name that something refers to and that is not there
/// is none either, nor is another name of a service.
fn merge(units: Vec<Unit>, files: Vec<UnitFile>) -> Vec<Service> {
    let (templates, files): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|file| file.name.contains("@."));
    let mut services: BTreeMap<String, Service> = BTreeMap::new();
    for unit in units.into_iter().filter(|unit| unit.load != "not-found") {
        let of = template(&unit.name);
        let template = templates.iter().find(|file| of.as_deref() == Some(&file.name));
        let startup = template.map(|file| file.state.clone()).unwrap_or_default();
        services.insert(unit.name.clone(), Service { unit, startup });
    }
    for UnitFile { name, state } in files.into_iter().filter(|file| file.state != "alias") {
        let service = services.entry(name.clone()).or_insert_with(|| {
            let load = if state.starts_with("masked") { "masked" } else { "loaded" };
            let (load, active, sub) = (load.to_owned(), "inactive".to_owned(), "dead".to_owned());
            Service {
                unit: Unit { name, load, active, sub, description: String::new() },
                ..Service::default()
            }
        });
        service.startup = state;
    }
    services.into_values().collect()
}

/// The file that an instance is made of: `getty@.service` for `getty@tty1.service`.
fn template(name: &str) -> Option<String> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let (prefix, _) = stem.split_once('@')?;
    Some(format!("{prefix}@.{suffix}"))
}

fn both<A, B>(a: Result<A, String>, b: Result<B, String>) -> Result<(A, B), String> {
    Ok((a?, b?))
}

fn row(service: &Service) -> Value {
    let unit = &service.unit;
    let running = matches!(service.status(), "running" | "starting");
    let loaded = unit.load == "loaded";
    let short = unit.name.strip_suffix(".service").unwrap_or(&unit.name);
    let description = if unit.description.is_empty() { short } else { &unit.description };
    let startup = if service.startup.is_empty() { "none" } else { &service.startup };
    json!({
        "name": short,
        "display_name": description,
        "description": description,
        "status": service.status(),
        "startup_type": startup,
        "can_start": loaded && !running,
        "can_stop": running,
        "can_restart": loaded,
        "load_state": unit.load,
        "active_state": unit.active,
        "sub_state": unit.sub,
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;

    fn unit(name: &str, load: &str, active: &str, sub: &str) -> Unit {
        let [name, load, active, sub] = [name, load, active, sub].map(str::to_owned);
        Unit { name, load, active, sub, description: "What it does".into() }
    }

    fn file(name: &str, state: &str) -> UnitFile {
        UnitFile { name: name.into(), state: state.into() }
    }

    #[test]
    fn what_is_running_and_what_is_only_a_file_make_one_list() {
        let units = vec![
            unit("cron.service", "loaded", "active", "running"),
            unit("plymouth.service", "not-found", "inactive", "dead"),
            unit("getty@tty1.service", "loaded", "active", "running"),
            unit("logrotate.service", "loaded", "failed", "failed"),
        ];
        let files = vec![
            file("cron.service", "enabled"),
            file("getty@.service", "enabled"),
            file("rsync.service", "disabled"),
            file("x11-common.service", "masked"),
            file("dbus-org.freedesktop.login1.service", "alias"),
        ];
        let services: Vec<Value> = merge(units, files).iter().map(row).collect();
        let told: Vec<_> = services
            .iter()
            .map(|s| {
                (
                    s["name"].as_str().unwrap(),
                    s["status"].as_str().unwrap(),
                    s["startup_type"].as_str().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("cron", "running", "enabled"),
                ("getty@tty1", "running", "enabled"),
                ("logrotate", "failed", "none"),
                ("rsync", "stopped", "disabled"),
                ("x11-common", "stopped", "masked"),
            ]
        );
        assert_eq!(
            (&services[0]["can_start"], &services[0]["can_stop"]),
            (&false.into(), &true.into())
        );
        assert_eq!(services[4]["can_start"], false, "what is masked cannot be started");
        assert_eq!(services[3]["display_name"], "rsync");
    }

    #[test]
    fn a_name_gets_a_suffix_only_where_it_has_none_that_systemd_knows() {
        for (name, unit) in [
            ("cron", "cron.service"),
            ("ssh.socket", "ssh.socket"),
            ("org.cups.cupsd", "org.cups.cupsd.service"),
            ("getty@tty1", "getty@tty1.service"),
            ("apt-daily.timer", "apt-daily.timer"),
        ] {
            assert_eq!(unit_name(name), unit);
        }
    }

    #[tokio::test]
    async fn a_machine_without_systemd_says_so_instead_of_listing_nothing() {
        if power::is_systemd() {
            eprintln!("skipped: this machine runs systemd");
            return;
        }
        let cx = test_context();
        let listed = list(&cx).await;
        assert!(!listed.success && listed.data.is_none());
        assert!(listed.error.unwrap().contains("does not run systemd"));
        let name = ServiceName::new("cron").unwrap();
        let started = control(&cx, &name, ServiceOperation::Start).await;
        assert!(started.error.unwrap().contains("does not run systemd"));
    }
}
