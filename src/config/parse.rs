//! From text to a checked file: TOML → variables → types → rules. Does not read files.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::Env;
use super::check::{Broken, Check, Step};
use super::error::{ConfigError, Place};
use super::explain::{self, Told};
use super::interpolate;
use super::secret::mask;
use super::syntax;

/// Parses `source`, which is shown as `file` in an error.
pub(super) fn parse<T>(file: &str, source: &str, env: &Env<'_>) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Check,
{
    // What some editors put in front of UTF-8; it is no part of the text.
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let shown = mask(source);
    read(source, &shown, env).map_err(|told| error(file, &shown, told))
}

/// The two kinds of flow that a file can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    Metrics,
    Commands,
}

/// The sections that only a command flow has, and those that only a metrics pipeline has.
const COMMANDS: [&str; 6] = ["receive", "verify", "enforce", "execute", "reply", "audit"];
const METRICS: [&str; 6] = ["collect", "generate", "enrich", "batch", "serialize", "write"];

/// Which flow `source` holds, by its sections. What is no TOML counts as a metrics pipeline.
pub(super) fn flow(file: &str, source: &str) -> Result<Flow, ConfigError> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let Ok(document) = DeTable::parse(source) else { return Ok(Flow::Metrics) };
    let first = |names: [&'static str; 6]| {
        let there =
            names.into_iter().filter_map(|name| Some((name, document.get_ref().get(name)?)));
        there.min_by_key(|(_, value)| value.span().start).map(|(name, _)| name)
    };
    match (first(COMMANDS), first(METRICS)) {
        (None, _) => Ok(Flow::Metrics),
        (Some(_), None) => Ok(Flow::Commands),
        (Some(one), Some(other)) => {
            let broken = Broken::new(
                &[Step::Key(one)],
                format!(
                    "\"{one}\" belongs to a command flow, and \"{other}\" to a metrics pipeline"
                ),
                "give each a file of its own",
            );
            let told = place(source, document.get_ref(), broken.beside(vec![Step::Key(other)]));
            Err(error(file, &mask(source), told))
        }
    }
}

fn error(file: &str, shown: &str, told: Told) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        place: Some(Box::new(Place::new(shown, told.span))),
        message: told.message,
        help: told.help,
    }
}

/// `shown` is `source` without what must not be shown.
fn read<T>(source: &str, shown: &str, env: &Env<'_>) -> Result<T, Told>
where
    T: DeserializeOwned + Check,
{
    let mut document = DeTable::parse(source).map_err(|error| syntax::explain(shown, &error))?;
    let filled = interpolate::fill(document.get_mut(), source, env).map_err(|wrong| Told {
        span: wrong.span,
        message: wrong.message,
        help: Some(wrong.help),
    })?;
    let mut file = T::deserialize(toml::Deserializer::from(document.clone()))
        .map_err(|error| explain::grammar(shown, &error, &filled))?;
    file.find(shown);
    match file.check() {
        Ok(()) => Ok(file),
        Err(broken) => Err(place(shown, document.get_ref(), broken)),
    }
}

/// A broken rule at its place.
fn place(source: &str, document: &DeTable<'_>, broken: Broken) -> Told {
    let find = |path: &[Step]| locate(document, path);
    let line = |span: Range<usize>| Place::new(source, span).line;
    let span = find(&broken.path).or_else(|| find(&broken.otherwise?)).unwrap_or(0..0);
    let other = broken.other.and_then(|path| find(&path)).map(line);
    let help = match other.filter(|other| *other != line(span.clone())) {
        Some(line) => format!("{}; the other is in line {line}", broken.help),
        None => broken.help,
    };
    Told { span, message: broken.message, help: Some(help) }
}

/// Where the value at the end of `path` stands, or the nearest before it that is there.
fn locate(document: &DeTable<'_>, path: &[Step]) -> Option<Range<usize>> {
    let (Step::Key(first), rest) = path.split_first()? else { return None };
    let mut value = document.get(*first)?;
    for step in rest {
        let next = match (step, value.get_ref()) {
            (Step::Key(key), DeValue::Table(table)) => table.get(*key),
            (Step::Item(index), DeValue::Array(items)) => items.get(*index),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => break,
        }
    }
    Some(value.span())
}
