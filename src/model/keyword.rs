//! Words of a fixed list, such as the state of a socket: read back from a text.

use serde::de::{Deserialize, Deserializer, Error};

/// A word of a list that is part of the program.
pub type Keyword = &'static str;

/// Reads one of `words`.
///
/// # Errors
/// The text is none of them.
pub(super) fn one_of<'de, D: Deserializer<'de>>(
    deserializer: D,
    words: &'static [Keyword],
) -> Result<Keyword, D::Error> {
    let text = String::deserialize(deserializer)?;
    let known = words.iter().find(|word| **word == text).copied();
    known.ok_or_else(|| D::Error::unknown_variant(&text, words))
}
