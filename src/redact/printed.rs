//! What a command prints into a program or a file that takes a secret.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memrchr;

use super::{REDACTED, call};

/// Commands that print their arguments, in lower case.
const PRINTERS: &[&str] = &["echo", "printf", "print", "yes", "write-output"];
/// Programs that read a secret from their standard input, and options by which any program does.
const READERS: &[&str] = &[
    "su",
    "pass",
    "vault",
    "bao",
    "kinit",
    "pdbedit",
    "cryptsetup",
    "ssh-add",
    "keyctl",
    "systemd-creds",
    "--stdin",
    "-stdin",
];
/// Parts of the names of programs, options and files that take one.
const TELLING_PARTS: &[&str] =
    &["passw", "passphrase", "pgpass", "secret", "securestring", "token", "credential", "netrc"];
/// Ends of the names of files that hold one.
const TELLING_ENDS: &[&str] = &[".key", ".pem", "_pass", "shadow"];

/// Removes what is printed into such a program (`echo … | chpasswd`), into such a file (`printf … > db_password`), and for
/// a program that reads a file (`cryptsetup --key-file <(echo …)`).
pub(super) fn printed(text: &str) -> Cow<'_, str> {
    let (mut out, mut copied) = (String::new(), 0);
    let mut floor = 0; // where the next command may begin at the earliest: nothing is looked at twice
    for at in memchr::memchr3_iter(b'|', b'>', b'<', text.as_bytes()) {
        if at < floor {
            continue;
        }
        let into = &text[at + 1..];
        let part = match text.as_bytes()[at] {
            b'<' => substituted(text, at + 1),
            b'|' if text[..at].ends_with('|') || !program_takes_secret(into) => continue,
            b'>' if !file_takes_secret(into) => continue,
            _ => {
                let command = command_start(text, floor, at)..at;
                floor = at + 1;
                arguments(text, command, is_securestring(into))
            }
        };
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            out.push_str(&text[copied..part.start]);
            out.push_str(REDACTED);
            copied = part.end;
            floor = floor.max(copied);
        }
    }
    if copied == 0 { text.into() } else { (out + &text[copied..]).into() }
}

/// What a printer in `<(…)` prints; `at` is behind the `<`.
fn substituted(text: &str, at: usize) -> Option<Range<usize>> {
    let inner = text[at..].strip_prefix('(')?;
    let name = first_word(inner);
    if !is_printer(name) {
        return None;
    }
    let start = inner.len() - inner.trim_start().len() + name.len();
    let mut end = start;
    loop {
        end += call(&inner[end..]);
        if !inner[end..].starts_with([';', '|', '\n']) {
            return trimmed(text, at + 1 + start..at + 1 + end);
        }
        end += 1;
    }
}

/// What the command in `command` prints of its arguments. `is_literal`: it is one of PowerShell, where a text prints itself.
fn arguments(text: &str, command: Range<usize>, is_literal: bool) -> Option<Range<usize>> {
    let line = &text[command.clone()];
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | '{' | '`' | '=');
    let mut at = 0;
    for word in line.split(ends) {
        at += word.len();
        if is_printer(word) {
            return trimmed(text, command.start + at..command.end);
        }
        at += line[at..].chars().next().map_or(0, char::len_utf8);
    }
    let quote = line.find(['"', '\'']).filter(|_| is_literal)?;
    trimmed(text, command.start + quote..command.end)
}

/// Without the blanks around it, and the sign of appending to a file.
fn trimmed(text: &str, part: Range<usize>) -> Option<Range<usize>> {
    let inner = text[part.clone()].trim_end_matches('>').trim_end();
    let start = part.start + inner.len() - inner.trim_start().len();
    Some(start..part.start + inner.len())
}

/// Where the command begins that ends at `end`, not before `floor`: behind a sign of the shell that is in no quotes and no
/// brackets.
fn command_start(text: &str, floor: usize, end: usize) -> usize {
    let bytes = &text.as_bytes()[floor..end];
    let (mut at, mut depth) = (bytes.len(), 0_usize);
    while at > 0 {
        at -= 1;
        match bytes[at] {
            // Without another one it opens what surrounds the command.
            quote @ (b'"' | b'\'') => at = memrchr(quote, &bytes[..at]).unwrap_or(at),
            b')' | b'}' => depth += 1,
            b'(' | b'{' if depth > 0 => depth -= 1,
            b'&' if bytes[..at].ends_with(b">") => {} // `2>&1`
            b'(' | b'{' | b';' | b'&' | b'\n' | b'`' if depth == 0 => return floor + at + 1,
            _ => {}
        }
    }
    floor
}

fn is_printer(word: &str) -> bool {
    let name = word.rsplit_once('/').map_or(word, |path| path.1);
    PRINTERS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether the command that `text` begins with reads a secret.
fn program_takes_secret(text: &str) -> bool {
    let text = text.strip_prefix('&').unwrap_or(text); // `|&`
    let command = &text[..text.find(['|', ';', '&', '\n']).unwrap_or(text.len())];
    let words = || command.split_whitespace().map(|word| word.trim_matches(['"', '\'', ')']));
    let reads = |word: &str| READERS.contains(&word.rsplit_once('/').map_or(word, |path| path.1));
    let asks = |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains('S');
    words().any(|word| reads(word) || is_telling(word))
        || words().any(|word| word == "sudo") && words().any(asks)
}

/// Whether the file that `text` begins with is to hold a secret.
fn file_takes_secret(text: &str) -> bool {
    is_telling(first_word(text).trim_matches(['"', '\'']))
}

fn is_telling(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    TELLING_PARTS.iter().any(|part| word.contains(part))
        || TELLING_ENDS.iter().any(|end| word.ends_with(end))
}

fn is_securestring(text: &str) -> bool {
    first_word(text).eq_ignore_ascii_case("ConvertTo-SecureString")
}

/// To the next blank or sign of the shell.
fn first_word(text: &str) -> &str {
    let text = text.trim_start();
    let ends = |c: char| c.is_whitespace() || matches!(c, '|' | '>' | '<' | ';' | '&' | '(' | ')');
    &text[..text.find(ends).unwrap_or(text.len())]
}
