//! Text of others for a person: what a terminal would obey, and what shows nothing, is replaced or spelled out.
//! Prints nothing.

use std::fmt;

/// `text` without what [`steers`], so that no text of a guest or of a program can pass for another.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// `text` of several lines for a terminal: line ends and tabs stay, everything else that [`steers`] is escaped as
/// `\u{9b}`.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\t' => shown.push(c),
            c if steers(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A line of JSON that means the same, with everything that [`steers`] escaped as JSON does it.
pub(crate) fn shown_json(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            // Within a text they would be escaped already.
            '\n' | '\r' | '\t' => shown.push(' '),
            c if steers(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    shown.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => shown.push(c),
        }
    }
    shown
}

/// Writes what it is given into a text, with each character that [`steers`] spelled out as Rust does in a string
/// (`\n`, `\u{202e}`): one text stays one line, and shows all it holds.
pub(crate) struct Escaped<'a>(pub(crate) &'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match steers(c) {
                true => self.0.extend(c.escape_debug()),
                false => self.0.push(c),
            }
        }
        Ok(())
    }
}

/// Control characters, those that break a line or turn the direction of text, and those that show nothing.
///
/// The last are Unicode's `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt), among which are those that
/// turn the direction; with them the anchors of annotations, which show nothing either. That takes the joiners out
/// of some scripts and pictures, too: a name is to be distinguished from another here, not to be beautiful.
pub(crate) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_lines_keeps_them_and_shows_what_would_be_obeyed() {
        let hostile = "one\r\ntwo\t\u{1b}[2J\rx\u{202e}\u{2028}\u{200b}\n";
        let escaped = "one\ntwo\t\\u{1b}[2J\\u{d}x\\u{202e}\\u{2028}\\u{200b}\n";
        assert_eq!(shown(hostile), escaped);
    }

    #[test]
    fn json_means_the_same_when_it_is_shown() {
        let body = serde_json::json!({ "a\u{9b}": "\u{1b}\u{7f}\u{202e}\u{e0041}é" });
        let line = format!("\t{body} \r");
        let shown = shown_json(&line);
        assert!(!shown.contains(steers), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), body);
    }

    #[test]
    fn one_text_stays_one_line() {
        let mut shown = String::new();
        fmt::Write::write_str(&mut Escaped(&mut shown), "é\u{202e}\u{2028}\"\n😀").unwrap();
        assert_eq!(shown, "é\\u{202e}\\u{2028}\"\\n😀");
    }

    #[test]
    fn nothing_turns_hides_or_moves_and_all_that_shows_stays() {
        let hostile = "a\u{1b}[2J\u{9b}\u{202e}b\u{2067}\u{200f}\u{61c}\u{200b}\u{feff}\u{ad}\u{2029}\u{e0041}c\n";
        let shown = plain(hostile);
        assert_eq!(shown.chars().filter(|c| *c != '\u{fffd}').collect::<String>(), "a[2Jbc");
        assert_eq!(shown.chars().count(), hostile.chars().count(), "each leaves its mark");
        for text in ["plain é", "日本語 ﬁ", "עברית العربية", "a\u{a0}b", "e\u{301}", "😀"]
        {
            assert_eq!(plain(text), text);
        }
    }
}
