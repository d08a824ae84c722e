//! What a shell, or PowerShell, gives to a program as its input: `<<< word`, `<<EOF` and `@'…'@`.

use std::borrow::Cow;

use memchr::memmem;

use super::REDACTED;

/// What stands behind `<<<`: a word of the shell, which may be quoted.
pub(super) fn here_strings(text: &str) -> Cow<'_, str> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = memmem::find(rest.as_bytes(), b"<<<") {
        let behind = &rest[at + 3..];
        let is_more = behind.starts_with('<'); // a mark of a merge
        let after = match is_more {
            true => behind.trim_start_matches('<'),
            false => behind.trim_start_matches([' ', '\t']),
        };
        out.push_str(&rest[..rest.len() - after.len()]);
        let length = if is_more { 0 } else { shell_word(after) };
        if length > 0 {
            out.push_str(REDACTED);
        }
        rest = &after[length..];
    }
    if rest.len() == text.len() { text.into() } else { (out + rest).into() }
}

/// The longest here-document that ends with a number.
const NUMBERED_MAX: usize = 4 * 1024;

/// The lines of each here-document: what stands behind a line with `<<EOF`, to the line that is `EOF`, or to the end of the
/// text, since it may have been cut. The same of PowerShell, between `@'` and `'@`.
pub(super) fn here_documents(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied, mut at) = (String::new(), 0, 0);
    let marks = ["<<", "@'", "@\""].into_iter();
    let Some(last) = marks.filter_map(|mark| memmem::rfind(text.as_bytes(), mark.as_bytes())).max()
    else {
        return text.into();
    };
    while at <= last {
        let line = &text[at..at + text[at..].find('\n').unwrap_or(text.len() - at)];
        at += line.len() + 1;
        for document in Document::begun_in(line).chain(Document::of_powershell(line)) {
            let Some(lines) = text.get(at..).filter(|lines| !lines.is_empty()) else { break };
            // Most often a number that is moved by some bits, as in `$((1<<4))`.
            let is_number = document.end.bytes().all(|byte| byte.is_ascii_digit());
            let near = lines.len().min(NUMBERED_MAX);
            let searched =
                if is_number { &lines[..lines.floor_char_boundary(near)] } else { lines };
            let (body, all) = match document.extent(searched) {
                Some(extent) => extent,
                None if is_number => break,
                None => (lines.len(), lines.len()),
            };
            if body > 0 {
                out.push_str(&text[copied..at]);
                out.push_str(REDACTED);
                copied = at + body;
            }
            at += all;
        }
    }
    if copied == 0 { text.into() } else { (out + &text[copied..]).into() }
}

/// A here-document, as `<<WORD`, `<<-WORD` or `@'` announces it.
struct Document {
    /// The line that ends it.
    end: String,
    /// That may have tabs before it.
    has_tabs: bool,
    /// More may follow in that line.
    has_more: bool,
}

impl Document {
    fn begun_in(line: &str) -> impl Iterator<Item = Self> {
        let mut rest = line;
        std::iter::from_fn(move || {
            loop {
                let behind = &rest[memmem::find(rest.as_bytes(), b"<<")?..];
                let word = behind.trim_start_matches('<');
                rest = word;
                if behind.len() - word.len() > 2 {
                    continue; // a text as input, or a mark of a merge
                }
                let (has_tabs, word) =
                    word.strip_prefix('-').map_or((false, word), |word| (true, word));
                let word = word.trim_start_matches([' ', '\t']);
                let length = shell_word(word);
                rest = &word[length..];
                if length > 0 {
                    let word = word[..length].trim_start_matches('$');
                    let end = word.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
                    return Some(Self { end, has_tabs, has_more: false });
                }
            }
        })
    }

    fn of_powershell(line: &str) -> Option<Self> {
        let mark = line.trim_end();
        let (before, quote) = ["'", "\""]
            .iter()
            .find_map(|quote| Some((mark.strip_suffix(quote)?.strip_suffix('@')?, quote)))?;
        let is_value = before.is_empty()
            || before.ends_with(|c: char| c.is_whitespace() || matches!(c, '=' | '(' | ','));
        is_value.then(|| Self { end: format!("{quote}@"), has_tabs: false, has_more: true })
    }

    /// The length of what it holds, without the last line break, and of that with the line that ends it. `None`: that
    /// line is not there.
    fn extent(&self, lines: &str) -> Option<(usize, usize)> {
        let mut at = 0_usize;
        for line in lines.split_inclusive('\n') {
            let text = line.trim_end_matches(['\n', '\r']);
            let text = if self.has_tabs { text.trim_start_matches('\t') } else { text };
            if text == self.end || self.has_more && text.starts_with(&self.end) {
                return Some((at.saturating_sub(1), at + line.len()));
            }
            at += line.len();
        }
        None
    }
}

/// The length of the word that `text` begins with. A quote that is not closed goes to the end of the text.
pub(super) fn shell_word(text: &str) -> usize {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            _ if std::mem::take(&mut is_escaped) => {}
            Some('\'') if c != '\'' => {}
            _ if c == '\\' => is_escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() || matches!(c, ';' | '|' | '&' | '<' | '>' | ')') => {
                return at;
            }
            None => {}
        }
    }
    text.len()
}
