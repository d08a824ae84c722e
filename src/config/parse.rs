//! Parses the text of a file: TOML → variables → types → rules.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Env;
use super::check::{Broken, Check, Step};
use super::document::{self, ReadError};
use super::error::{ConfigError, Place, Severity};
use super::explain::{self, Explained};
use super::interpolate;
use super::renamed::modernize;
use super::secret::mask;
use super::syntax;
use crate::sort;

/// The most errors that are reported for one file: later ones may follow from earlier ones.
const MISTAKES_MAX: usize = 100;
/// How often a file is parsed again without its invalid parts.
const ROUNDS_MAX: usize = 2 * MISTAKES_MAX;

/// The content of a file, and its warnings.
pub(super) struct Parsed<T> {
    pub file: T,
    pub warnings: Vec<ConfigError>,
    /// The outputs that it names: one place for each `[[write]]`, or one for the audit.
    pub outputs: Vec<Place>,
}

/// Parses `source`, which is shown as `file` in an error.
///
/// # Errors
/// Errors in the order of the file, at most [`MISTAKES_MAX`]: those of TOML; or else those of each value and key, and each
/// broken rule. An error that only follows from another is left out.
pub(super) fn parse<T>(
    file: &str,
    source: &str,
    env: &Env<'_>,
) -> Result<Parsed<T>, Vec<ConfigError>>
where
    T: DeserializeOwned + Check,
{
    parse_with(file, source, env, &mut |_| Vec::new())
}

/// As [`parse`], with the rules of `more` beside those of the type.
///
/// # Errors
/// As of [`parse`].
pub(super) fn parse_with<T>(
    file: &str,
    source: &str,
    env: &Env<'_>,
    more: &mut dyn FnMut(&T) -> Vec<Broken>,
) -> Result<Parsed<T>, Vec<ConfigError>>
where
    T: DeserializeOwned + Check,
{
    // A byte order mark, which some editors write, is not part of the text.
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let shown = mask(source);
    let locate = |explained: Vec<Explained>| {
        explained.into_iter().map(|one| error(file, &shown, one)).collect()
    };
    let Read { file: parsed, warnings, outputs } =
        read(source, &shown, env, more).map_err(locate)?;
    let mut warnings: Vec<ConfigError> = locate(warnings);
    warnings.iter_mut().for_each(|warning| warning.severity = Severity::Warning);
    let outputs = outputs.into_iter().map(|span| Place::new(&shown, span)).collect();
    Ok(Parsed { file: parsed, warnings, outputs })
}

/// The three kinds of flow that a file can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Metrics,
    Records,
    Commands,
}

/// The sections that only a command flow has, and those that only a metrics pipeline has.
const COMMANDS: [&str; 6] = ["receive", "verify", "enforce", "execute", "reply", "audit"];
pub(super) const METRICS: [&str; 6] =
    ["collect", "generate", "enrich", "batch", "serialize", "write"];

/// The sections that only a records file has.
pub(super) const RECORDS: [&str; 2] = ["read", "transform"];
/// The sections that only metrics have.
const READINGS: [&str; 3] = ["collect", "generate", "enrich"];

/// Files that are no flow: the section that only they have, what they are, and what reads them.
const OF_OTHER_COMMANDS: [(&str, &str, &str); 2] = [
    ("test", "this file holds tests of a pipeline", "run them with `infiniservice test FILE`"),
    (
        "guests",
        "this is the file of a relay",
        "check it with `infiniservice-host relay --config FILE --check`",
    ),
];

/// `source` without a byte order mark, and its sections; `None` where it is not TOML.
fn sections(source: &str) -> Option<(&str, Spanned<DeTable<'_>>)> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    Some((source, DeTable::parse(source).ok()?))
}

/// Whether `source` has the sections of a flow, and no test.
pub(super) fn is_flow(source: &str) -> bool {
    let Some((_, document)) = sections(source) else { return false };
    let has = |key: &&str| document.get_ref().contains_key(*key);
    !has(&"test") && [&COMMANDS[..], &RECORDS, &METRICS].concat().iter().any(has)
}

/// The kind of file `source` is, by its sections. Text that is not TOML counts as a metrics pipeline.
pub(super) fn flow(file: &str, source: &str) -> Result<Flow, ConfigError> {
    let Some((source, document)) = sections(source) else { return Ok(Flow::Metrics) };
    for (key, what, help) in OF_OTHER_COMMANDS {
        if document.get_ref().contains_key(key) {
            let explained =
                place(source, document.get_ref(), Broken::new(&[Step::Key(key)], what, help));
            return Err(error(file, &mask(source), explained));
        }
    }
    let first = |names: &[&'static str]| {
        let there = names.iter().filter_map(|name| Some((*name, document.get_ref().get(*name)?)));
        there.min_by_key(|(_, value)| value.span().start).map(|(name, _)| name)
    };
    let meet = |one: &'static str, kind: &str, other: &'static str, other_kind: &str| {
        let message = format!("\"{one}\" belongs to {kind}, and \"{other}\" to {other_kind}");
        let help = match (one, other) {
            ("read", "enrich") => {
                "write [[transform]] for [[enrich]], or give each a file of its own"
            }
            _ => "give each a file of its own",
        };
        let broken = Broken::new(&[Step::Key(one)], message, help);
        let explained = place(source, document.get_ref(), broken.beside(vec![Step::Key(other)]));
        Err(error(file, &mask(source), explained))
    };
    match (first(&COMMANDS), first(&RECORDS), first(&METRICS)) {
        (None, None, _) => Ok(Flow::Metrics),
        (Some(_), None, None) => Ok(Flow::Commands),
        (Some(one), Some(other), _) => meet(one, "a command flow", other, "a records pipeline"),
        (Some(one), None, Some(other)) => meet(one, "a command flow", other, "a metrics pipeline"),
        (None, Some(one), _) => match first(&READINGS) {
            Some(other) => meet(one, "a records pipeline", other, "a metrics pipeline"),
            None => Ok(Flow::Records),
        },
    }
}

fn error(file: &str, shown: &str, explained: Explained) -> ConfigError {
    ConfigError {
        severity: Severity::Error,
        file: file.to_owned(),
        place: Some(Box::new(Place::new(shown, explained.span))),
        message: explained.message,
        help: explained.help,
    }
}

struct Read<T> {
    file: T,
    warnings: Vec<Explained>,
    outputs: Vec<Range<usize>>,
}

/// `shown` is `source` without what must not be shown.
fn read<T>(
    source: &str,
    shown: &str,
    env: &Env<'_>,
    more: &mut dyn FnMut(&T) -> Vec<Broken>,
) -> Result<Read<T>, Vec<Explained>>
where
    T: DeserializeOwned + Check,
{
    let mut draft = Draft::of(source, shown, env)?;
    let Some(mut file) = draft.deserialize::<T>() else { return Err(draft.mistakes()) };
    file.find(shown);
    draft.check(file.check());
    draft.check(more(&file));
    if !draft.mistakes.is_empty() {
        return Err(draft.mistakes());
    }
    let outputs = outputs(&draft.whole);
    Ok(Read { warnings: draft.warnings(file.warnings()), outputs, file })
}

/// A file on the way to its type: what does not depend on the type, and so is compiled once.
struct Draft<'s> {
    shown: &'s str,
    /// All of it, for the places of broken rules.
    whole: DeTable<'s>,
    valid: Pruned<'s>,
    /// The places where a variable stands.
    filled: Vec<Range<usize>>,
    old_words: Vec<Explained>,
    mistakes: Vec<Explained>,
}

impl<'s> Draft<'s> {
    fn of(source: &'s str, shown: &'s str, env: &Env<'_>) -> Result<Self, Vec<Explained>> {
        if let Some(explained) = syntax::another_language(source) {
            return Err(vec![explained]);
        }
        let (mut document, errors) = DeTable::parse_recoverable(source);
        if !errors.is_empty() {
            return Err(syntax::explain_all(shown, &errors, MISTAKES_MAX));
        }
        let (filled, unfilled) = interpolate::fill(document.get_mut(), source, env);
        let old_words = modernize(document.get_mut());
        let whole = document.get_ref().clone();
        let mut valid = Pruned { document, lessened: Vec::new() };
        let mut mistakes = Vec::new();
        for wrong in unfilled {
            valid.remove(&wrong.value);
            mistakes.push(Explained {
                span: wrong.span,
                message: wrong.message,
                help: Some(wrong.help),
            });
        }
        Ok(Self { shown, whole, valid, filled, old_words, mistakes })
    }

    /// Reads the document repeatedly, each time without the invalid parts; `None` if nothing can be read.
    fn deserialize<T: DeserializeOwned>(&mut self) -> Option<T> {
        for _ in 0..ROUNDS_MAX {
            match document::read(self.valid.document.get_ref()) {
                Ok(file) => return Some(file),
                Err(error) if self.goes_on_without(&error) => {}
                Err(_) => break,
            }
        }
        None
    }

    /// Removes what an error is about, and returns whether the rest is to be read.
    fn goes_on_without(&mut self, error: &ReadError) -> bool {
        let explained = explain::grammar(self.shown, error, &self.filled);
        let follows = self.valid.lessened.contains(&explained.span);
        let is_removed = self.valid.remove(&explained.span);
        if !(follows || !is_removed && self.valid.is_pruned()) {
            self.mistakes.push(explained);
        }
        is_removed && self.mistakes.len() < MISTAKES_MAX
    }

    /// Adds the broken rules that do not follow from another mistake.
    fn check(&mut self, broken: Vec<Broken>) {
        let follows = |broken: &Broken| {
            let lacks = self.valid.is_pruned() && !is_empty_list(&self.whole, &broken.path);
            broken.is_missing && lacks || self.valid.is_lessened(&self.whole, &broken.path)
        };
        let broken = broken.into_iter().filter(|broken| !follows(broken));
        self.mistakes.extend(broken.map(|broken| place(self.shown, &self.whole, broken)));
    }

    fn warnings(self, broken: Vec<Broken>) -> Vec<Explained> {
        let mut warnings = self.old_words;
        let broken = broken.into_iter();
        warnings.extend(broken.map(|broken| place(self.shown, &self.whole, broken)));
        sort::by_key(&mut warnings, |one| one.span.start);
        warnings
    }

    fn mistakes(self) -> Vec<Explained> {
        let mut mistakes = self.mistakes;
        sort::by_key(&mut mistakes, |one| one.span.start);
        if mistakes.len() >= MISTAKES_MAX {
            mistakes.truncate(MISTAKES_MAX);
            let last = mistakes.last().map_or(0..0, |explained| explained.span.clone());
            let message = format!("these are the first {MISTAKES_MAX} mistakes of this file");
            let help = Some("mend them, and look again".to_owned());
            mistakes.push(Explained { span: last, message, help });
        }
        mistakes
    }
}

/// A document without its invalid parts, so that the rest can be checked.
struct Pruned<'s> {
    document: Spanned<DeTable<'s>>,
    /// The tables and lists that a part was removed from.
    lessened: Vec<Range<usize>>,
}

/// A value that holds a place, by the way to it, and the places of what it is in.
struct Holder {
    way: Vec<PathStep>,
    /// Its own place: the key's, where that is meant.
    span: Range<usize>,
    within: Vec<Range<usize>>,
}

#[derive(Clone)]
enum PathStep {
    Key(String),
    Item(usize),
}

impl Pruned<'_> {
    fn is_pruned(&self) -> bool {
        !self.lessened.is_empty()
    }

    /// Whether an invalid part was removed from the table or list at the end of `path` in `whole`: then nothing can be said
    /// about it as a whole.
    fn is_lessened(&self, whole: &DeTable<'_>, path: &[Step]) -> bool {
        locate(whole, path).is_some_and(|place| self.lessened.contains(&place))
    }

    /// Removes the smallest value that contains `span`, and returns whether there is one.
    fn remove(&mut self, span: &Range<usize>) -> bool {
        let root = Holder { way: Vec::new(), span: 0..0, within: vec![self.document.span()] };
        let mut best = None;
        search_table(self.document.get_ref(), span, &root, &mut best);
        let Some(Holder { way, within, .. }) = best else { return false };
        let Some((last, way)) = way.split_last() else { return false };
        self.lessened.extend(within);
        let mut at = Container::Table(self.document.get_mut());
        for step in way {
            match at.step(step) {
                Some(next) => at = next,
                None => return false,
            }
        }
        at.remove(last)
    }
}

enum Container<'t, 's> {
    Table(&'t mut DeTable<'s>),
    List(&'t mut DeArray<'s>),
}

impl<'t, 's> Container<'t, 's> {
    fn step(self, step: &PathStep) -> Option<Self> {
        let value = match (self, step) {
            (Self::Table(table), PathStep::Key(key)) => {
                table.iter_mut().find(|(name, _)| name.get_ref() == key)?.1
            }
            (Self::List(list), PathStep::Item(index)) => list.get_mut(*index)?,
            _ => return None,
        };
        match value.get_mut() {
            DeValue::Table(table) => Some(Self::Table(table)),
            DeValue::Array(list) => Some(Self::List(list)),
            _ => None,
        }
    }

    fn remove(self, last: &PathStep) -> bool {
        match (self, last) {
            (Self::Table(table), PathStep::Key(key)) => table.remove(key.as_str()).is_some(),
            (Self::List(list), PathStep::Item(index)) if *index < list.len() => {
                let all = std::mem::replace(list, DeArray::new()).into_iter().enumerate();
                *list = all.filter(|(at, _)| at != index).map(|(_, value)| value).collect();
                true
            }
            _ => false,
        }
    }
}

fn search_table(table: &DeTable<'_>, span: &Range<usize>, at: &Holder, best: &mut Option<Holder>) {
    for (key, value) in table.iter() {
        let step = PathStep::Key(key.get_ref().to_string());
        consider(key.span(), step.clone(), span, at, best);
        search(value, step, span, at, best);
    }
}

fn search(
    value: &Spanned<DeValue<'_>>,
    step: PathStep,
    span: &Range<usize>,
    at: &Holder,
    best: &mut Option<Holder>,
) {
    consider(value.span(), step.clone(), span, at, best);
    let way = [at.way.as_slice(), &[step]].concat();
    let within = [at.within.as_slice(), &[value.span()]].concat();
    let here = Holder { way, span: value.span(), within };
    match value.get_ref() {
        DeValue::Table(table) => search_table(table, span, &here, best),
        DeValue::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                search(value, PathStep::Item(index), span, &here, best);
            }
        }
        _ => {}
    }
}

/// Takes the value at `found` for the best where it holds `span` and is no larger than the best so far: a list of
/// sections stands where its first one does, and comes before it.
fn consider(
    found: Range<usize>,
    step: PathStep,
    span: &Range<usize>,
    at: &Holder,
    best: &mut Option<Holder>,
) {
    let holds = found.start <= span.start && span.end <= found.end && !found.is_empty();
    let is_better = best.as_ref().is_none_or(|best| found.len() <= best.span.len());
    if holds && is_better {
        let way = [at.way.as_slice(), &[step]].concat();
        *best = Some(Holder { way, span: found, within: at.within.clone() });
    }
}

/// A broken rule at its place.
fn place(source: &str, document: &DeTable<'_>, broken: Broken) -> Explained {
    let find = |path: &[Step]| locate(document, path);
    let line = |span: Range<usize>| Place::new(source, span).line;
    let Some(span) = find(&broken.path) else {
        let (message, help) = broken.without_section.unwrap_or((broken.message, broken.help));
        return Explained { span: 0..0, message, help: Some(help) };
    };
    let other = broken.other.and_then(|path| find(&path)).map(line);
    let help = match other.filter(|other| *other != line(span.clone())) {
        Some(line) => format!("{}; the other is in line {line}", broken.help),
        None => broken.help,
    };
    Explained { span, message: broken.message, help: Some(help) }
}

/// Where a file names what it writes to, by the number of its `[[write]]`.
fn outputs(document: &DeTable<'_>) -> Vec<Range<usize>> {
    let sections = match document.get("write").map(Spanned::get_ref) {
        Some(DeValue::Array(sections)) => sections.len(),
        Some(_) => 1,
        None => {
            return locate(document, &[Step::Key("audit"), Step::Key("path")])
                .into_iter()
                .collect();
        }
    };
    let path = |number| {
        ["file", "unix", "port"].into_iter().find_map(|key| {
            let way = [Step::Key("write"), Step::Item(number), Step::Key(key), Step::Key("path")];
            reach(document, &way[..3])?;
            locate(document, &way)
        })
    };
    let section = |number| locate(document, &[Step::Key("write"), Step::Item(number)]);
    (0..sections).filter_map(|number| path(number).or_else(|| section(number))).collect()
}

/// Whether the file itself has an empty list there, which follows from no other mistake.
fn is_empty_list(document: &DeTable<'_>, path: &[Step]) -> bool {
    let there = reach(document, path).map(Spanned::get_ref);
    matches!(there, Some(DeValue::Array(list)) if list.is_empty())
}

/// The value at the end of `path`.
fn reach<'d, 's>(document: &'d DeTable<'s>, path: &[Step]) -> Option<&'d Spanned<DeValue<'s>>> {
    let (value, steps) = nearest(document, path)?;
    (steps == path.len()).then_some(value)
}

/// Where the value at the end of `path` stands, or the nearest before it that is there.
fn locate(document: &DeTable<'_>, path: &[Step]) -> Option<Range<usize>> {
    nearest(document, path).map(|(value, _)| value.span())
}

/// The value at the end of `path`, or the nearest before it that is there, and how many steps lead to it.
fn nearest<'d, 's>(
    document: &'d DeTable<'s>,
    path: &[Step],
) -> Option<(&'d Spanned<DeValue<'s>>, usize)> {
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    let (mut value, mut steps) = (document.get(*first)?, 1);
    for step in rest {
        let next = match (step, value.get_ref()) {
            // One section that stands for a list of one.
            (Step::Item(_), DeValue::Table(_)) => Some(value),
            (Step::Key(key), DeValue::Table(table)) => table.get(*key),
            (Step::Item(index), DeValue::Array(items)) => items.get(*index),
            _ => None,
        };
        match next {
            Some(next) => (value, steps) = (next, steps + 1),
            None => break,
        }
    }
    Some((value, steps))
}
