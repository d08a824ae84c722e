//! Turns the TOML parser's errors into messages for users.

use super::error::clean;
use super::explain::{Explained, bare, before, word};
use crate::sort;

/// Explains the first errors of TOML, at most `most` and one for each line: further errors of the same line mostly follow
/// from the first.
pub(super) fn explain_all(source: &str, errors: &[toml::de::Error], most: usize) -> Vec<Explained> {
    let mut lines = Vec::new();
    let mut explained: Vec<Explained> = errors.iter().map(|error| explain(source, error)).collect();
    explained.retain(|one| {
        let before = &source[..source.floor_char_boundary(one.span.start)];
        let line = before.matches('\n').count();
        let is_first = !lines.contains(&line);
        lines.push(line);
        is_first
    });
    sort::by_key(&mut explained, |one| one.span.start);
    explained.truncate(most);
    explained
}

/// Whether the file is written in another language that configuration is often written in; JSON and YAML are known
/// by how their first line with anything in it begins.
pub(super) fn another_language(source: &str) -> Option<Explained> {
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let line = source.lines().find(is_content)?;
    let text = line.trim();
    let is_name = |name: &str| {
        let name = name.trim_matches(['"', '\'']);
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        !name.is_empty() && name.chars().all(is_word)
    };
    let name_before_colon = text.split_once(':').filter(|(name, after)| {
        is_name(name.trim_end())
            && (after.is_empty() || after.starts_with(' '))
            && !name.contains('=')
    });
    // A header of TOML begins with a bracket, too, and ends with one; a list of JSON begins with what no header has.
    let is_json = text.starts_with('{')
        || text == "["
        || text.strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with('{'));
    let language = if is_json {
        "JSON"
    } else if text == "---"
        || text.starts_with("- ")
        || text.starts_with("%YAML")
        || name_before_colon.is_some()
    {
        "YAML"
    } else {
        return None;
    };
    let start =
        line.as_ptr() as usize - source.as_ptr() as usize + (line.len() - line.trim_start().len());
    Some(Explained {
        span: start..start + text.len(),
        message: format!("this looks like {language}, and a file is written in TOML"),
        help: Some(
            "a section is [batch], a list of sections [[collect]], a value every = \"30s\""
                .to_owned(),
        ),
    })
}

/// Explains an error of TOML itself.
fn explain(source: &str, error: &toml::de::Error) -> Explained {
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
                return Explained { span, message: clean(what), help };
            }
        },
    };
    Explained { span, message, help: Some(help) }
}

const CONTROL: &str = "a control character stands in this text";
const ESCAPE: &str =
    "take it out, or write it as \\u0000 with its number in a text in double quotes";
const DEEP: &str = "this is nested too deep";
const SHALLOW: &str = "a pipeline file needs three or four levels; is this the right one?";

/// The parser's messages for the most common mistakes, and the message and remedy for users.
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
    ("invalid basic string, expected non-double-quote visible", CONTROL, ESCAPE),
    ("invalid multi-line basic string, expected `\\`", CONTROL, ESCAPE),
    ("invalid literal string, expected non-single-quote visible", CONTROL, ESCAPE),
    ("invalid multi-line literal string, expected non-single-quote", CONTROL, ESCAPE),
    ("invalid comment character, ", CONTROL, "take it out"),
    (
        "carriage return must be followed by newline, ",
        "a carriage return stands alone here",
        "end lines with a line feed",
    ),
    ("cannot recurse further", DEEP, SHALLOW),
    ("recursion limit", DEEP, SHALLOW),
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
