//! Turns serde's errors into messages for users: the invalid text as the file has it, and the remedy.
//!
//! serde's errors are texts of a few fixed forms, which are parsed here. The invalid text always comes from the file and
//! never from the message, where it may be the value of a variable.

use std::ops::Range;

use super::document::ReadError;
use super::error::{clean, cut};
use super::value::Problem;

/// An error at a place of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub span: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

/// Explains an error of the grammar. `filled` are the places where a variable stands.
pub(super) fn grammar(source: &str, error: &ReadError, filled: &[Range<usize>]) -> Explained {
    let span = error.span().unwrap_or(0..0);
    let (message, help) = explain(source, &span, error.message(), filled);
    Explained { span, message, help }
}

fn explain(
    source: &str,
    span: &Range<usize>,
    said: &str,
    filled: &[Range<usize>],
) -> (String, Option<String>) {
    let word = word(source, span);
    if let Some(problem) = Problem::unpack(said) {
        return (format!("{word} {}", problem.what), Some(problem.help));
    }
    if said.starts_with("unknown field ") {
        let what = if is_header(source, span) { "section" } else { "key" };
        let key = bare(&word);
        return (format!("unknown {what} \"{key}\""), Some(instead(&key, &offered(said))));
    }
    if said.starts_with("unknown variant ``") && word.starts_with(['{', '[']) {
        return (format!("{word} holds no name"), Some(instead("", &offered(said))));
    }
    if said.starts_with("unknown variant ") {
        let name = bare(&word);
        return (format!("unknown name \"{name}\""), Some(instead(&name, &offered(said))));
    }
    if let Some(key) = said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next())
    {
        return (
            format!("{word} has no \"{key}\""),
            example(key).map(|line| format!("add {line}")),
        );
    }
    if said.starts_with("invalid type: date,") {
        let help = "put a text in quotes".to_owned();
        return (format!("{word} is a date, which no setting takes"), Some(help));
    }
    if let Some(kind) = said.strip_prefix("invalid type: ") {
        return wrong_type(source, span, said, kind);
    }
    if said.starts_with("invalid value: ") {
        return (
            format!("{word} is not possible here"),
            Some(format!("{} is needed", in_words(wanted(said)))),
        );
    }
    if said == "wanted string or table" {
        let line = key_before(source, span).and_then(|key| example(&key));
        let help = line.map_or("write a name in quotes".to_owned(), |line| format!("write {line}"));
        return (format!("{word} is not a name"), Some(help));
    }
    if said.ends_with("number overflowed") {
        return (format!("{word} is too large"), None);
    }
    // A shape that is not known here may repeat what a variable holds.
    if filled.iter().any(|place| place.start < span.end && span.start < place.end) {
        return (format!("{word} is not right here"), None);
    }
    (clean(said), None)
}

fn wrong_type(
    source: &str,
    span: &Range<usize>,
    said: &str,
    kind: &str,
) -> (String, Option<String>) {
    let (word, wanted) = (word(source, span), wanted(said));
    let key = key_before(source, span);
    let key = key.as_deref();
    let found = |name: &str| kind.starts_with(name);
    let header = word.starts_with('[') && is_first_of_line(source, span);
    if header && found("map") && wanted == "a list of tables" {
        let help = format!("write [{word}], with two brackets on each side");
        return (format!("{word} may stand several times"), Some(help));
    }
    if header && found("map") && wanted == "a sequence" {
        let help = format!("write [{word}], with two brackets on each side");
        return (format!("{word} begins one of a list"), Some(help));
    }
    if header && found("sequence") && wanted == "a table" {
        let single = word.trim_start_matches('[').trim_end_matches(']');
        return (format!("{word} may stand only once"), Some(format!("write [{single}]")));
    }
    if kind.starts_with("unit variant") {
        let help = key.and_then(example).map(|line| format!("for example {line}"));
        return (format!("{word} needs options, in a table"), help);
    }
    let found = match () {
        () if found("string") => "a text",
        () if found("integer") || found("floating") => "a number",
        () if found("boolean") => "a boolean",
        () if found("sequence") => "a list",
        () if found("map") => "a table",
        () => "something else",
    };
    let wanted = in_words(wanted);
    let help = match (key.and_then(example), key) {
        (Some(line), _) => Some(format!("for example {line}")),
        (None, Some(key)) if wanted == "a table" => Some(format!("for example {key} = {{}}")),
        _ if wanted == "a text in quotes" && kind.starts_with(['i', 'f', 'b']) => {
            Some(format!("write \"{word}\""))
        }
        _ => None,
    };
    (format!("{word} is {found}; {wanted} is needed"), help)
}

/// The expected type, for users.
fn in_words(wanted: &str) -> &str {
    match wanted {
        "a string" => "a text in quotes",
        "a sequence" => "a list in square brackets",
        "a map" => "a table",
        "u64" => "a whole number from 0 on",
        // What serde says of a type whose name is no word of a file.
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// A correct line for a key; several sections have one of the same name, and then the commonest counts.
fn example(key: &str) -> Option<String> {
    let line = match key {
        "exclude" => "exclude = [\"lo\"]",
        "keep" | "drop" => "keep = [\"cpu\", \"memory\"]",
        "network" => "network = { exclude = [\"lo\"] }",
        "disk" => "disk = { exclude = [\"/mnt\"] }",
        "processes" => "processes = { keep = 20, by = \"cpu\" }",
        "path" => "path = \"/var/log/metrics.jsonl\"",
        "by" => "by = \"cpu\"",
        "format" => "format = \"infinibay\"",
        "kind" => "kind = \"current_thread\"",
        "allow" => "allow = [\"*\"]",
        "command_type" => "command_type = \"action\"",
        "required" => "required = true",
        "filter" => "filter = { field = \"level\", equals = \"error\" }",
        "lines" => "lines = { file = \"/var/log/app.ndjson\" }",
        "receive" => "[receive] port = \"org.infinibay.agent\"",
        "enrich" => "[[enrich]] rates = {}",
        "batch" => "[batch] max_items = 64",
        "serialize" => "[serialize] format = \"infinibay\"",
        "write" => "[write] port = \"org.infinibay.agent\"",
        _ => return super::reference::example(key),
    };
    Some(line.to_owned())
}

/// The remedy for `word`.
fn instead(word: &str, offered: &[&str]) -> String {
    if offered.is_empty() {
        return "nothing can be set here; take it out".to_owned();
    }
    let all = list(offered.iter().copied());
    match nearest(word, offered) {
        Some(near) if offered.len() == 1 => format!("did you mean \"{near}\"?"),
        Some(near) => format!("did you mean \"{near}\"? known here are {all}"),
        None if offered.len() == 1 => format!("only {all} is known here"),
        None => format!("known here are {all}"),
    }
}

/// `"a", "b" and "c"`.
pub(super) fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{} and {end}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// The word that was likely meant: one that begins the same, or is at most a third of it away.
pub(super) fn nearest<'a>(word: &str, offered: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase().replace(' ', "_");
    let begins = |one: &&&str| word.len() >= 3 && one.starts_with(&word);
    if let Some(whole) = offered.iter().find(begins) {
        return Some(whole);
    }
    let length = word.chars().count();
    let far = |one: &str| strsim::osa_distance(&word, one);
    let near = offered.iter().min_by_key(|one| far(one))?;
    (far(near) <= (length.max(near.len()) / 3).max(1)).then_some(*near)
}

/// The words that serde offers: those in backticks after the last "expected".
pub(super) fn offered(said: &str) -> Vec<&str> {
    let Some((_, tail)) = said.rsplit_once("`, expected ") else { return Vec::new() };
    tail.split('`').skip(1).step_by(2).collect()
}

/// The expected value: the text after the last "expected".
fn wanted(said: &str) -> &str {
    said.rsplit_once(", expected ").map_or("something else", |(_, wanted)| wanted)
}

/// The text at the place: one line, shortened.
pub(super) fn word(source: &str, span: &Range<usize>) -> String {
    let written = source.get(span.clone()).unwrap_or_default();
    let first = written.lines().next().unwrap_or_default().trim();
    match first {
        "" => "this file".to_owned(),
        _ => cut(&clean(first), 60),
    }
}

/// A word without its quotes.
pub(super) fn bare(word: &str) -> String {
    word.trim_matches(['"', '\'']).to_owned()
}

/// Whether the word at the place is in the header of a section.
fn is_header(source: &str, span: &Range<usize>) -> bool {
    let line = before(source, span);
    line.starts_with('[') && !line.contains('=')
}

/// The text before the place on its line, without indentation.
pub(super) fn before<'a>(source: &'a str, span: &Range<usize>) -> &'a str {
    let all = source.get(..span.start).unwrap_or_default();
    all.rsplit('\n').next().unwrap_or_default().trim_start()
}

/// Whether nothing stands before the place on its line.
fn is_first_of_line(source: &str, span: &Range<usize>) -> bool {
    before(source, span).is_empty()
}

/// The key of the value at the place, where both are on one line.
fn key_before(source: &str, span: &Range<usize>) -> Option<String> {
    let key = before(source, span).trim_end().strip_suffix('=')?.trim_end();
    let start = key.rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'));
    Some(key[start.map_or(0, |start| start + 1)..].to_owned()).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_found_and_no_other() {
        let offered = ["max_items", "max_bytes", "max_delay"];
        assert_eq!(nearest("max_item", &offered), Some("max_items"));
        assert_eq!(nearest("MAX_ITEMS", &offered), Some("max_items"));
        assert_eq!(nearest("max items", &offered), Some("max_items"));
        assert_eq!(nearest("mem", &["cpu", "memory"]), Some("memory"));
        assert_eq!(nearest("jsonlines", &["infinibay", "json-lines"]), Some("json-lines"));
        assert_eq!(nearest("x", &["cpu", "memory"]), None);
        assert_eq!(nearest("gpu", &["cpu", "memory"]), Some("cpu"));
        assert_eq!(nearest("disc", &["disk", "load"]), Some("disk"));
        assert_eq!(nearest("temperature", &["cpu", "memory"]), None);
        assert_eq!(nearest("", &["cpu"]), None);
    }

    #[test]
    fn offers_come_from_the_end_where_only_the_grammar_speaks() {
        let said = "unknown variant `a`, expected `evil`, expected one of `cpu`, `memory`";
        assert_eq!(offered(said), ["cpu", "memory"]);
        assert_eq!(offered("unknown field `a`, there are no fields"), Vec::<&str>::new());
        assert_eq!(offered("unknown field `a`, expected `b` or `c`"), ["b", "c"]);
    }
}
