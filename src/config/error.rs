//! An error in a file, and its display: place and message, then the line with the error underlined, then the remedy.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use crate::wire::steers;

/// Whether a file can be used as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It cannot: nothing is started.
    #[default]
    Error,
    /// It can, and something in it has no effect, or loses what was likely wanted.
    Warning,
}

/// An error in a file. Shown over several lines, without a line break at the end:
///
/// ```text
/// metrics.toml:7:1: unknown key "max_item"
///   |
/// 7 | max_item = 64
///   | ^^^^^^^^
/// help: did you mean "max_items"? known here are "max_items", "max_bytes" and "max_delay"
/// ```
///
/// It never contains the value of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// An error, or a warning: the file can be used.
    pub severity: Severity,
    /// The file as it was given; `built-in:NAME` for one that is part of the program.
    pub file: String,
    /// The place; `None` if the file could not be read.
    pub place: Option<Box<Place>>,
    /// The message, in lower case, without a full stop.
    pub message: String,
    /// The remedy.
    pub help: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the file.
    pub span: Range<usize>,
    /// Counted from 1.
    pub line: usize,
    /// Counted in characters, from 1.
    pub column: usize,
    /// The line it begins on.
    pub text: String,
    /// The wrong words, as bytes of `text`.
    pub mark: Range<usize>,
}

impl ConfigError {
    /// An error of a whole file.
    pub fn of_file(
        file: impl Into<String>,
        message: impl Into<String>,
        help: Option<&str>,
    ) -> Self {
        let help = help.map(str::to_owned);
        let severity = Severity::Error;
        Self { severity, file: file.into(), place: None, message: message.into(), help }
    }

    /// All of it in one line, as the log has it.
    pub fn line(&self) -> String {
        let place = self.place.as_ref().map(|place| format!(":{}:{}", place.line, place.column));
        let help = self.help.as_ref().map(|help| format!(" ({help})"));
        let (place, help) = (place.unwrap_or_default(), help.unwrap_or_default());
        format!("{}{place}: {}{help}", self.file, self.message)
    }
}

impl Place {
    /// The place of `span` in `source`. A span that points behind the last word, where a parser
    /// notices that something is missing, is moved to the end of the last line that has any.
    pub(super) fn new(source: &str, span: Range<usize>) -> Self {
        let mut start = floor(source, span.start);
        if source[start..].trim().is_empty() {
            start = source.trim_end().len();
        }
        let end = floor(source, span.end).max(start);
        let from = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let to = source[start..].find('\n').map_or(source.len(), |length| start + length);
        let text = source[from..to].trim_end_matches('\r');
        let within = |at: usize| (at - from).min(text.len());
        let mark = within(start)..within(end);
        Self {
            span: start..end,
            line: source[..from].matches('\n').count() + 1,
            column: text[..mark.start].chars().count() + 1,
            text: text.to_owned(),
            mark,
        }
    }
}

/// The file's name as it is shown.
pub(super) fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// `text` without what would move a terminal's cursor or turn its direction; what cannot be seen is written as
/// `\u{200b}`.
pub(super) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => clean.push(' '),
            _ if is_unsafe(c) => clean.push('\u{fffd}'),
            _ if is_invisible(c) => clean.extend(c.escape_unicode()),
            _ => clean.push(c),
        }
    }
    clean
}

/// The first `most` characters of `text`.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        let message = format_args!("{severity}{}", self.message);
        match &self.place {
            None => write!(f, "{}: {message}", self.file)?,
            Some(place) => {
                writeln!(f, "{}:{}:{}: {message}", self.file, place.line, place.column)?;
                let number = place.line.to_string();
                let gutter = " ".repeat(number.len());
                let (line, under) = window(&place.text, &place.mark);
                writeln!(f, "{gutter} |")?;
                writeln!(f, "{}", format!("{number} | {line}").trim_end())?;
                write!(f, "{gutter} | {under}")?;
            }
        }
        match &self.help {
            Some(help) => write!(f, "\nhelp: {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

/// The most cells of a line that are shown.
const WIDTH: usize = 100;
/// Of those, the most that are left of the wrong words in a line that is cut.
const BEFORE: usize = 40;

/// The part of a line around the mark, ready to print, and the carets that go under it.
fn window(text: &str, mark: &Range<usize>) -> (String, String) {
    let total: usize = text.chars().map(cells).sum();
    let left: usize = text[..mark.start].chars().map(cells).sum();
    let skip = if total > WIDTH { left.saturating_sub(BEFORE) } else { 0 };

    let (mut line, mut under, mut carets) = (String::new(), String::new(), 0);
    if skip > 0 {
        line.push('…');
        under.push(' ');
    }
    let (mut passed, mut used) = (0, 0);
    for (at, c) in text.char_indices() {
        passed += cells(c);
        if passed <= skip {
            continue;
        }
        if used + cells(c) > WIDTH {
            line.push('…');
            break;
        }
        used += cells(c);
        match c {
            '\t' => line.push_str(TAB),
            _ if is_unsafe(c) || is_invisible(c) => line.push('\u{fffd}'),
            _ => line.push(c),
        }
        match at {
            _ if at < mark.start => under.push_str(&" ".repeat(cells(c))),
            _ if at < mark.end => carets += cells(c),
            _ => {}
        }
    }
    under.push_str(&"^".repeat(carets.max(1)));
    (line, under)
}

/// What a tab is shown as, so that every terminal agrees.
const TAB: &str = "    ";

/// Cells of a terminal that a character takes: none for marks that combine, two for the wide ones
/// of East Asia and for pictures (the large blocks of Unicode's EastAsianWidth.txt).
fn cells(c: char) -> usize {
    match c {
        '\t' => TAB.len(),
        _ if is_invisible(c) => 1, // what stands for it
        '\u{0300}'..='\u{036f}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

fn is_unsafe(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && c != '\t')
}

/// Whether a character takes no ink and is no space that a keyboard makes: one that shows nothing, as everywhere here,
/// or a space of another width, which a copied text may hold. Variation selectors belong to the picture before them.
fn is_invisible(c: char) -> bool {
    let is_space = matches!(
        c,
        '\u{00a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{2800}' | '\u{3000}'
    );
    let is_selector = matches!(c, '\u{fe00}'..='\u{fe0f}');
    is_space || steers(c) && !c.is_control() && !is_unsafe(c) && !is_selector
}

/// The last start of a character at or before `at`.
fn floor(source: &str, at: usize) -> usize {
    source.floor_char_boundary(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str, word: &str) -> String {
        let start = source.find(word).unwrap();
        let place = Some(Box::new(Place::new(source, start..start + word.len())));
        let error = ConfigError { place, ..ConfigError::of_file("f", "no", None) };
        error.to_string()
    }

    #[test]
    fn carets_stand_under_the_word_whatever_stands_before_it() {
        assert_eq!(shown("a\n\tb = 1\r\nc", "b"), "f:2:2: no\n  |\n2 |     b = 1\n  |     ^");
        assert_eq!(shown("é = ü", "ü"), "f:1:5: no\n  |\n1 | é = ü\n  |     ^");
        assert_eq!(shown("界 = 人x", "人x"), "f:1:5: no\n  |\n1 | 界 = 人x\n  |      ^^^");
        assert_eq!(shown("e\u{301} = x", "x"), "f:1:6: no\n  |\n1 | e\u{301} = x\n  |     ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_word() {
        let source = format!("{}word{}", "a".repeat(300), "b".repeat(300));
        let expected = format!(
            "f:1:301: no\n  |\n1 | …{}word{}…\n  |  {}^^^^",
            "a".repeat(40),
            "b".repeat(56),
            " ".repeat(40)
        );
        assert_eq!(shown(&source, "word"), expected);
    }

    #[test]
    fn nothing_in_a_file_can_move_the_cursor() {
        assert_eq!(
            shown("\u{1b}[2J = x", "x"),
            "f:1:8: no\n  |\n1 | \u{fffd}[2J = x\n  |        ^"
        );
        assert!(!shown("\u{202e}x = 1", "x").contains('\u{202e}'));
    }

    #[test]
    fn invisible_characters_are_visible_in_an_error() {
        assert_eq!(clean("cpu\u{200b}\u{feff}"), "cpu\\u{200b}\\u{feff}");
        assert_eq!(shown("a\u{a0}= x", "x"), "f:1:5: no\n  |\n1 | a\u{fffd}= x\n  |     ^");
    }

    #[test]
    fn a_place_behind_the_last_word_is_the_end_of_its_line() {
        let place = Place::new("a = [\n\n\n", 8..8);
        assert_eq!((place.line, place.column, place.text.as_str()), (1, 6, "a = ["));
        let place = Place::new("a\r\nb", 1..2);
        assert_eq!((place.line, place.column, place.text.as_str()), (1, 2, "a"));
        let place = Place::new("", 0..0);
        assert_eq!((place.line, place.column, place.text.as_str()), (1, 1, ""));
    }
}
