//! What a request would do, as rules know it: what was asked for, and what that comes to. Pure: what only the machine
//! can tell (other names of a unit, packages that go along) is in [`foresee`](crate::commands::authorize::foresee).

use std::borrow::Cow;

use crate::commands::actions::registry::Argument;
use crate::commands::authorize::policy::{self, Value};
use crate::commands::decode::argument::unit_of;
use crate::commands::decode::request::{Action, ActionRequest, ServiceOperation, What};

/// One thing that would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect<'a> {
    /// The names that rules know it by.
    pub names: Vec<Cow<'a, str>>,
    /// What rules see of it.
    pub arguments: Vec<(Argument, Value<'a>)>,
    /// Why it is judged.
    pub part: Part,
}

/// What an [`Effect`] is of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What was asked for: a rule has to allow it.
    HostMessage,
    /// What comes along with it: no rule may deny it.
    Along,
    /// Another matter than the action is for, so a rule has to allow it by itself: a restart of the machine by the
    /// name of a service.
    Apart,
}

/// What `what` would do, as far as its words tell; what was asked for comes first.
pub fn effects(what: &What) -> Vec<Effect<'_>> {
    let names = [Some(policy::name(what)), policy::becomes(what)];
    let mut effects = vec![Effect {
        names: names.into_iter().flatten().map(Cow::from).collect(),
        arguments: policy::arguments(what),
        part: Part::HostMessage,
    }];
    if let What::Action(ActionRequest { action, .. }) = what {
        effects.extend(along(action));
    }
    effects
}

fn along(action: &Action) -> Vec<Effect<'_>> {
    let package = |value| vec![Effect::along("PackageUpdate", vec![(Argument::Package, value)])];
    match action {
        Action::ServiceControl { service, operation } => {
            restarts(&service.unit(), *operation).into_iter().collect()
        }
        Action::UpdateSystemSoftware(Some(name)) => package(Value::Is(name.as_str().into())),
        Action::UpdateSystemSoftware(None) => package(Value::Everything),
        Action::RunHealthCheck(None) => vec![Effect::along("RunAllHealthChecks", Vec::new())],
        Action::RunAllHealthChecks => {
            vec![Effect::along("RunHealthCheck", vec![(Argument::Name, Value::Everything)])]
        }
        Action::JoinDomain(join) if join.restart_after => vec![Effect::restart(Part::Along)],
        Action::PrepareGoldenImage(image) if image.shutdown_after => {
            vec![Effect::restart(Part::Along)]
        }
        _ => Vec::new(),
    }
}

impl<'a> Effect<'a> {
    /// Something that comes along.
    pub fn along(name: &'static str, arguments: Vec<(Argument, Value<'a>)>) -> Self {
        Self { names: vec![name.into()], arguments, part: Part::Along }
    }

    /// The machine is restarted, switched off or put to sleep: rules know all of it as `RebootSystem`.
    pub fn restart(part: Part) -> Self {
        Self { names: vec!["RebootSystem".into()], arguments: Vec::new(), part }
    }
}

/// The restart that an operation on this unit comes to, where it does.
pub fn restarts(unit: &str, operation: ServiceOperation) -> Option<Effect<'static>> {
    let begins = matches!(operation, ServiceOperation::Start | ServiceOperation::Restart);
    (begins && ends_the_system(unit)).then(|| Effect::restart(Part::Apart))
}

/// Whether to start this unit is to end, or put to sleep, the system that runs: systemd.special(7), the services that
/// those targets pull in, and the names that sysvinit had for them.
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

/// `RebootSystem`, or `PackageRemove { package = "systemd" }`.
impl std::fmt::Display for Effect<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.names.first().map_or("", |name| name))?;
        let shown = self.arguments.iter().map(|(argument, value)| match value {
            Value::Is(text) => format!("{} = {text:?}", argument.name()),
            Value::Everything => format!("{} = everything", argument.name()),
        });
        let shown: Vec<String> = shown.collect();
        match shown.is_empty() {
            true => Ok(()),
            false => write!(f, " {{ {} }}", shown.join(", ")),
        }
    }
}
