//! The text of a script or a command line as a POSIX shell can read it. Runs nothing.
//!
//! A file that was saved on Windows may begin with a byte order mark and end its lines with CR LF. To a
//! shell the mark is part of the first word, and the CR of the last: `set -e` fails as an unknown option
//! and the rest runs without it. So both go before the shell sees them, and the answer says so.

use std::borrow::Cow;

/// U+FEFF in front of a text.
const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// `text` without byte order marks in front and without CRs at the ends of its lines, and a sentence
/// without a full stop that says what was removed, if anything was.
///
/// A here-document loses its CRs, too: a script that wants some writes them as `\r` for `printf`.
pub(super) fn for_posix(text: &str) -> (Cow<'_, str>, Option<String>) {
    let rest = text.trim_start_matches(BYTE_ORDER_MARK);
    let has_mark = rest.len() < text.len();
    let mut ends = 0_usize;
    let mut plain = Cow::Borrowed(rest);
    if memchr::memchr(b'\r', rest.as_bytes()).is_some() {
        let mut cleaned = String::with_capacity(rest.len());
        for line in rest.split_inclusive('\n') {
            let words = line.strip_suffix('\n').unwrap_or(line);
            let without = words.trim_end_matches('\r');
            ends += usize::from(without.len() < words.len());
            cleaned.push_str(without);
            cleaned.push_str(&line[words.len()..]);
        }
        if ends > 0 {
            plain = Cow::Owned(cleaned);
        }
    }
    let lines = match ends {
        0 => None,
        1 => Some("the carriage return at the end of 1 line".to_owned()),
        _ => Some(format!("the carriage returns at the ends of {ends} lines")),
    };
    let removed = match (has_mark, lines) {
        (false, None) => return (plain, None),
        (true, None) => "a byte order mark".to_owned(),
        (false, Some(lines)) => lines,
        (true, Some(lines)) => format!("a byte order mark and {lines}"),
    };
    (plain, Some(format!("removed {removed} before it was run")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_saved_on_windows_is_what_was_typed() {
        for (saved, typed, expected) in [
            ("set -e\n", "set -e\n", None),
            ("", "", None),
            ("a\rb\n", "a\rb\n", None),
            ("\u{FEFF}set -e\n", "set -e\n", Some("a byte order mark before")),
            ("set -e\r\nfalse\r\n", "set -e\nfalse\n", Some("the ends of 2 lines")),
            ("#!/bin/sh\r\nset -e", "#!/bin/sh\nset -e", Some("the end of 1 line")),
            ("a\nset -e\r", "a\nset -e", Some("the end of 1 line")),
            ("a\r\r\nb\r c\n\r\n", "a\nb\r c\n\n", Some("the ends of 2 lines")),
            ("\u{FEFF}\u{FEFF}x\r\n", "x\n", Some("a byte order mark and the carriage return")),
            ("cat <<E\r\nö\r\nE\r\n", "cat <<E\nö\nE\n", Some("the ends of 3 lines")),
        ] {
            let (text, note) = for_posix(saved);
            assert_eq!(text, typed, "{saved:?}");
            match (&note, expected) {
                (None, None) => {}
                (Some(note), Some(expected)) => {
                    assert!(note.contains(expected), "{saved:?}: {note}")
                }
                _ => panic!("{saved:?}: {note:?}"),
            }
        }
    }
}
