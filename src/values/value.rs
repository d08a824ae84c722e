//! A value of a file before it has a type, and the error for an invalid one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The error of a value, such as `has no unit`. The text at the place is put before it when the error is shown, so it never
/// repeats the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rest of a sentence that begins with the invalid text.
    pub what: String,
    /// The remedy.
    pub help: String,
}

impl Problem {
    /// A problem and its remedy.
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }

    /// Through serde, whose errors carry nothing but a text. [`Problem::unpack`] takes it out again.
    pub(crate) fn pack<E: Error>(self) -> E {
        E::custom(format_args!("{MARK}{}{MARK}{}", self.what, self.help))
    }

    /// The problem in `message`, if [`Problem::pack`] made it.
    pub(crate) fn unpack(message: &str) -> Option<Self> {
        let (what, help) = message.strip_prefix(MARK)?.split_once(MARK)?;
        Some(Self::new(what, help))
    }
}

/// The "unit separator" of ASCII, in front: no message of serde or toml begins with it, so whatever a
/// file or a variable holds cannot pass for one of ours.
const MARK: char = '\u{1f}';

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.what, self.help)
    }
}

impl std::error::Error for Problem {}

/// A value as TOML has it. Lists, tables and dates are no more than their kind here.
#[derive(Debug)]
pub(crate) enum Raw {
    Text(String),
    Whole(i128),
    Bool(bool),
    Real(f64),
    List,
    Table { keys: usize },
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

/// A text that may be shown and stored: not empty, one line, no control character.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let Raw::Text(text) = Raw::deserialize(deserializer)? else {
        return Err(Problem::new("is not a text", "put it in quotes").pack());
    };
    check_text(&text).map_err(Problem::pack)?;
    Ok(text)
}

/// As [`text()`], where an empty text is as good as none: `"${VM_ID:-}"`.
pub(crate) fn text_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    match Raw::deserialize(deserializer)? {
        Raw::Text(text) if text.is_empty() => Ok(None),
        Raw::Text(text) => check_text(&text).map(|()| Some(text)).map_err(Problem::pack),
        _ => Err(Problem::new("is not a text", "put it in quotes").pack()),
    }
}

fn check_text(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("is empty", "give it a value, or leave the line out"));
    }
    if text.chars().any(char::is_control) {
        let help = "a single line without line breaks, tabs and control characters is needed";
        return Err(Problem::new("holds a control character", help));
    }
    Ok(())
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Whole(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Raw, E> {
        Ok(Raw::Whole(number.into()))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<Raw, E> {
        Ok(Raw::Whole(number))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Raw, E> {
        Ok(Raw::Whole(i128::try_from(number).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Real(number))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Raw::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Raw, A::Error> {
        let mut keys = 0;
        while table.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            keys += 1;
        }
        Ok(Raw::Table { keys })
    }
}
