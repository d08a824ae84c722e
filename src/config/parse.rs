//! From text to a checked file: TOML → variables → types → rules. Does not read files.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::Env;
use super::check::{Broken, Check, Step};
use super::error::{ConfigError, Place};
use super::explain::{self, Told};
use super::interpolate;
use super::syntax;

/// Parses `source`, which is shown as `file` in an error.
pub(super) fn parse<T>(file: &str, source: &str, env: &Env<'_>) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Check,
{
    // What some editors put in front of UTF-8; it is no part of the text.
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    read(source, env).map_err(|told| ConfigError {
        file: file.to_owned(),
        place: Some(Box::new(Place::new(source, told.span))),
        message: told.message,
        help: told.help,
    })
}

fn read<T: DeserializeOwned + Check>(source: &str, env: &Env<'_>) -> Result<T, Told> {
    let mut document = DeTable::parse(source).map_err(|error| syntax::explain(source, &error))?;
    let filled = interpolate::fill(document.get_mut(), source, env).map_err(|wrong| Told {
        span: wrong.span,
        message: wrong.message,
        help: Some(wrong.help),
    })?;
    let file = T::deserialize(toml::Deserializer::from(document.clone()))
        .map_err(|error| explain::grammar(source, &error, &filled))?;
    match file.check() {
        Ok(()) => Ok(file),
        Err(broken) => Err(place(source, document.get_ref(), broken)),
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
