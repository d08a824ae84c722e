//! JSON in ASCII only: a writer for what is hot, and a formatter for what serde writes.
//!
//! Today's host turns each chunk it reads into text by itself, so a character of several bytes that
//! falls between two chunks is lost; and its database refuses NUL. So everything above ASCII
//! is written as `\uXXXX`, by surrogate pairs where it needs two, and NUL is left out of every text.
//!
//! This module does not know any message.

use std::io;

use serde_json::ser::{CharEscape, Formatter};

/// The largest integer that a reader with floating-point numbers only takes unharmed: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A [`Formatter`] for compact JSON in ASCII, without NUL.
///
/// ```
/// use infiniservice::wire::Ascii;
/// use serde::Serialize;
///
/// let mut line = Vec::new();
/// "é\0😀\n".serialize(&mut serde_json::Serializer::with_formatter(&mut line, Ascii)).unwrap();
/// assert_eq!(line, br#""\u00e9\ud83d\ude00\n""#);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        if fragment.is_ascii() {
            return writer.write_all(fragment.as_bytes());
        }
        for run in fragment.chars() {
            if run.is_ascii() {
                writer.write_all(&[run as u8])?;
            } else {
                for unit in run.encode_utf16(&mut [0; 2]) {
                    writer.write_all(&escape(*unit))?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W>(&mut self, writer: &mut W, what: CharEscape) -> io::Result<()>
    where
        W: ?Sized + io::Write,
    {
        match what {
            CharEscape::AsciiControl(0) => Ok(()),
            CharEscape::AsciiControl(byte) => writer.write_all(&escape(byte.into())),
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
        }
    }
}

/// Writes JSON by hand: the caller writes the punctuation and the keys as one literal, so that a
/// field costs one copy and its value.
///
/// # Why not serde here
/// The metrics line is the bulk of what this program does. Written this way it costs about half of
/// what the derived writer does for much the same line (`benches/stages.rs`, `line`: 2.0 µs for 4.5 kB
/// against 4.1 µs for 5.0 kB on a 2-core VM), and the
/// messages, where that does not matter, use [`Ascii`].
#[derive(Debug)]
pub(super) struct Json<'a>(pub(super) &'a mut Vec<u8>);

impl Json<'_> {
    /// Punctuation and keys, as they are.
    pub(super) fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A JSON string.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(b'"');
        let mut rest = text;
        while let Some(at) = rest.bytes().position(|byte| SPECIAL[usize::from(byte)]) {
            self.0.extend_from_slice(&rest.as_bytes()[..at]);
            // A special byte is ASCII or the first of a character, so this is a boundary.
            let mut special = rest[at..].chars();
            if let Some(character) = special.next() {
                self.escaped(character);
            }
            rest = special.as_str();
        }
        self.0.extend_from_slice(rest.as_bytes());
        self.0.push(b'"');
        self
    }

    /// An integer, at most [`MAX_INTEGER`].
    pub(super) fn integer(&mut self, value: u64) -> &mut Self {
        self.digits(value.min(MAX_INTEGER));
        self
    }

    /// A number with one to three decimals; 0 when it is not finite.
    ///
    /// # Why three
    /// A thousandth of a percent is far below what any counter here resolves, a thousandth of a GiB
    /// is one MiB, and a measured share has up to 17 digits otherwise, none of them true.
    pub(super) fn decimal(&mut self, value: f64) -> &mut Self {
        let value = if value.is_finite() { value } else { 0.0 };
        // Saturates, so a huge number stays a number.
        let thousandths = (value.abs() * 1000.0 + 0.5) as u64;
        if value < 0.0 && thousandths > 0 {
            self.0.push(b'-');
        }
        self.integer(thousandths / 1000);
        let fraction = (thousandths % 1000) as u16;
        let digits = [b'.', digit(fraction / 100), digit(fraction / 10), digit(fraction)];
        let kept = match fraction {
            _ if fraction.is_multiple_of(100) => 2,
            _ if fraction.is_multiple_of(10) => 3,
            _ => 4,
        };
        self.0.extend_from_slice(&digits[..kept]);
        self
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    fn escaped(&mut self, character: char) {
        match character {
            '\0' => {}
            '"' => self.0.extend_from_slice(b"\\\""),
            '\\' => self.0.extend_from_slice(b"\\\\"),
            '\n' => self.0.extend_from_slice(b"\\n"),
            '\r' => self.0.extend_from_slice(b"\\r"),
            '\t' => self.0.extend_from_slice(b"\\t"),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    self.0.extend_from_slice(&escape(*unit));
                }
            }
        }
    }

    fn digits(&mut self, mut value: u64) {
        let mut text = [0; 20];
        let mut at = text.len();
        while value >= 100 {
            let pair = (value % 100) as usize * 2;
            value /= 100;
            at -= 2;
            text[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        }
        if value >= 10 {
            at -= 2;
            text[at..at + 2].copy_from_slice(&PAIRS[value as usize * 2..value as usize * 2 + 2]);
        } else {
            at -= 1;
            text[at] = b'0' + value as u8;
        }
        self.0.extend_from_slice(&text[at..]);
    }
}

/// Bytes of a text that may not stand in ASCII JSON as they are.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        special[byte] =
            byte < 0x20 || byte >= 0x80 || byte == b'"' as usize || byte == b'\\' as usize;
        byte += 1;
    }
    special
};

/// `00` to `99`, one after the other.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut at = 0;
    while at < 100 {
        pairs[at * 2] = b'0' + (at / 10) as u8;
        pairs[at * 2 + 1] = b'0' + (at % 10) as u8;
        at += 1;
    }
    pairs
};

fn escape(unit: u16) -> [u8; 6] {
    let hex = |shift: u16| b"0123456789abcdef"[usize::from(unit >> shift & 15)];
    [b'\\', b'u', hex(12), hex(8), hex(4), hex(0)]
}

fn digit(value: u16) -> u8 {
    b'0' + (value % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Serialize;

    fn written(write: impl FnOnce(&mut Json<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Json(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_decimal_has_one_to_three_places() {
        let cases = [
            (0.0, "0.0"),
            (12.5, "12.5"),
            (12.34, "12.34"),
            (99.999_6, "100.0"),
            (0.001_4, "0.001"),
            (-0.000_1, "0.0"),
            (-40.25, "-40.25"),
            (f64::NAN, "0.0"),
            (f64::NEG_INFINITY, "0.0"),
        ];
        for (value, text) in cases {
            assert_eq!(
                written(|json| {
                    json.decimal(value);
                }),
                text
            );
        }
        assert!(
            written(|json| {
                json.decimal(f64::MAX);
            })
            .parse::<f64>()
            .unwrap()
                > 9e15
        );
    }

    #[test]
    fn an_integer_stops_at_what_the_host_can_count() {
        let cases = [0, 9, 10, 99, 100, 1_234_567, MAX_INTEGER];
        for value in cases {
            assert_eq!(
                written(|json| {
                    json.integer(value);
                }),
                value.to_string()
            );
        }
        assert_eq!(
            written(|json| {
                json.integer(u64::MAX);
            }),
            MAX_INTEGER.to_string()
        );
    }

    proptest! {
        #[test]
        fn both_writers_give_the_text_back_in_ascii_and_without_nul(text in any::<String>()) {
            let by_hand = written(|json| {
            json.text(&text);
        });
            let mut by_serde = Vec::new();
            text.serialize(&mut serde_json::Serializer::with_formatter(&mut by_serde, Ascii)).unwrap();
            for line in [by_hand.as_bytes(), &by_serde] {
                prop_assert!(line.is_ascii() && !line.contains(&b'\n'));
                let back: String = serde_json::from_slice(line).unwrap();
                prop_assert_eq!(back, text.replace('\0', ""));
            }
        }
    }
}
