//! Validates a record and finds its fields in the same walk. Nothing is parsed to a tree, and nothing is copied.
//!
//! A record is one JSON object (RFC 8259, whole) in UTF-8, nested at most [`MAX_DEPTH`] deep. Accepted is what
//! `serde_json` accepts, and numbers of any size: they stay as they are written.
//!
//! # Why no index of the whole line
//! Strings of records are short and their keys known: eight bytes at once from where a string begins find most ends, and the
//! keys are compared with those of the line before. An index of all quotes, as SIMD parsers make it, has to be made first
//! and walked then.

use super::block::{self, byte, plain};
use super::fields::Fields;
use super::found::{FoundFields, MemberSpan};
use super::shape::MemberHead;
use super::text::hex;

/// How deep objects and lists may be nested, the record itself included: as deep as `serde_json` reads.
pub(super) const MAX_DEPTH: u32 = 127;

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not a JSON object.
    InvalidJson,
    /// A text in it is not UTF-8.
    InvalidUtf8,
    /// It is nested deeper than 127 levels.
    TooDeep,
}

impl Flaw {
    /// The word that it is counted under.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
        }
    }
}

/// Validates the object that `text` begins with and writes the places of `fields` into `found`. Returns where the object
/// starts and ends. A newline ends the line, and must be there; what is behind it is not looked at.
///
/// # Errors
/// The first flaw; `found` is of no use then.
#[inline(never)]
pub(super) fn scan(
    text: &[u8],
    fields: &Fields,
    found: &mut FoundFields,
) -> Result<(usize, usize), Flaw> {
    found.clear();
    let start = blank(text, 0);
    let (mut at, mut nth) = (start, 0);
    let end = loop {
        // At the brace, or behind a value.
        let member = match found.shape.known(nth, text, at) {
            Some(known) => known.at(at),
            None => match next(text, at, nth, fields, found)? {
                Next::Member(member) => member,
                Next::End(end) => break end,
            },
        };
        nth += 1;
        let mut value = member.value;
        at = if byte(text, value) == b'"' {
            string(text, value + 1)?.0
        } else {
            value = blank(text, value); // the line before may have had less space here
            match byte(text, value) {
                b'"' => string(text, value + 1)?.0,
                b'{' | b'[' => nested(text, value)?,
                first => scalar(text, value, first)?,
            }
        };
        if fields.is_open || member.field.is_some() {
            let place = MemberSpan::new(member.key, member.after_key, value, at);
            found.member(fields, member.field, place);
        }
    };
    match byte(text, blank(text, end)) == b'\n' {
        true => Ok((start, end)),
        false => Err(Flaw::InvalidJson),
    }
}

/// What comes next in an object.
enum Next {
    Member(MemberHead),
    /// The object ends here.
    End(usize),
}

/// What comes next at `at`: the brace of the record, or behind the value before the member `nth`. Learns its key.
#[inline(never)]
fn next(
    text: &[u8],
    at: usize,
    nth: usize,
    fields: &Fields,
    found: &mut FoundFields,
) -> Result<Next, Flaw> {
    let mark = blank(text, at);
    let key = match (nth, byte(text, mark)) {
        (0, b'{') => blank(text, mark + 1),
        (1.., b',') => blank(text, mark + 1),
        (1.., b'}') => return Ok(Next::End(mark + 1)),
        _ => return Err(Flaw::InvalidJson),
    };
    if nth == 0 && byte(text, key) == b'}' {
        return Ok(Next::End(key + 1));
    }
    let (after_key, escaped) = string(text, expect(text, key, b'"')?)?;
    let value = blank(text, expect(text, blank(text, after_key), b':')?);
    let name = text.get(key + 1..after_key - 1).unwrap_or_default();
    let field = found.find(fields, name, escaped);
    let member = MemberHead { key, after_key, value, field };
    found.shape.learn(nth, text.get(at..value).unwrap_or_default(), at, &member);
    Ok(Next::Member(member))
}

#[inline(always)]
fn expect(line: &[u8], at: usize, wanted: u8) -> Result<usize, Flaw> {
    if byte(line, at) == wanted { Ok(at + 1) } else { Err(Flaw::InvalidJson) }
}

/// The first byte from `at` on that is not whitespace.
#[inline(always)]
fn blank(line: &[u8], mut at: usize) -> usize {
    while let b' ' | b'\t' | b'\r' = byte(line, at) {
        at += 1;
    }
    at
}

/// The end of the string whose first byte is at `at`, its quote included, and whether it has an escape.
#[inline(always)]
fn string(line: &[u8], at: usize) -> Result<(usize, bool), Flaw> {
    let at = plain(line, at);
    match byte(line, at) {
        b'"' => Ok((at + 1, false)),
        _ => uncommon(line, at),
    }
}

/// The same, from a byte on that is not plain.
#[inline(never)]
fn uncommon(line: &[u8], mut at: usize) -> Result<(usize, bool), Flaw> {
    let mut escaped = false;
    loop {
        match byte(line, at) {
            b'"' => return Ok((at + 1, escaped)),
            b'\\' => {
                at = escape(line, at + 1)?;
                escaped = true;
            }
            0..0x20 => return Err(Flaw::InvalidJson),
            _ => {
                while byte(line, at) >= 0x80 {
                    at = character(line, at)?;
                }
            }
        }
        at = plain(line, at);
    }
}

/// The end of the escape whose backslash is before `at`.
fn escape(line: &[u8], at: usize) -> Result<usize, Flaw> {
    match byte(line, at) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => match hex(line, at + 1).ok_or(Flaw::InvalidJson)? {
            0xDC00..=0xDFFF => Err(Flaw::InvalidJson),
            0xD800..=0xDBFF if line.get(at + 5..at + 7) == Some(b"\\u") => {
                match hex(line, at + 7).ok_or(Flaw::InvalidJson)? {
                    0xDC00..=0xDFFF => Ok(at + 11),
                    _ => Err(Flaw::InvalidJson),
                }
            }
            0xD800..=0xDBFF => Err(Flaw::InvalidJson),
            _ => Ok(at + 5),
        },
        _ => Err(Flaw::InvalidJson),
    }
}

/// The end of the character of several bytes at `at` (table 3-7 of the Unicode standard).
#[inline]
fn character(line: &[u8], at: usize) -> Result<usize, Flaw> {
    let (second, length) = match byte(line, at) {
        0xC2..=0xDF => (0x80..=0xBF, 2),
        0xE0 => (0xA0..=0xBF, 3),
        0xED => (0x80..=0x9F, 3),
        0xE1..=0xEF => (0x80..=0xBF, 3),
        0xF0 => (0x90..=0xBF, 4),
        0xF1..=0xF3 => (0x80..=0xBF, 4),
        0xF4 => (0x80..=0x8F, 4),
        _ => return Err(Flaw::InvalidUtf8),
    };
    let rest = at + 2..at + length;
    let is_rest = |at: usize| matches!(byte(line, at), 0x80..=0xBF);
    match second.contains(&byte(line, at + 1)) && rest.into_iter().all(is_rest) {
        true => Ok(at + length),
        false => Err(Flaw::InvalidUtf8),
    }
}

/// The end of a number, `true`, `false` or `null` that begins with `first`.
#[inline(always)]
fn scalar(line: &[u8], at: usize, first: u8) -> Result<usize, Flaw> {
    match first {
        b'0'..=b'9' | b'-' => number(line, at),
        b't' => word(line, at, b"true"),
        b'f' => word(line, at, b"false"),
        b'n' => word(line, at, b"null"),
        _ => Err(Flaw::InvalidJson),
    }
}

fn word(line: &[u8], at: usize, word: &[u8]) -> Result<usize, Flaw> {
    match line.get(at..at + word.len()) == Some(word) {
        true => Ok(at + word.len()),
        false => Err(Flaw::InvalidJson),
    }
}

#[inline(always)]
fn number(line: &[u8], start: usize) -> Result<usize, Flaw> {
    let first = start + usize::from(byte(line, start) == b'-');
    let mut at = digits(line, first)?;
    if byte(line, first) == b'0' && at > first + 1 {
        return Err(Flaw::InvalidJson);
    }
    if byte(line, at) == b'.' {
        at = digits(line, at + 1)?;
    }
    match byte(line, at) {
        b'e' | b'E' => {
            let has_sign = matches!(byte(line, at + 1), b'+' | b'-');
            digits(line, at + 1 + usize::from(has_sign))
        }
        _ => Ok(at),
    }
}

/// The end of one digit or more.
#[inline(always)]
fn digits(line: &[u8], start: usize) -> Result<usize, Flaw> {
    let mut at = start;
    while let Some(block) = line.get(at..).and_then(|rest| rest.first_chunk()) {
        let length = block::digits(block);
        at += length;
        if length < 8 {
            return if at > start { Ok(at) } else { Err(Flaw::InvalidJson) };
        }
    }
    while byte(line, at).is_ascii_digit() {
        at += 1;
    }
    if at > start { Ok(at) } else { Err(Flaw::InvalidJson) }
}

/// The end of the object or list at `at`.
fn nested(line: &[u8], mut at: usize) -> Result<usize, Flaw> {
    // One bit for each that is open: whether it is an object. The record itself is one level.
    let (mut objects, mut depth) = (0_u128, 1);
    loop {
        let first = byte(line, at);
        if let b'{' | b'[' = first {
            depth += 1;
            if depth > MAX_DEPTH {
                return Err(Flaw::TooDeep);
            }
            objects = objects << 1 | u128::from(first == b'{');
            at = blank(line, at + 1);
            match (first, byte(line, at)) {
                (b'{', b'}') | (b'[', b']') => {
                    at += 1;
                    objects >>= 1;
                    depth -= 1;
                }
                (b'{', _) => {
                    at = key(line, at)?;
                    continue;
                }
                _ => continue,
            }
        } else if first == b'"' {
            at = string(line, at + 1)?.0;
        } else {
            at = scalar(line, at, first)?;
        }
        // A value has ended.
        loop {
            if depth == 1 {
                return Ok(at);
            }
            at = blank(line, at);
            let is_object = objects & 1 == 1;
            match (byte(line, at), is_object) {
                (b',', true) => {
                    at = key(line, blank(line, at + 1))?;
                    break;
                }
                (b',', false) => {
                    at = blank(line, at + 1);
                    break;
                }
                (b'}', true) | (b']', false) => {
                    at += 1;
                    objects >>= 1;
                    depth -= 1;
                }
                _ => return Err(Flaw::InvalidJson),
            }
        }
    }
}

/// From a key to the value behind it.
#[inline(always)]
fn key(line: &[u8], at: usize) -> Result<usize, Flaw> {
    let (after, _) = string(line, expect(line, at, b'"')?)?;
    Ok(blank(line, expect(line, blank(line, after), b':')?))
}
