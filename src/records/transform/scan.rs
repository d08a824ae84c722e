//! Validates a record and finds its fields in the same walk. Nothing is parsed to a tree, and nothing is copied.
//!
//! A record is one JSON object (RFC 8259, whole) in UTF-8, nested at most [`MAX_DEPTH`] deep. Accepted is what
//! `serde_json` accepts, and numbers of any size: they stay as they are written.
//!
//! # Why tables and not SIMD
//! Strings of records are short. A loop over a table lets the processor guess where a string ends and go on; a mask has
//! to be computed first.

use super::record::{Field, Fields, Found, Place};

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

/// Whether a byte inside a string is a part of it as it is: no quote, backslash or control character, and ASCII.
const IS_PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x80 {
        plain[byte] = !matches!(byte as u8, b'"' | b'\\');
        byte += 1;
    }
    plain
};

/// Validates the object that `text` begins with and writes the places of `fields` into `found`. Returns where the object
/// starts and ends. A newline ends the line, and must be there; what is behind it is not looked at.
///
/// # Errors
/// The first flaw; `found` is of no use then.
#[inline]
pub(super) fn scan(
    text: &[u8],
    fields: &Fields,
    found: &mut Found,
) -> Result<(usize, usize), Flaw> {
    found.clear();
    let start = blank(text, 0);
    let mut at = blank(text, expect(text, start, b'{')?);
    if byte(text, at) == b'}' {
        at += 1;
    } else {
        let mut nth = 0;
        loop {
            let key = at;
            let (after, value, field) = match found.shape.known(nth, text, at) {
                Some(known) => {
                    let value = blank(text, at + usize::from(known.length));
                    (at + usize::from(known.after), value, known.field)
                }
                None => {
                    let (after, escaped) = string(text, expect(text, at, b'"')?)?;
                    let value = blank(text, expect(text, blank(text, after), b':')?);
                    let name = text.get(key + 1..after - 1).unwrap_or_default();
                    let field = found.find(fields, name, escaped);
                    let bytes = text.get(key..value).unwrap_or_default();
                    found.shape.learn(nth, bytes, after - key, field);
                    (after, value, field)
                }
            };
            nth += 1;
            at = match byte(text, value) {
                b'"' => string(text, value + 1)?.0,
                b'{' | b'[' => nested(text, value)?,
                other => scalar(text, value, other)?,
            };
            found.member(fields, field, Place::new(key, after, value, at));
            match byte(text, at) {
                b',' => at += 1,
                _ => {
                    at = blank(text, at);
                    match byte(text, at) {
                        b',' => at += 1,
                        b'}' => break at += 1,
                        _ => return Err(Flaw::InvalidJson),
                    }
                }
            }
            at = blank(text, at);
        }
    }
    match byte(text, blank(text, at)) == b'\n' {
        true => Ok((start, at)),
        false => Err(Flaw::InvalidJson),
    }
}

/// The keys of the line before: most lines of a source have the same ones in the same order.
#[derive(Debug, Default)]
pub(super) struct Shape(Vec<Known>);

/// A key as it is written, up to its value, and its field.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Its bytes; where they are more than 16, what is like no bytes under a mask of zeros.
    bytes: u128,
    mask: u128,
    /// Of these bytes.
    length: u8,
    /// Where the name has ended, its quote included.
    after: u8,
    field: Option<Field>,
}

/// How many keys of a line are remembered.
const KNOWN_MAX: usize = 64;

impl Shape {
    /// The key at `at`, if it is the one that the line before had as its `nth`.
    #[inline(always)]
    fn known(&self, nth: usize, text: &[u8], at: usize) -> Option<&Known> {
        let known = self.0.get(nth)?;
        let bytes = text.get(at..)?.first_chunk::<16>()?;
        (u128::from_le_bytes(*bytes) & known.mask == known.bytes).then_some(known)
    }

    fn learn(&mut self, nth: usize, key: &[u8], after: usize, field: Option<Field>) {
        let mut known = Known { bytes: 1, mask: 0, length: 0, after: after as u8, field };
        let mut bytes = [0; 16];
        if let Some(place) = bytes.get_mut(..key.len()) {
            place.copy_from_slice(key);
            known.bytes = u128::from_le_bytes(bytes);
            known.mask = u128::MAX >> (128 - 8 * key.len());
            known.length = key.len() as u8;
        }
        match self.0.get_mut(nth) {
            Some(place) => *place = known,
            None if nth < KNOWN_MAX => self.0.push(known),
            None => {}
        }
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
    while let b' ' | b'\t' | b'\r' = byte(line, at) {
        at += 1;
    }
    at
}

/// The first byte from `at` on that is not plain.
#[inline(always)]
fn plain(line: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = line.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let mut index = 0;
        while index < 8 {
            if !IS_PLAIN[usize::from(bytes[index])] {
                return at + index;
            }
            index += 1;
        }
        at += 8;
    }
    while IS_PLAIN[usize::from(byte(line, at))] {
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
            _ => at = character(line, at)?,
        }
        at = plain(line, at);
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
