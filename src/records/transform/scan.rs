//! Validates a record and finds its fields in the same walk. Nothing is parsed to a tree, and nothing is copied.
//!
//! A record is one JSON object (RFC 8259, whole) in UTF-8, nested at most [`MAX_DEPTH`] deep. Accepted is what
//! `serde_json` accepts, and numbers of any size: they stay as they are written.
//!
//! # Why tables and not SIMD
//! Strings of records are short. A loop over a table lets the processor guess where a string ends and go on; a mask has
//! to be computed first.

use super::record::{Fields, Found, Place};

/// How deep objects and lists may be nested, the record itself included: as deep as `serde_json` reads.
pub const MAX_DEPTH: u32 = 127;

/// Why a line is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It is not a JSON object.
    InvalidJson,
    /// A text in it is not UTF-8.
    InvalidUtf8,
    /// It is nested deeper than 127 levels.
    TooDeep,
}

impl Flaw {
    /// The word that it is counted under.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooDeep => "too_deep",
        }
    }
}

const PLAIN: u8 = 0;
const QUOTE: u8 = 1;
const ESCAPE: u8 = 2;
const CONTROL: u8 = 3;
const HIGH: u8 = 4;

/// What a byte is inside a string.
const IN_STRING: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            b'"' => QUOTE,
            b'\\' => ESCAPE,
            0..0x20 => CONTROL,
            0x80.. => HIGH,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
};

/// Validates the object in `line` and writes the places of `fields` into `found`. Returns where the object starts and ends.
///
/// # Errors
/// The first flaw; `found` is of no use then.
#[inline]
pub(super) fn scan(
    line: &[u8],
    fields: &Fields,
    found: &mut Found,
) -> Result<(usize, usize), Flaw> {
    found.clear();
    let start = blank(line, 0);
    let mut at = blank(line, expect(line, start, b'{')?);
    if byte(line, at) == b'}' {
        at += 1;
    } else {
        loop {
            let key = at;
            let (after, escaped) = string(line, expect(line, at, b'"')?)?;
            at = blank(line, after);
            at = blank(line, expect(line, at, b':')?);
            let value = at;
            at = match byte(line, at) {
                b'"' => string(line, at + 1)?.0,
                b'{' | b'[' => nested(line, at)?,
                other => scalar(line, at, other)?,
            };
            let place = Place::new(key, after, value, at);
            let name = line.get(key + 1..after - 1).unwrap_or_default();
            found.member(fields, name, escaped, place);
            at = blank(line, at);
            match byte(line, at) {
                b',' => at = blank(line, at + 1),
                b'}' => break at += 1,
                _ => return Err(Flaw::InvalidJson),
            }
        }
    }
    match blank(line, at) == line.len() {
        true => Ok((start, at)),
        false => Err(Flaw::InvalidJson),
    }
}

/// The byte at `at`; NUL, which is valid nowhere, behind the end.
#[inline(always)]
fn byte(line: &[u8], at: usize) -> u8 {
    match line.get(at) {
        Some(byte) => *byte,
        None => 0,
    }
}

#[inline(always)]
fn expect(line: &[u8], at: usize, wanted: u8) -> Result<usize, Flaw> {
    if byte(line, at) == wanted { Ok(at + 1) } else { Err(Flaw::InvalidJson) }
}

/// The first byte from `at` on that is not whitespace.
#[inline(always)]
fn blank(line: &[u8], mut at: usize) -> usize {
    while let b' ' | b'\t' | b'\r' | b'\n' = byte(line, at) {
        at += 1;
    }
    at
}

/// The end of the string whose first byte is at `at`, its quote included, and whether it has an escape.
#[inline(always)]
fn string(line: &[u8], mut at: usize) -> Result<(usize, bool), Flaw> {
    let mut escaped = false;
    loop {
        let Some(byte) = line.get(at) else { return Err(Flaw::InvalidJson) };
        match IN_STRING[usize::from(*byte)] {
            PLAIN => at += 1,
            QUOTE => return Ok((at + 1, escaped)),
            ESCAPE => {
                at = escape(line, at + 1)?;
                escaped = true;
            }
            CONTROL => return Err(Flaw::InvalidJson),
            _ => at = character(line, at)?,
        }
    }
}

/// The end of the escape whose backslash is before `at`.
fn escape(line: &[u8], at: usize) -> Result<usize, Flaw> {
    match byte(line, at) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => match hex(line, at + 1)? {
            0xDC00..=0xDFFF => Err(Flaw::InvalidJson),
            0xD800..=0xDBFF if line.get(at + 5..at + 7) == Some(b"\\u") => {
                match hex(line, at + 7)? {
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

/// The value of four hexadecimal digits.
pub(super) fn hex(line: &[u8], at: usize) -> Result<u32, Flaw> {
    let digits = line.get(at..at + 4).ok_or(Flaw::InvalidJson)?;
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16).ok_or(Flaw::InvalidJson)?;
        Ok(value << 4 | digit)
    })
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
fn number(line: &[u8], mut at: usize) -> Result<usize, Flaw> {
    if byte(line, at) == b'-' {
        at += 1;
    }
    at = match byte(line, at) {
        b'0' => at + 1,
        _ => digits(line, at)?,
    };
    if byte(line, at) == b'.' {
        at = digits(line, at + 1)?;
    }
    if let b'e' | b'E' = byte(line, at) {
        at += 1;
        if let b'+' | b'-' = byte(line, at) {
            at += 1;
        }
        at = digits(line, at)?;
    }
    Ok(at)
}

/// The end of one digit or more.
#[inline(always)]
fn digits(line: &[u8], start: usize) -> Result<usize, Flaw> {
    let mut at = start;
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
