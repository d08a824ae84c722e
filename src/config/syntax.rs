//! Turns what toml says of text that is not TOML into what a stranger understands. Does not know the
//! grammar of the files.

use super::error::clean;
use super::explain::{Told, bare, before, word};

/// Explains an error of TOML itself.
pub(super) fn explain(source: &str, error: &toml::de::Error) -> Told {
    let span = error.span().unwrap_or(0..0);
    let (what, wanted) = match error.message().split_once(", expected ") {
        Some((what, wanted)) => (what, Some(wanted)),
        None => (error.message(), None),
    };
    let word = word(source, &span);
    let is_word = word.starts_with(char::is_alphanumeric) && !span.is_empty();
    let (message, help) = match what {
        "string values must be quoted" if span.is_empty() => {
            ("a value is missing here".to_owned(), "write one, or take the line out".to_owned())
        }
        "string values must be quoted"
        | "invalid float"
        | "invalid integer"
        | "invalid boolean"
            if is_word =>
        {
            (format!("{word} has to be in quotes"), format!("write \"{word}\""))
        }
        "key with no value" if before(source, &span).starts_with("//") => {
            ("this is not TOML".to_owned(), "a comment begins with #".to_owned())
        }
        "duplicate key" => {
            (format!("\"{}\" is given twice", bare(&word)), "keep one of them".to_owned())
        }
        _ => match SYNTAX.iter().find(|(said, _, _)| error.message().starts_with(said)) {
            Some((_, message, help)) => ((*message).to_owned(), (*help).to_owned()),
            None => {
                let help = wanted.map(|wanted| format!("expected {wanted}"));
                return Told { span, message: clean(what), help };
            }
        },
    };
    Told { span, message, help: Some(help) }
}

/// What toml says of the commonest slips, and what a stranger understands.
const SYNTAX: &[(&str, &str, &str)] = &[
    ("unclosed array, ", "this list is never closed", "end it with ]"),
    ("unclosed table, ", "this header is never closed", "end it with ]"),
    ("unclosed array table, ", "this header is never closed", "end it with ]]"),
    ("unclosed inline table, ", "this table is never closed", "end it with }"),
    ("invalid basic string, expected `\"`", "this text is never closed", "end it with \""),
    ("invalid literal string, expected `'`", "this text is never closed", "end it with '"),
    (
        "invalid multi-line basic string, expected `\"`",
        "this text is never closed",
        "end it with three quotes",
    ),
    (
        "invalid multi-line literal string, expected `'`",
        "this text is never closed",
        "end it with three quotes",
    ),
    ("unexpected leading zero", "a number does not begin with 0", "take the zero out"),
    ("key with no value, ", "this key has no value", "write = and a value after it"),
    (
        "missing escaped value, ",
        "this is nothing that a backslash can stand before",
        "write \\\\ for a backslash, or put the text in single quotes",
    ),
    ("unexpected key or value, ", "something follows the value", "put it on a line of its own"),
    (
        "invalid inline table element, ",
        "this does not belong in a table in braces",
        "write name = value, a comma between two of them, and } at the end",
    ),
    ("missing comma between array elements", "a comma is missing before this", "put one between"),
];
