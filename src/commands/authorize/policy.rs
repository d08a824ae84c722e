//! What may be asked: rules of a file held against a request. Pure: executes nothing, writes nothing
//! down, and looks nothing up on the machine.
//!
//! - Rules are held against everything that a request would do ([`effects`]): to start `reboot.target` is
//!   `RebootSystem`, too.
//!
//! - A request that a `deny` rule matches is denied, whatever allows it.
//! - Else it is allowed if an `allow` rule matches it, and denied if none does.
//! - A command line for a shell and a script also need `raw_shell` or `scripts` to be on, and `detach` where
//!   they ask to leave processes running.
//!
//! # An action with several names
//! The host has several names for some actions: `CleanTemporaryFiles` becomes `DiskCleanup`. A rule matches by the
//! name that was asked for and by the one that it becomes. So one about `DiskCleanup` is about everything that
//! becomes it, whether it denies or allows; one about `CleanTemporaryFiles` is about that name alone.
//!
//! # What a rule can and cannot promise
//! Here an argument is compared as text. What a name stands for on the machine (`sshd` for `ssh`, a package that
//! takes others with it) is found out before the action is begun, where a rule denies anything
//! ([`foresee`](crate::commands::authorize::foresee)), and held against the rules that deny. Still, a list of what is allowed is stronger
//! than one of what is denied. And a rule about the `path` or `user` of a command line for a shell says where
//! and as whom it starts; what it does then, no rule can say. That is why there is no rule about its
//! text: one that denies `rm` denies nobody anything.

use std::borrow::Cow;
use std::path::{Component, Path};
use std::time::Duration;

use super::rule::{Line, Rule, Rules};
use crate::commands::actions::registry::Argument;
use crate::commands::authorize::effects::{Effect, Part, effects};
use crate::commands::authorize::glob::Glob;
use crate::commands::decode::argument::unit_of;
use crate::commands::decode::request::{
    Action, ActionRequest, Request, ServiceOperation, Shell, What,
};
use crate::commands::decode::{RAW_COMMAND, SCRIPT};

/// The rules of one file, and the longest time it grants.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    origin: String,
    rules: Rules,
    ceiling: Duration,
}

/// What becomes of a request, and which rule said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may be done.
    Allowed {
        /// The rule that allows it: `FILE:LINE`.
        rule: String,
    },
    /// It may not.
    Denied {
        /// The rule that denies it: `FILE:LINE`; the file alone where no rule of it allows it.
        rule: String,
        /// A sentence for the host, with the rule as it was written.
        why: String,
    },
}

impl Decision {
    /// Whether it may be done.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed { .. })
    }

    /// The rule that decided.
    pub fn rule(&self) -> &str {
        match self {
            Self::Allowed { rule } | Self::Denied { rule, .. } => rule,
        }
    }
}

impl Policy {
    /// The rules of the file `origin`, which grants each request at most `ceiling`.
    pub fn new(origin: String, rules: Rules, ceiling: Duration) -> Self {
        Self { origin, rules, ceiling }
    }

    /// Decides on a request.
    pub fn decide(&self, request: &Request) -> Decision {
        let Rules { raw_shell, scripts, detach, .. } = &self.rules;
        let effects = effects(&request.what);
        if let Some(denied) = self.denied(&effects) {
            return denied;
        }
        let switch = match &request.what {
            What::Action(_) => None,
            What::Raw(_) => Some(("raw_shell", raw_shell)),
            What::Script(_) => Some(("scripts", scripts)),
        };
        let leaves = request.what.detach().then_some(("detach", detach));
        let mut needed = switch.into_iter().chain(leaves);
        if let Some((key, switch)) = needed.find(|(_, switch)| !switch.on) {
            let Some(at) = &switch.at else {
                let why = format!("denied: {} does not say {key} = true", self.origin);
                return Decision::Denied { rule: self.origin.clone(), why };
            };
            let rule = self.place(at);
            let why = format!("denied by {rule}: {key} = false");
            return Decision::Denied { rule, why };
        }
        self.allowed(&effects)
    }

    /// Whether the rules let through what was found to come along with something that they have allowed; `None`
    /// where they do.
    pub fn decide_along(&self, effects: &[Effect<'_>]) -> Option<Decision> {
        let apart: Vec<Effect<'_>> =
            effects.iter().filter(|effect| effect.part == Part::Apart).cloned().collect();
        let allowed = || (!apart.is_empty()).then(|| self.allowed(&apart));
        self.denied(effects).or_else(allowed).filter(|decision| !decision.is_allowed())
    }

    /// Whether any rule denies anything, or not everything is allowed by one rule: else there is nothing to foresee.
    pub fn has_limits(&self) -> bool {
        let Rules { allow, deny, .. } = &self.rules;
        let any = |rule: &Rule| rule.action.is_any() && rule.arguments.is_empty();
        !deny.is_empty() || !allow.iter().any(any)
    }

    /// The first rule that denies one of these.
    fn denied(&self, effects: &[Effect<'_>]) -> Option<Decision> {
        let denied = effects.iter().find_map(|effect| {
            let denies = |rule: &&Rule| is_about(rule, effect, denies);
            self.rules.deny.iter().find(denies).map(|rule| (rule, effect))
        });
        let (rule, effect) = denied?;
        let at = &rule.at;
        let rule = self.place(at);
        let mut why = format!("denied by {rule}: {}", at.text);
        if effect.part != Part::HostMessage {
            // What is not plain from the request.
            why = format!("{why}; it comes to {effect}");
        }
        Some(Decision::Denied { rule, why })
    }

    /// The rule that allows the first of these, where each that needs one has one.
    fn allowed(&self, effects: &[Effect<'_>]) -> Decision {
        let mut by = None;
        for effect in effects.iter().filter(|effect| effect.part != Part::Along) {
            let rule = self.rules.allow.iter().find(|rule| is_about(rule, effect, allows));
            let Some(rule) = rule else {
                let (origin, name) = (&self.origin, &effect.names[0]);
                let mut why = format!("denied: no rule of {origin} allows this {name}");
                if effect.part == Part::Apart {
                    why = format!("{why}, which it comes to");
                }
                return Decision::Denied { rule: self.origin.clone(), why };
            };
            by.get_or_insert(&rule.at);
        }
        Decision::Allowed { rule: by.map_or_else(|| self.origin.clone(), |at| self.place(at)) }
    }

    /// The time that a request gets: what it asks for, at most the ceiling of the file.
    pub fn time_for(&self, request: &Request) -> Duration {
        request.timeout.min(self.ceiling)
    }

    /// The rule at a place as the file has it: `FILE:LINE: { action = … }`.
    pub fn quote(&self, rule: &str) -> Option<&str> {
        let rules = self.rules.allow.iter().chain(&self.rules.deny);
        rules.map(|rule| &rule.at).find(|at| self.place(at) == rule).map(|at| at.text.as_str())
    }

    fn place(&self, at: &Line) -> String {
        format!("{}:{}", self.origin, at.number)
    }
}

/// The name that was asked for; rules know it by this one.
pub fn name(what: &What) -> &str {
    match what {
        What::Action(order) => order.name(),
        What::Raw(_) => RAW_COMMAND,
        What::Script(_) => SCRIPT,
    }
}

/// The name of what that becomes, where it is another; rules know it by this one, too.
pub fn becomes(what: &What) -> Option<&str> {
    match what {
        What::Action(order) => order.becomes(),
        What::Raw(_) | What::Script(_) => None,
    }
}

/// What a rule sees of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<'a> {
    /// This.
    Is(Cow<'a, str>),
    /// Whatever there is of the kind: `UpdateSystemSoftware` without a package, a path with `..`.
    Everything,
}

/// What rules see of a request. An argument that it has several of is there several times; one that its
/// action does not have is not there.
pub fn arguments(what: &What) -> Vec<(Argument, Value<'_>)> {
    let is = |text: &str| Value::Is(Cow::Owned(text.to_owned()));
    let user = |user: &Option<crate::commands::decode::argument::Account>| {
        (Argument::User, is(user.as_ref().map_or("root", |user| user.as_str())))
    };
    let shell = |which: Shell| (Argument::Shell, is(shell_name(which)));
    match what {
        What::Raw(raw) => {
            let path = raw.working_dir.as_deref().unwrap_or(Path::new("/"));
            vec![shell(raw.shell), (Argument::Path, place(path)), user(&raw.run_as)]
        }
        What::Script(script) => {
            vec![(Argument::Name, is(&script.name)), shell(script.shell), user(&script.run_as)]
        }
        What::Action(ActionRequest { action, .. }) => match action {
            Action::ServiceControl { service, operation } => vec![
                (Argument::Service, is(service.as_str())),
                (Argument::Operation, is(operation_name(*operation))),
            ],
            Action::PackageSearch(query) => vec![(Argument::Query, is(query.as_str()))],
            Action::GetApplicationDetails(package)
            | Action::PackageInstall(package)
            | Action::PackageRemove(package)
            | Action::PackageUpdate(package)
            | Action::UpdateSystemSoftware(Some(package)) => {
                vec![(Argument::Package, is(package.as_str()))]
            }
            Action::UpdateSystemSoftware(None) => vec![(Argument::Package, Value::Everything)],
            Action::ProcessKill { pid, .. } => vec![(Argument::Pid, is(&pid.to_string()))],
            Action::RunHealthCheck(Some(name)) => vec![(Argument::Name, is(name))],
            Action::RunHealthCheck(None) => vec![(Argument::Name, Value::Everything)],
            Action::DiskCleanup { targets } if targets.is_empty() => {
                vec![(Argument::Target, is("temp_files"))]
            }
            Action::DiskCleanup { targets } => {
                targets.iter().map(|target| (Argument::Target, is(target))).collect()
            }
            Action::SystemInfo
            | Action::OsInfo
            | Action::UserList
            | Action::ServiceList
            | Action::PackageList
            | Action::ProcessList { .. }
            | Action::ProcessTop { .. }
            | Action::CheckDiskSpace { .. }
            | Action::CheckResourceOptimization
            | Action::RunAllHealthChecks
            | Action::CheckLinuxUpdates
            | Action::GetInstalledApplicationsWMI
            | Action::CheckApplicationUpdates
            | Action::GetUpdateHistory
            | Action::RebootSystem { .. }
            | Action::JoinDomain(_)
            | Action::PrepareGoldenImage(_)
            | Action::OtherSystem(_)
            | Action::Incomplete { .. }
            | Action::NotBuilt { .. } => Vec::new(),
        },
    }
}

/// A shell as rules and people know it.
pub fn shell_name(shell: Shell) -> &'static str {
    match shell {
        Shell::Sh => "sh",
        Shell::Bash => "bash",
        Shell::Cmd => "cmd",
        Shell::PowerShell => "powershell",
    }
}

type ArgumentMatch = fn(&Glob, Argument, &[(Argument, Value<'_>)]) -> bool;

/// Whether a rule is about this.
fn is_about(rule: &Rule, effect: &Effect<'_>, argument: ArgumentMatch) -> bool {
    effect.names.iter().any(|name| rule.action.matches(name))
        && rule.arguments.iter().all(|(wanted, glob)| argument(glob, *wanted, &effect.arguments))
}

/// One of several is enough to deny, by any name it may go by; and everything has this in it.
fn denies(glob: &Glob, wanted: Argument, seen: &[(Argument, Value<'_>)]) -> bool {
    seen.iter().filter(|(argument, _)| *argument == wanted).any(|(_, value)| match value {
        Value::Everything => true,
        Value::Is(text) => {
            let also = same(wanted, text).into_iter().chain(within(wanted, text));
            glob.matches(text) || also.into_iter().any(|text| glob.matches(&text))
        }
    })
}

/// Every one of several has to be allowed; and only a rule for everything allows everything.
fn allows(glob: &Glob, wanted: Argument, seen: &[(Argument, Value<'_>)]) -> bool {
    let mut values = seen.iter().filter(|(argument, _)| *argument == wanted).peekable();
    values.peek().is_some()
        && values.all(|(_, value)| match value {
            Value::Everything => glob.is_any(),
            Value::Is(text) => {
                glob.matches(text) || same(wanted, text).iter().any(|text| glob.matches(text))
            }
        })
}

/// Other names of the very same thing: a service with and without `.service` (systemd.unit(5) adds it), a
/// package without its architecture, by Debian's sign and by rpm's.
fn same(argument: Argument, text: &str) -> Vec<Cow<'_, str>> {
    match argument {
        Argument::Service => {
            let unit = unit_of(text);
            let short = unit.strip_suffix(".service").map(|short| short.to_owned().into());
            short.into_iter().chain([unit.into()]).collect()
        }
        Argument::Package => {
            let name = text.split(':').next().unwrap_or(text);
            vec![name.into(), without_architecture(name).into()]
        }
        _ => Vec::new(),
    }
}

/// What the text would be taken for by a tool that reads more in it, and what it is an instance of: only a rule that
/// denies looks at these. A package without the `+` or `-` that some tools read as an instruction, or without the
/// epoch before it; a unit's template.
fn within(argument: Argument, text: &str) -> Vec<Cow<'_, str>> {
    match argument {
        Argument::Service => match text.split_once('@') {
            Some((template, _)) => vec![
                format!("{template}@").into(),
                format!("{template}@.service").into(),
                template.to_owned().into(),
            ],
            None => Vec::new(),
        },
        Argument::Package => {
            let name = text.split(':').next().unwrap_or(text);
            let late = text.rsplit(':').next().unwrap_or(text);
            let mut names = Vec::new();
            for name in [name, late] {
                for name in [name, without_architecture(name)] {
                    names.push(name.into());
                    names.push(name.trim_end_matches(['+', '-']).into());
                    names.push(name.trim_start_matches(['+', '@']).into());
                }
            }
            names
        }
        _ => Vec::new(),
    }
}

/// A package's name without `.x86_64` and the like: what rpm(8) knows as architectures.
fn without_architecture(name: &str) -> &str {
    const ARCHITECTURES: [&str; 24] = [
        "noarch",
        "x86_64",
        "x86_64_v2",
        "x86_64_v3",
        "i386",
        "i486",
        "i586",
        "i686",
        "athlon",
        "aarch64",
        "armv7hl",
        "armv7l",
        "armv6hl",
        "ppc64",
        "ppc64le",
        "ppc",
        "s390",
        "s390x",
        "riscv64",
        "loongarch64",
        "sparc64",
        "ia64",
        "src",
        "nosrc",
    ];
    match name.rsplit_once('.') {
        Some((name, architecture)) if ARCHITECTURES.contains(&architecture) => name,
        _ => name,
    }
}

/// A path without `.` and double slashes, so that no detour makes it another text. One with `..` could
/// be anywhere: what that leaves depends on the links on the way.
fn place(path: &Path) -> Value<'_> {
    let mut plain = String::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => plain.extend(["/", &part.to_string_lossy()]),
            Component::ParentDir => return Value::Everything,
            _ => {}
        }
    }
    Value::Is(if plain.is_empty() { "/".into() } else { plain.into() })
}

/// What to do with a service as rules and people know it.
pub fn operation_name(operation: ServiceOperation) -> &'static str {
    match operation {
        ServiceOperation::Start => "start",
        ServiceOperation::Stop => "stop",
        ServiceOperation::Restart => "restart",
        ServiceOperation::Enable => "enable",
        ServiceOperation::Disable => "disable",
        ServiceOperation::Status => "status",
    }
}
