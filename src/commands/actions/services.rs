//! Services, through systemd's bus or else its `systemctl`. Knows no other init system, and says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::ActionError;
use super::action::{Action, NoArguments, Refused, SideEffects, Unfit};
use super::page::{Missing, Name, text};
use super::plan::{Argument, Effect, Part, Plan, Value as Seen};
use super::{ActionOutcome, Context, find_program, systemctl};
use crate::commands::argument::{ArgumentError, ServiceName, shown, unit_of};
use crate::commands::outcome::Outcome;
pub use crate::commands::systemd::ServiceOperation;
use crate::commands::systemd::{self, Bus, Properties, SystemdError, Unit, UnitFile};

/// An array of `{name, display_name, description, status, startup_type, can_start, can_stop,
/// can_restart, load_state, active_state, sub_state}`, in the order of names.
///
/// `startup_type` is systemd's word for the unit file (`enabled`, `disabled`, `static`, …). `can_start`
/// and its like follow from the state; a unit that refuses to be started by hand is not asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceList;

impl Action for ServiceList {
    const NAMES: &'static [Name] = &[Name::new(
        "ServiceList",
        "lists systemd's services, also those that are only files",
        "`[{name, display_name, status, startup_type, can_start, …}]`",
    )
    .sent(&[])];
    const IN_AGENT: bool = true;
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("asks systemd; runs no program where its D-Bus answers, else systemctl")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let listed = match reach(cx).await {
            Ok(SystemdAccess::Bus(bus)) => {
                let units = bus.units(&[], &["*.service"]).await;
                both(units, bus.unit_files().await)
            }
            Ok(SystemdAccess::Program(_)) => {
                let units = systemctl::units(cx, &["--type=service"]).await;
                both(units, systemctl::unit_files(cx).await)
            }
            Err(error) => Err(error),
        };
        let outcome = match listed {
            Ok((units, files)) => Outcome::data(merge(units, files).iter().map(row).collect()),
            Err(error) => Outcome::failed(error),
        };
        outcome.into()
    }
}

/// Does something with a service and says how it is afterwards, as one object of [`ServiceList`].
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceControl {
    /// Which.
    pub service: ServiceName,
    /// What to do with it.
    pub operation: ServiceOperation,
}

/// The arguments of [`ServiceControl`].
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct ServiceArguments {
    service: Option<String>,
    service_name: Option<String>,
    operation: Option<String>,
}

/// `ServiceControl` with the operation `restart`.
const RESTART: &str = "RestartServices";

impl Action for ServiceControl {
    const NAMES: &'static [Name] = &[
        Name::new(
            "ServiceControl",
            "starts, stops, restarts, enables, disables or queries a unit of systemd, and waits until that is done",
            "one item of ServiceList",
        )
        .takes("service, operation: start, stop, restart, enable, disable or status (beside `action` or in `params`)")
        .sent_nested(&[text("service", Missing::Refused), text("operation", Missing::Refused)]),
        Name::new(RESTART, "restarts one service; all at once is refused", "as ServiceControl")
            .takes("service_name")
            .sent(&[text("service_name", Missing::Absent)]),
    ];
    const RULES: &'static [Argument] = &[Argument::Service, Argument::Operation];
    type Arguments = ServiceArguments;

    fn new(asked: &'static str, arguments: ServiceArguments) -> Result<Self, Unfit> {
        let ServiceArguments { service, service_name, operation } = arguments;
        let name = [service, service_name].into_iter().flatten().find(|name| !name.is_empty());
        let operation = match (asked, &name) {
            (RESTART, None) => {
                let why = "restarting every service at once is not done; name one";
                return Err(Unfit::Refused(Refused::NotBuilt(why)));
            }
            (RESTART, Some(_)) => ServiceOperation::Restart,
            _ => ServiceOperation::named(operation.as_deref().unwrap_or_default())?,
        };
        Ok(Self { service: ServiceName::new(name.as_deref().unwrap_or_default())?, operation })
    }

    fn plan(&self) -> Plan {
        let Self { service, operation } = self;
        let word = operation.name();
        let plan = match operation {
            ServiceOperation::Status => Plan::reads(format!(
                "asks systemd how {service} is; runs no program where its D-Bus answers, else systemctl"
            )),
            _ => Plan::changes(format!(
                "asks systemd to {word} {service}, and how it is then; runs no program where its \
                 D-Bus answers, else systemctl"
            )),
        };
        plan.with(Argument::Service, service.as_str())
            .with(Argument::Operation, word)
            .also(restarts(&service.unit(), *operation))
    }

    fn side_effects<'a>(&'a self, cx: &'a Context) -> SideEffects<'a> {
        side_effects(cx, &self.service, self.operation).boxed()
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        control(cx, &self.service, self.operation).await.into()
    }
}

impl ServiceOperation {
    /// The operation of this name, in any case.
    fn named(name: &str) -> Result<Self, ArgumentError> {
        let all =
            [Self::Start, Self::Stop, Self::Restart, Self::Enable, Self::Disable, Self::Status];
        let named = all.into_iter().find(|operation| name.eq_ignore_ascii_case(operation.name()));
        named.ok_or_else(|| ArgumentError::Choice {
            what: "a service has no operation",
            given: shown(&name.to_ascii_lowercase()),
            choices: "start, stop, restart, enable, disable or status",
        })
    }
}

async fn control(cx: &Context, service: &ServiceName, operation: ServiceOperation) -> Outcome {
    let name = service.unit();
    let access = match reach(cx).await {
        Ok(access) => access,
        Err(error) => return Outcome::failed(error),
    };
    let done = match &access {
        SystemdAccess::Bus(bus) => bus.control(&name, operation).await,
        SystemdAccess::Program(_) => systemctl::control(cx, &name, operation).await,
    };
    let state = state(cx, &access, &name).await;
    match (done, state) {
        (Ok(()), Ok(service)) if operation == ServiceOperation::Status && !service.is_there() => {
            Outcome::failed(format!("there is no service {name}; list the services"))
        }
        (Ok(()), Ok(service)) => {
            let mut outcome = Outcome::text(format!("{name} is {}", service.status()));
            outcome.data = Some(row(&service));
            outcome
        }
        (Ok(()), Err(error)) if operation == ServiceOperation::Status => Outcome::failed(error),
        (Ok(()), Err(_)) => Outcome::text(format!("{operation:?} of {name} is done")),
        (Err(error), state) => {
            let mut outcome = Outcome::failed(format!("{operation:?} of {name}: {error}"));
            outcome.data = state.ok().filter(Service::is_there).as_ref().map(row);
            outcome
        }
    }
}

/// What an operation on a unit does to others: its other names, what a start pulls in that is not there yet, what a
/// stop takes along.
///
/// # Errors
/// systemd cannot tell, or reports too much.
async fn side_effects(
    cx: &Context,
    service: &ServiceName,
    operation: ServiceOperation,
) -> Result<Vec<Effect<'static>>, ActionError> {
    if operation == ServiceOperation::Status || !systemd::is_running() {
        return Ok(Vec::new()); // without systemd the action fails by itself
    }
    let access = reach(cx).await?;
    let mut effects = Vec::new();
    let mut known = BTreeSet::from([(service.unit(), operation)]);
    let mut next: VecDeque<(String, ServiceOperation)> = known.iter().cloned().collect();
    while let Some((unit, does)) = next.pop_front() {
        let properties = match &access {
            SystemdAccess::Bus(bus) => bus.properties(&unit).await?,
            SystemdAccess::Program(_) => systemctl::properties(cx, &unit, &LOOKED_AT).await?,
        };
        let first = unit == service.unit();
        let (also, pulled) = follows(&unit, does, first, &properties);
        effects.extend(also);
        for one in pulled {
            if known.len() >= UNITS_MAX {
                return Err(SystemdError::TooManyUnits(unit).into());
            }
            if known.insert(one.clone()) {
                next.push_back(one);
            }
        }
    }
    Ok(effects)
}

/// The most units that are looked at for one operation.
const UNITS_MAX: usize = 512;

/// Properties that say what follows: org.freedesktop.systemd1(5).
const PULLED: [&str; 6] = ["Requires", "Requisite", "Wants", "BindsTo", "Upholds", "Triggers"];
const TAKEN: [&str; 3] = ["RequiredBy", "BoundBy", "ConsistsOf"];
const LOOKED_AT: [&str; 12] = [
    "Names",
    "ActiveState",
    "SuccessAction",
    "Requires",
    "Requisite",
    "Wants",
    "BindsTo",
    "Upholds",
    "Triggers",
    "RequiredBy",
    "BoundBy",
    "ConsistsOf",
];

/// What an operation on one unit is, by what systemd knows of it, and which operations on others follow. Nothing where
/// the unit is in that state already and was not asked for itself.
fn follows(
    unit: &str,
    operation: ServiceOperation,
    first: bool,
    properties: &Properties,
) -> (Vec<Effect<'static>>, Vec<(String, ServiceOperation)>) {
    use ServiceOperation::{Restart, Start, Stop};
    let all = |name: &str| properties.get(name).map(Vec::as_slice).unwrap_or_default();
    let is = |states: &[&str]| all("ActiveState").iter().any(|state| states.contains(&&**state));
    let there = match operation {
        Start => is(&["active", "activating", "reloading"]),
        Stop => is(&["inactive", "failed"]),
        _ => false,
    };
    if there && !first {
        return (Vec::new(), Vec::new());
    }
    let mut effects = Vec::new();
    let names = all("Names").iter().map(String::as_str).chain([unit]);
    for name in names.collect::<BTreeSet<_>>() {
        let word = Seen::Is(operation.name().into());
        let arguments = vec![
            (Argument::Service, Seen::Is(name.to_owned().into())),
            (Argument::Operation, word),
        ];
        effects.push(Effect::side_effect("ServiceControl", arguments));
        effects.extend(restarts(name, operation));
    }
    let begins = matches!(operation, Start | Restart);
    if begins && all("SuccessAction").iter().any(|action| action != "none") {
        effects.push(Effect::restart(Part::Disguised));
    }
    let others = |properties: &[&str], does| {
        let units = properties.iter().flat_map(|name| all(name));
        units.map(|unit| (unit.clone(), does)).collect::<Vec<_>>()
    };
    let pulled = if begins { others(&PULLED, Start) } else { Vec::new() };
    let taken = match operation {
        Stop | Restart => others(&TAKEN, Stop),
        _ => Vec::new(),
    };
    (effects, pulled.into_iter().chain(taken).collect())
}

/// The restart of the machine that an operation on this unit causes, if it does.
pub(crate) fn restarts(unit: &str, operation: ServiceOperation) -> Option<Effect<'static>> {
    let begins = matches!(operation, ServiceOperation::Start | ServiceOperation::Restart);
    (begins && ends_the_system(unit)).then(|| Effect::restart(Part::Disguised))
}

/// Whether starting this unit stops or suspends the running system: the targets of systemd.special(7), the services that
/// they pull in, and their sysvinit names.
pub fn ends_the_system(unit: &str) -> bool {
    const STEMS: [&str; 23] = [
        "reboot",
        "poweroff",
        "halt",
        "kexec",
        "soft-reboot",
        "shutdown",
        "exit",
        "ctrl-alt-del",
        "runlevel0",
        "runlevel1",
        "runlevel6",
        "rescue",
        "emergency",
        "final",
        "umount",
        "sleep",
        "suspend",
        "hibernate",
        "hybrid-sleep",
        "suspend-then-hibernate",
        "initrd-switch-root",
        "system-update",
        "factory-reset",
    ];
    let unit = unit_of(unit);
    let Some((stem, "target" | "service")) = unit.rsplit_once('.') else { return false };
    STEMS.contains(&stem.strip_prefix("systemd-").unwrap_or(stem))
}

/// Units of any kind that have failed, with their descriptions.
///
/// # Errors
/// The end of a sentence, where there is no systemd or it does not answer.
pub(super) async fn failed(cx: &Context) -> Result<Vec<(String, String)>, SystemdError> {
    let units = match reach(cx).await? {
        SystemdAccess::Bus(bus) => bus.units(&["failed"], &[]).await?,
        SystemdAccess::Program(_) => systemctl::units(cx, &["--state=failed"]).await?,
    };
    Ok(units.into_iter().map(|unit| (unit.name, unit.description)).collect())
}

/// A connection to systemd's bus, where this machine has one.
pub(super) async fn bus(cx: &Context) -> Result<Bus, SystemdError> {
    match reach(cx).await? {
        SystemdAccess::Bus(bus) => Ok(bus),
        SystemdAccess::Program(why) => Err(why),
    }
}

enum SystemdAccess {
    Bus(Bus),
    /// And why not the bus.
    Program(SystemdError),
}

async fn reach(cx: &Context) -> Result<SystemdAccess, SystemdError> {
    if !systemd::is_running() {
        return Err(SystemdError::NotRunning);
    }
    match Bus::connect(cx.deadline).await {
        Ok(bus) => Ok(SystemdAccess::Bus(bus)),
        Err(error) if find_program("systemctl").is_some() => {
            tracing::debug!(%error, "systemctl is used instead of the bus");
            Ok(SystemdAccess::Program(error))
        }
        Err(error) => Err(SystemdError::NoWay(Box::new(error))),
    }
}

async fn state(cx: &Context, access: &SystemdAccess, name: &str) -> Result<Service, SystemdError> {
    match access {
        SystemdAccess::Bus(bus) => {
            let unit = bus.unit(name).await?;
            Ok(Service { unit, startup: bus.file_state(name).await })
        }
        SystemdAccess::Program(_) => {
            let units = systemctl::units(cx, &["--", name]).await?;
            let files = systemctl::unit_files(cx).await?;
            let known = merge(units, files).into_iter().find(|service| service.unit.name == name);
            known.ok_or_else(|| SystemdError::NoService(name.to_owned()))
        }
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
/// no service, but says how its instances start; a name that something refers to and that is not there
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

fn both<A, B, E>(a: Result<A, E>, b: Result<B, E>) -> Result<(A, B), E> {
    Ok((a?, b?))
}

fn row(service: &Service) -> Value {
    let unit = &service.unit;
    let running = matches!(service.status(), "running" | "starting");
    let loaded = unit.load == "loaded";
    // `x.mount.service` without its suffix would be another unit.
    let short = unit.name.strip_suffix(".service").filter(|short| unit_of(short) == unit.name);
    let short = short.unwrap_or(&unit.name);
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
    fn an_operation_is_judged_by_all_names_of_its_unit_and_by_what_it_pulls_along() {
        let texts =
            |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let ssh: Properties = [
            ("Names", texts(&["ssh.service", "sshd.service"])),
            ("ActiveState", texts(&["active"])),
            ("SuccessAction", texts(&["none"])),
            ("Requires", texts(&["sysinit.target"])),
            ("RequiredBy", texts(&["vault.service"])),
        ]
        .map(|(name, texts)| (name.to_owned(), texts))
        .into();
        let shown = |(effects, next): (Vec<Effect<'_>>, Vec<(String, ServiceOperation)>)| {
            let effects: Vec<String> = effects.iter().map(ToString::to_string).collect();
            (effects, next)
        };
        let (effects, next) = shown(follows("sshd.service", ServiceOperation::Stop, true, &ssh));
        assert_eq!(
            effects,
            ["ssh.service", "sshd.service"].map(|name| format!(
                "ServiceControl {{ service = {name:?}, operation = \"stop\" }}"
            ))
        );
        assert_eq!(next, [("vault.service".to_owned(), ServiceOperation::Stop)]);
        let pulled = follows("ssh.service", ServiceOperation::Start, false, &ssh);
        assert_eq!(pulled, (Vec::new(), Vec::new()), "it is there already");

        let mut odd = ssh;
        odd.insert("ActiveState".into(), texts(&["inactive"]));
        odd.insert("SuccessAction".into(), texts(&["reboot-force"]));
        let (effects, next) = shown(follows("odd.service", ServiceOperation::Start, false, &odd));
        assert_eq!(effects.last().unwrap(), "RebootSystem");
        assert_eq!(next, [("sysinit.target".to_owned(), ServiceOperation::Start)]);
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
        let shown: Vec<_> = services
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
            shown,
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

    /// Whatever systemd lists, the host can ask for, and gets that very unit.
    #[test]
    fn every_unit_that_is_listed_can_be_asked_for_by_its_listed_name() {
        let long = format!("{}.service", "u".repeat(240));
        let names = [
            "cron.service",
            r"dev-disk-by\x2dlabel.service",
            "-dash.service",
            "getty@tty1.service",
            "x.mount.service",
            "a.b.service",
            "a:b_c@d.service",
            &long,
        ];
        let units = names.map(|name| unit(name, "loaded", "active", "running"));
        for (name, service) in
            merge(units.into(), Vec::new()).iter().map(|s| (&s.unit.name, row(s)))
        {
            let asked = ServiceName::new(service["name"].as_str().unwrap()).unwrap();
            assert_eq!(asked.unit(), *name);
        }
    }

    #[tokio::test]
    async fn a_machine_without_systemd_says_so_instead_of_listing_nothing() {
        if systemd::is_running() {
            eprintln!("skipped: this machine runs systemd");
            return;
        }
        let cx = test_context();
        let listed = ServiceList.run(&cx).await.outcome;
        assert!(!listed.success && listed.data.is_none());
        assert!(listed.error.unwrap().contains("does not run systemd"));
        let name = ServiceName::new("cron").unwrap();
        let started = control(&cx, &name, ServiceOperation::Start).await;
        assert!(started.error.unwrap().contains("does not run systemd"));
    }
}
