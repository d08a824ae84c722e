//! The effects of a request that follow from its text, in the words of rules. Pure: effects that only the machine knows
//! (aliases of a unit, dependent packages) are in [`side_effects`](crate::commands::authorize::side_effects).

use std::borrow::Cow;

use crate::commands::actions::registry::Argument;
use crate::commands::authorize::policy::{self, Value};
use crate::commands::decode::argument::unit_of;
use crate::commands::decode::request::{Action, ActionRequest, RequestKind, ServiceOperation};

/// One change or read that a request causes.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect<'a> {
    /// The action names that rules may use for it.
    pub names: Vec<Cow<'a, str>>,
    /// The arguments that rules can match.
    pub arguments: Vec<(Argument, Value<'a>)>,
    /// How rules apply to it.
    pub part: Part,
}

/// How rules apply to an [`Effect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The request itself: a rule has to allow it.
    Requested,
    /// A side effect: no rule may deny it.
    SideEffect,
    /// A different action in disguise, such as a restart of the machine by the name of a service: a rule has to allow it
    /// by its own name.
    Disguised,
}

/// The effects that follow from the text of `request`; the requested one is first.
pub fn effects(request: &RequestKind) -> Vec<Effect<'_>> {
    let names = [Some(policy::name(request)), policy::becomes(request)];
    let mut effects = vec![Effect {
        names: names.into_iter().flatten().map(Cow::from).collect(),
        arguments: policy::arguments(request),
        part: Part::Requested,
    }];
    if let RequestKind::Action(ActionRequest { action, .. }) = request {
        effects.extend(side_effects(action));
    }
    effects
}

fn side_effects(action: &Action) -> Vec<Effect<'_>> {
    let package =
        |value| vec![Effect::side_effect("PackageUpdate", vec![(Argument::Package, value)])];
    match action {
        Action::ServiceControl { service, operation } => {
            restarts(&service.unit(), *operation).into_iter().collect()
        }
        Action::UpdateSystemSoftware(Some(name)) => package(Value::Is(name.as_str().into())),
        Action::UpdateSystemSoftware(None) => package(Value::Everything),
        Action::RunHealthCheck(None) => vec![Effect::side_effect("RunAllHealthChecks", Vec::new())],
        Action::RunAllHealthChecks => {
            vec![Effect::side_effect("RunHealthCheck", vec![(Argument::Name, Value::Everything)])]
        }
        Action::JoinDomain(join) if join.restart_after => vec![Effect::restart(Part::SideEffect)],
        Action::PrepareGoldenImage(image) if image.shutdown_after => {
            vec![Effect::restart(Part::SideEffect)]
        }
        _ => Vec::new(),
    }
}

impl<'a> Effect<'a> {
    /// A side effect.
    pub fn side_effect(name: &'static str, arguments: Vec<(Argument, Value<'a>)>) -> Self {
        Self { names: vec![name.into()], arguments, part: Part::SideEffect }
    }

    /// The machine restarts, powers off or suspends; rules name all of these `RebootSystem`.
    pub fn restart(part: Part) -> Self {
        Self { names: vec!["RebootSystem".into()], arguments: Vec::new(), part }
    }
}

/// The restart of the machine that an operation on this unit causes, if it does.
pub fn restarts(unit: &str, operation: ServiceOperation) -> Option<Effect<'static>> {
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
