//! `allow = […]` and `deny = […]`: a pattern of an action, or a table of one and its arguments, each with its line.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use toml::Spanned;

use super::check::{Broken, Step};
use super::error::{Place, clean, cut};
use super::explain;
use super::value::{Problem, text};
use crate::commands::actions::plan::Argument;
use crate::commands::actions::registry::{self, arguments_of};
use crate::commands::authorize::rule::{Line, Rule, Switch};
use crate::values::Glob;

/// Fills in the line number and text from the source.
pub(super) fn find(line: &mut Line, source: &str) {
    line.number = Place::new(source, line.span.clone()).line;
    let written = source.get(line.span.clone()).unwrap_or_default();
    let words: Vec<&str> = written.split_whitespace().collect();
    line.text = cut(&clean(&words.join(" ")), 160);
}

/// The same for all rules and switches of a file.
pub(super) fn find_all<const N: usize>(
    rules: [&mut Vec<Rule>; 2],
    switches: [&mut Switch; N],
    source: &str,
) {
    let switches = switches.into_iter().filter_map(|switch| switch.at.as_mut());
    let rules = rules.into_iter().flatten().map(|rule| &mut rule.at);
    switches.chain(rules).for_each(|line| find(line, source));
}

fn at(span: Range<usize>) -> Line {
    Line { span, ..Line::default() }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let on = Spanned::<bool>::deserialize(deserializer)?;
        Ok(Self { on: *on.get_ref(), at: Some(at(on.span())) })
    }
}

/// A list of rules.
pub(super) fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Rule>, D::Error> {
    let rules = Vec::<Spanned<Entry>>::deserialize(deserializer)?;
    let placed = |rule: Spanned<Entry>| {
        let span = rule.span();
        Rule { at: at(span), ..rule.into_inner().0 }
    };
    Ok(rules.into_iter().map(placed).collect())
}

/// The first argument of each rule that no action of that rule has; the rules stand behind the keys `list`.
pub(super) fn check(list: &[&'static str], rules: &[Rule]) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let known = arguments_of(|name| rule.action.matches(name)).unwrap_or_default();
        let Some((wrong, _)) = rule.arguments.iter().find(|(name, _)| !known.contains(name)) else {
            continue;
        };
        let list = list.iter().map(|key| Step::Key(key));
        let place: Vec<Step> = list.chain([Step::Item(index), Step::Key(wrong.name())]).collect();
        let what = if rule.action.is_exact() {
            "this action has no"
        } else {
            "none of these actions has an"
        };
        let help = match known.as_slice() {
            [] => "it has none that a rule can look at; take this out".to_owned(),
            _ => {
                format!("known here are {}", explain::list(known.iter().map(|known| known.name())))
            }
        };
        broken.push(Broken::new(&place, format!("{what} argument \"{}\"", wrong.name()), help));
    }
    broken
}

/// A rule without its line.
struct Entry(Rule);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an action in quotes, or a table with one,")
    }

    fn visit_str<E: Error>(self, action: &str) -> Result<Entry, E> {
        let action = known(action).map_err(Problem::pack)?;
        Ok(Entry(Rule { action, arguments: Vec::new(), at: Line::default() }))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Entry, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(table))?;
        let arguments = [
            (Argument::Package, table.package),
            (Argument::Service, table.service),
            (Argument::Operation, table.operation),
            (Argument::Query, table.query),
            (Argument::Pid, table.pid),
            (Argument::Target, table.target),
            (Argument::Name, table.name),
            (Argument::User, table.user),
            (Argument::Path, table.path),
            (Argument::Shell, table.shell),
        ];
        let given = arguments.into_iter().filter_map(|(name, value)| Some((name, value?.0)));
        let (action, arguments) = (table.action.0, given.collect());
        Ok(Entry(Rule { action, arguments, at: Line::default() }))
    }
}

/// As the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    action: Action,
    package: Option<Pattern>,
    service: Option<Pattern>,
    operation: Option<Pattern>,
    query: Option<Pattern>,
    pid: Option<Pattern>,
    target: Option<Pattern>,
    name: Option<Pattern>,
    user: Option<Pattern>,
    path: Option<Pattern>,
    shell: Option<Pattern>,
}

struct Action(Glob);

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        known(&text(deserializer)?).map(Self).map_err(Problem::pack)
    }
}

struct Pattern(Glob);

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(|pattern| Self(Glob::new(pattern)))
    }
}

/// A pattern that at least one known action matches.
fn known(pattern: &str) -> Result<Glob, Problem> {
    let glob = Glob::new(pattern);
    if registry::rules().any(|(name, _)| glob.matches(name)) {
        return Ok(glob);
    }
    let names: Vec<&str> = registry::rules().map(|(name, _)| name).collect();
    let near = explain::nearest(pattern.trim_end_matches('*'), &names)
        .or_else(|| names.iter().copied().find(|name| name.eq_ignore_ascii_case(pattern)));
    let hint = "an action has the name that the host gives it, as in \"PackageInstall\"; \
                * stands for any text, as in \"Package*\"";
    Err(Problem::new(
        if glob.is_exact() { "is no action" } else { "matches no action" },
        match near {
            Some(near) => format!("did you mean \"{near}\"? {hint}"),
            None => hint.to_owned(),
        },
    ))
}
