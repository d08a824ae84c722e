//! The policy: the rules of a file, and the decision on a request. Pure: reads nothing from the machine.
//!
//! - Rules apply to every effect of a request (`effects`): starting `reboot.target` is also `RebootSystem`.
//! - A request that a `deny` rule matches is denied, even if an `allow` rule matches too.
//! - Otherwise it is allowed if an `allow` rule matches, and denied if none does.
//! - Shell command lines and scripts also need the switch `raw_shell` or `scripts`, and `detach` if they request that
//!   processes keep running.
//!
//! # An action with several names
//! The host has several names for some actions: `CleanTemporaryFiles` is an alias of `DiskCleanup`. A rule matches the
//! requested name and the name that it stands for. A rule about `DiskCleanup` therefore covers all its aliases; a rule
//! about `CleanTemporaryFiles` covers that alias only.
//!
//! # Limits
//! Rules compare arguments as text. What a name means on the machine (`sshd` for `ssh`, dependent packages) is looked up
//! before the action starts, and checked against the `deny` rules
//! ([`side_effects`](crate::commands::actions::Action::side_effects)). An allow list is still stronger than a deny list.
//!
//! A rule about the `path` or `user` of a shell command line controls where and as which user it starts, not what it
//! does. There is no rule about its text, because a rule that denies `rm` would stop no one.

use std::borrow::Cow;
use std::time::Duration;

use super::rule::{Line, Rule, Rules};
use crate::commands::actions::plan::{Argument, Effect, Part, Value};
use crate::commands::argument::unit_of;
use crate::commands::authorize::effects::effects;
use crate::commands::request::{RAW_COMMAND, Request, RequestKind};
use crate::values::Glob;

/// The rules of one file, and the longest timeout that it grants.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    origin: String,
    rules: Rules,
    ceiling: Duration,
}

/// Whether a request may run, and the rule that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may run.
    Allowed {
        /// The rule that allows it: `FILE:LINE`.
        rule: String,
    },
    /// It may not run.
    Denied {
        /// The rule that denies it: `FILE:LINE`; the file alone where no rule of it allows it.
        rule: String,
        /// The reason, as a sentence for the host that quotes the rule.
        why: String,
    },
}

impl Decision {
    /// Whether the request may run.
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
        let effects = effects(&request.kind);
        if let Some(denied) = self.denied(&effects) {
            return denied;
        }
        let switch = match &request.kind {
            RequestKind::Action(_) => None,
            RequestKind::Raw(_) => Some(("raw_shell", raw_shell)),
            RequestKind::Script(_) => Some(("scripts", scripts)),
        };
        let leaves = request.kind.detach().then_some(("detach", detach));
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

    /// Decides on the side effects of an allowed request: the denial, or `None` if the rules permit all of them.
    pub fn deny_side_effects(&self, effects: &[Effect<'_>]) -> Option<Decision> {
        let disguised: Vec<Effect<'_>> =
            effects.iter().filter(|effect| effect.part == Part::Disguised).cloned().collect();
        let allowed = || (!disguised.is_empty()).then(|| self.allowed(&disguised));
        self.denied(effects).or_else(allowed).filter(|decision| !decision.is_allowed())
    }

    /// Whether the rules limit anything: some rule denies, or no single rule allows everything. Otherwise there is no need
    /// to look up side effects.
    pub fn has_limits(&self) -> bool {
        let Rules { allow, deny, .. } = &self.rules;
        let any = |rule: &Rule| rule.action.is_any() && rule.arguments.is_empty();
        !deny.is_empty() || !allow.iter().any(any)
    }

    /// Whether some request by one of these names of an action can be allowed; what is decided depends on its arguments, too.
    pub fn may_allow(&self, names: &[&str]) -> bool {
        let Rules { allow, deny, raw_shell, .. } = &self.rules;
        let is_about = |rule: &&Rule| names.iter().any(|name| rule.action.matches(name));
        let denies_all = |rule: &Rule| rule.arguments.is_empty() && is_about(&rule);
        let is_off = names.contains(&RAW_COMMAND) && !raw_shell.on;
        !is_off && allow.iter().any(|rule| is_about(&rule)) && !deny.iter().any(denies_all)
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
        if effect.part != Part::Requested {
            // The request does not show this effect, so the reply names it.
            why = format!("{why}; it comes to {effect}");
        }
        Some(Decision::Denied { rule, why })
    }

    /// Allowed by the rule for the first effect, if every effect that needs a rule has one.
    fn allowed(&self, effects: &[Effect<'_>]) -> Decision {
        let mut by = None;
        for effect in effects.iter().filter(|effect| effect.part != Part::SideEffect) {
            let rule = self.rules.allow.iter().find(|rule| is_about(rule, effect, allows));
            let Some(rule) = rule else {
                let (origin, name) = (&self.origin, &effect.names[0]);
                let mut why = format!("denied: no rule of {origin} allows this {name}");
                if effect.part == Part::Disguised {
                    why = format!("{why}, which it comes to");
                }
                return Decision::Denied { rule: self.origin.clone(), why };
            };
            by.get_or_insert(&rule.at);
        }
        Decision::Allowed { rule: by.map_or_else(|| self.origin.clone(), |at| self.place(at)) }
    }

    /// The timeout of a request: the requested one, at most the one in the file.
    pub fn time_for(&self, request: &Request) -> Duration {
        request.timeout.min(self.ceiling)
    }

    /// The text of the rule at `FILE:LINE`, as the file has it: `{ action = … }`.
    pub fn quote(&self, rule: &str) -> Option<&str> {
        let rules = self.rules.allow.iter().chain(&self.rules.deny);
        rules.map(|rule| &rule.at).find(|at| self.place(at) == rule).map(|at| at.text.as_str())
    }

    fn place(&self, at: &Line) -> String {
        format!("{}:{}", self.origin, at.number)
    }
}

type ArgumentMatch = fn(&Glob, Argument, &[(Argument, Value<'_>)]) -> bool;

/// Whether a rule matches an effect.
fn is_about(rule: &Rule, effect: &Effect<'_>, argument: ArgumentMatch) -> bool {
    effect.names.iter().any(|name| rule.action.matches(name))
        && rule.arguments.iter().all(|(wanted, glob)| argument(glob, *wanted, &effect.arguments))
}

/// A deny rule matches if one of the values matches, under any of its names; [`Value::Everything`] always matches.
fn denies(glob: &Glob, wanted: Argument, seen: &[(Argument, Value<'_>)]) -> bool {
    seen.iter().filter(|(argument, _)| *argument == wanted).any(|(_, value)| match value {
        Value::Everything => true,
        Value::Is(text) => {
            let also = same(wanted, text).into_iter().chain(within(wanted, text));
            glob.matches(text) || also.into_iter().any(|text| glob.matches(&text))
        }
    })
}

/// An allow rule matches if every value matches; only `*` matches [`Value::Everything`].
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

/// Other spellings of the same name: a service with and without `.service` (systemd.unit(5) adds it), a package without
/// its architecture, in Debian's and in rpm's notation.
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

/// Readings of the text that only deny rules consider: a package without the `+` or `-` that some tools take for an
/// instruction, or without its epoch; the template of a unit.
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

/// The name of a package without its architecture, such as `.x86_64`; the list is rpm(8)'s.
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
