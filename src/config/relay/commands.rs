//! `[commands]` of `relay.toml`: what may be asked of guests, over NATS or on the web page.

use std::time::Duration;

use serde::Deserialize;
use serde::de::Deserializer;

use crate::commands::authorize::policy::Policy;
use crate::commands::authorize::rule::{Rule, Rules, Switch};
use crate::config::check::{Broken, Step};
use crate::config::rule::{self, rules};
use crate::config::units::Period;
use crate::config::value::Problem;

/// What the rules are of, in denials: a relay has one file.
const ORIGIN: &str = "relay.toml";
/// The longest time a command may take: as long as NATS remembers for certain who took it.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// `[commands]`. Deny wins over allow, and what nothing allows is denied.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RelayCommands {
    /// The actions that may be asked for.
    #[serde(default, deserialize_with = "rules")]
    pub allow: Vec<Rule>,
    /// Exceptions from `allow`.
    #[serde(default, deserialize_with = "rules")]
    pub deny: Vec<Rule>,
    /// Enables shell commands; a rule has to allow them, too.
    #[serde(default)]
    pub raw_shell: Switch,
    /// Lets them leave processes running.
    #[serde(default)]
    pub detach: Switch,
    /// The longest time that a command may ask for.
    #[serde(default = "five_minutes", deserialize_with = "timeout")]
    pub timeout: Period,
}

impl RelayCommands {
    /// What it allows, and for how long.
    pub(crate) fn policy(&self) -> Policy {
        let Self { allow, deny, raw_shell, detach, timeout } = self.clone();
        let rules = Rules { allow, deny, raw_shell, detach, scripts: Switch::default() };
        Policy::new(ORIGIN.to_owned(), rules, timeout.get())
    }

    /// What is wrong with it; `signs` says whether guests have a key.
    pub(super) fn check(&self, signs: bool) -> Vec<Broken> {
        let mut broken = rule::check(&["commands", "allow"], &self.allow);
        broken.extend(rule::check(&["commands", "deny"], &self.deny));
        if !signs {
            let what = "nothing signs the commands, and guests take what is signed only";
            let help = "add secret or master to [guests]";
            broken.push(Broken::new(&[Step::Key("commands")], what, help));
        }
        broken
    }

    pub(super) fn find(&mut self, source: &str) {
        let Self { allow, deny, raw_shell, detach, .. } = self;
        rule::find_all([allow, deny], [raw_shell, detach], source);
    }
}

/// What is wrong with `commands = true` in `section`, where no rules say what is allowed.
pub(super) fn without_rules(section: &'static str) -> Broken {
    let path = [Step::Key(section), Step::Key("commands")];
    Broken::new(&path, NO_RULES, RULES_HELP)
}

/// What is wrong with commands without rules …
pub(crate) const NO_RULES: &str = "no rules say which commands are allowed";
/// … and the remedy.
pub(crate) const RULES_HELP: &str =
    "add a section [commands], as in allow = [\"Check*\", \"SystemInfo\"]";

/// `commands = true`: whether commands are taken there.
pub(super) fn taken<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    bool::deserialize(deserializer).map_err(|_| {
        let help = "write commands = true, and put the rules into a section [commands]";
        Problem::new("is not true or false", help).pack()
    })
}

fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
    Period::at_most(deserializer, TIMEOUT_MAX, "the shortest is \"10ms\", the longest \"1h\"")
}

const fn five_minutes() -> Period {
    Period::millis(300_000)
}
