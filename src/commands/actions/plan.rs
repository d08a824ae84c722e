//! What an action would do, by its arguments alone: what rules, `explain` and the audit see of it.

use std::borrow::Cow;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

/// What an action would do. Made from its arguments without a look at the machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it does where it runs no program, or none that is known beforehand; after "it", without a full stop.
    pub does: Cow<'static, str>,
    /// What it does beside its [programs](super::Action::programs), in the same form; may be empty.
    pub besides: Cow<'static, str>,
    /// Whether it may change the machine.
    pub changes: bool,
    /// The arguments that rules can match. One with several values is listed several times.
    pub arguments: Vec<(Argument, Value<'static>)>,
    /// What it also does, in the words of rules.
    pub effects: Vec<Effect<'static>>,
    /// Whether it insists, where an action can be made to; the audit keeps it.
    pub force: Option<bool>,
}

impl Plan {
    /// An action that changes the machine.
    pub fn changes(does: impl Into<Cow<'static, str>>) -> Self {
        Self { changes: true, ..Self::reads(does) }
    }

    /// An action that only reads.
    pub fn reads(does: impl Into<Cow<'static, str>>) -> Self {
        Self {
            does: does.into(),
            besides: Cow::Borrowed(""),
            changes: false,
            arguments: Vec::new(),
            effects: Vec::new(),
            force: None,
        }
    }

    /// Adds what it does beside its programs.
    pub fn besides(self, besides: impl Into<Cow<'static, str>>) -> Self {
        Self { besides: besides.into(), ..self }
    }

    /// Adds an argument that rules can match.
    pub fn with(mut self, argument: Argument, value: &str) -> Self {
        self.arguments.push((argument, Value::Is(value.to_owned().into())));
        self
    }

    /// Adds an argument that stands for all values.
    pub fn with_every(mut self, argument: Argument) -> Self {
        self.arguments.push((argument, Value::Everything));
        self
    }

    /// Adds what it also does.
    pub fn also(mut self, effects: impl IntoIterator<Item = Effect<'static>>) -> Self {
        self.effects.extend(effects);
        self
    }

    /// Adds whether it insists.
    pub fn force(self, force: bool) -> Self {
        Self { force: Some(force), ..self }
    }
}

/// One change or read that a request causes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect<'a> {
    /// The action names that rules may use for it.
    pub names: Vec<Cow<'a, str>>,
    /// The arguments that rules can match.
    pub arguments: Vec<(Argument, Value<'a>)>,
    /// How rules apply to it.
    pub part: Part,
}

/// How rules apply to an [`Effect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// The request itself: a rule has to allow it.
    Requested,
    /// A side effect: no rule may deny it.
    SideEffect,
    /// A different action in disguise, such as a restart of the machine by the name of a service: a rule has to allow it
    /// by its own name.
    Disguised,
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

/// The value of an argument, as a rule matches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value<'a> {
    /// This text.
    Is(Cow<'a, str>),
    /// All possible values: `UpdateSystemSoftware` without a package, a path with `..`.
    Everything,
}

impl Value<'_> {
    /// A path without `.` and double slashes, so that a detour does not change the text. A path with `..` could be
    /// anywhere, because symbolic links on the way decide where it leads.
    pub fn of_path(path: &Path) -> Self {
        let mut plain = String::new();
        for component in path.components() {
            match component {
                Component::Normal(part) => plain.extend(["/", &part.to_string_lossy()]),
                Component::ParentDir => return Self::Everything,
                _ => {}
            }
        }
        Self::Is(if plain.is_empty() { "/".into() } else { plain.into() })
    }
}

/// What of a request a rule can look at, by the word that stands for it in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Argument {
    /// A package: as the host wrote it, without its architecture, and without the `+` or `-` that some
    /// package tools read as an instruction.
    Package,
    /// A service: as the host wrote it, and without `.service`.
    Service,
    /// What to do with a service: `start`, `stop`, `restart`, `enable`, `disable`, `status`.
    Operation,
    /// What packages are searched for.
    Query,
    /// A process id.
    Pid,
    /// What to clean up: `temp_files`, …
    Target,
    /// The name of a check or of a script.
    Name,
    /// As whom; `root` where the host names nobody.
    User,
    /// Where a command line starts, without `.`; one with `..` could be anywhere. `/` where
    /// the host names no folder.
    Path,
    /// `sh`, `bash`, `cmd` or `powershell`.
    Shell,
}

impl Argument {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Package,
        Self::Service,
        Self::Operation,
        Self::Query,
        Self::Pid,
        Self::Target,
        Self::Name,
        Self::User,
        Self::Path,
        Self::Shell,
    ];

    /// The word for it in files and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Service => "service",
            Self::Operation => "operation",
            Self::Query => "query",
            Self::Pid => "pid",
            Self::Target => "target",
            Self::Name => "name",
            Self::User => "user",
            Self::Path => "path",
            Self::Shell => "shell",
        }
    }
}
