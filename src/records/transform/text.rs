//! JSON strings: their text without escapes, and a text as such a string.

use super::block::plain;

/// The inside of a JSON string without its escapes; `buffer` may be used for it.
pub(in crate::records) fn plain_text<'a>(inside: &'a [u8], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if memchr::memchr(b'\\', inside).is_none() {
        return inside;
    }
    unescape(inside, buffer);
    buffer
}

/// `,"NAME":`.
pub(super) fn write_key(name: &[u8], out: &mut Vec<u8>) {
    out.push(b',');
    write_text(name, out);
    out.push(b':');
}

/// A text as JSON. What is no UTF-8 is replaced by U+FFFD.
pub(super) fn write_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let from = plain(text, 0);
    out.extend_from_slice(&text[..from]);
    for chunk in text[from..].utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut from = 0;
        for (at, byte) in valid.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                b'\n' => b"\\n",
                b'\r' => b"\\r",
                b'\t' => b"\\t",
                0..0x20 => b"",
                _ => continue,
            };
            out.extend_from_slice(&valid[from..at]);
            match escape {
                b"" => {
                    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                    out.extend_from_slice(b"\\u00");
                    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
                }
                escape => out.extend_from_slice(escape),
            }
            from = at + 1;
        }
        out.extend_from_slice(&valid[from..]);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// The inside of a valid JSON string without its escapes.
pub(super) fn unescape(inside: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', inside.get(at..).unwrap_or_default()) {
        out.extend_from_slice(&inside[at..at + found]);
        at += found + 2;
        let plain = match inside.get(at - 1) {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let mut unit = hex(inside, at).unwrap_or(0xFFFD);
                at += 4;
                if let 0xD800..=0xDBFF = unit {
                    let low = hex(inside, at + 2).unwrap_or(0xDC00);
                    unit = 0x10000 + ((unit - 0xD800) << 10) + (low.saturating_sub(0xDC00));
                    at += 6;
                }
                let letter = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            Some(other) => *other,
            None => break,
        };
        out.push(plain);
    }
    out.extend_from_slice(inside.get(at..).unwrap_or_default());
}

/// The value of four hexadecimal digits; `None` if they are not.
pub(super) fn hex(line: &[u8], at: usize) -> Option<u32> {
    let digits = line.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}
