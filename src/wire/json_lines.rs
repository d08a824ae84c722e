//! The whole reading as one JSON line, under the model's own names, or those that `rename` gives. Leaves nothing out.

use std::io::{self, Write};

use serde::Serialize;

use super::format::Spec;
use super::{Ascii, MAX_LINE, Refused};
use crate::model::{Renames, SystemMetrics};

/// Everything, under the model's own names.
pub(super) const FORMAT: Spec = Spec::of_everything("json-lines", encode);

/// Writes one line, with its newline. Pure ASCII, at most [`MAX_LINE`]; a number that is not finite
/// is `null`.
///
/// # Errors
/// `oversize`, found while writing, so that a monstrous reading costs no more memory than a long
/// line. Nothing is written then.
fn encode(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    let written = match &reading.renames {
        None => write(reading, out),
        Some(renames) => {
            let mut line = Vec::new();
            write(reading, &mut line).and_then(|()| renamed(&line, renames, out))
        }
    };
    match written {
        Ok(()) => out.push(b'\n'),
        Err(_) => out.truncate(start),
    }
    written
}

fn write(reading: &SystemMetrics, out: &mut Vec<u8>) -> Result<(), Refused> {
    let capped = Capped { limit: out.len() + MAX_LINE - 1, out };
    let mut serializer = serde_json::Serializer::with_formatter(capped, Ascii);
    reading.serialize(&mut serializer).map_err(|error| match error.is_io() {
        true => Refused::Oversize,
        false => Refused::Unencodable,
    })
}

/// Copies a line that [`write`] has written, with other names: it is valid JSON without whitespace.
fn renamed(line: &[u8], renames: &Renames, out: &mut Vec<u8>) -> Result<(), Refused> {
    let start = out.len();
    value(line, Some(renames), out);
    if out.len() - start < MAX_LINE { Ok(()) } else { Err(Refused::Oversize) }
}

/// Copies the value that `text` begins with; returns what is behind it.
fn value<'a>(text: &'a [u8], renames: Option<&Renames>, out: &mut Vec<u8>) -> &'a [u8] {
    match text {
        [b'{', rest @ ..] => items(b'{', rest, out, |text, out| {
            let (name, rest) = text.split_at(string(text));
            let inside = name.get(1..name.len().saturating_sub(1)).unwrap_or_default();
            let field = renames.and_then(|renames| renames.of(str::from_utf8(inside).ok()?));
            match field.and_then(Renames::new_name) {
                Some(new_name) => {
                    // A text cannot be refused, and neither is a write to a `Vec`.
                    let _ = new_name
                        .serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Ascii));
                }
                None => out.extend_from_slice(name),
            }
            out.push(b':');
            value(rest.strip_prefix(b":").unwrap_or_default(), field, out)
        }),
        [b'[', rest @ ..] => items(b'[', rest, out, |text, out| value(text, renames, out)),
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']');
            let length = match text.first() {
                Some(b'"') => string(text),
                _ => text.iter().position(is_end).unwrap_or(text.len()),
            };
            let (scalar, rest) = text.split_at(length);
            out.extend_from_slice(scalar);
            rest
        }
    }
}

/// Copies the items of an object or a list that `open` has opened, each by `item`; returns what is behind it.
fn items<'a>(
    open: u8,
    mut text: &'a [u8],
    out: &mut Vec<u8>,
    item: impl Fn(&'a [u8], &mut Vec<u8>) -> &'a [u8],
) -> &'a [u8] {
    out.push(open);
    loop {
        match text {
            [close @ (b'}' | b']'), rest @ ..] => {
                out.push(*close);
                return rest;
            }
            [b',', rest @ ..] => {
                out.push(b',');
                text = item(rest, out);
            }
            [] => return text,
            _ => text = item(text, out),
        }
    }
}

/// How long the string is that `text` begins with, its quotes included.
fn string(text: &[u8]) -> usize {
    let mut at = 1;
    loop {
        match text.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return text.len(),
        }
    }
}

/// A buffer that refuses to grow over its limit.
pub(super) struct Capped<'a> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) limit: usize,
}

impl Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.out.len() + bytes.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The line that `encode` would write of it.
    fn line(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Ascii)).unwrap();
        out
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 48, 4, |inner| {
            let name = prop_oneof![
                Just("a".to_owned()),
                Just("b".to_owned()),
                "[\\\\\"{}\\[\\],:é\n]{0,3}"
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// The same with trees; `new` is the new name of each `a` within an `a`.
    fn expected(value: Value, is_inside: bool, depth: usize, new: &str) -> Value {
        match value {
            Value::Array(items) => {
                items.into_iter().map(|item| expected(item, is_inside, depth, new)).collect()
            }
            Value::Object(fields) => {
                let renamed = |(name, value): (String, Value)| {
                    let is_a = is_inside && depth < 2 && name == "a";
                    let value = expected(value, is_a, depth + 1, new);
                    (if is_a && depth == 1 { new.to_owned() } else { name }, value)
                };
                Value::Object(fields.into_iter().map(renamed).collect())
            }
            other => other,
        }
    }

    proptest! {
        #[test]
        fn names_change_where_they_are_asked_to_and_nothing_else_does(value in any_value(), new in "x[\"\\\\é]{1,3}") {
            let mut renames = Renames::default();
            let mut out = Vec::new();
            renamed(&line(&value), &renames, &mut out).unwrap();
            prop_assert_eq!(&out, &line(&value));
            renames.insert("a.a", &new);
            out.clear();
            renamed(&line(&value), &renames, &mut out).unwrap();
            let expected = line(&expected(value, true, 0, &new));
            let tree = |line: &[u8]| serde_json::from_slice::<Value>(line).unwrap();
            prop_assert_eq!(tree(&out), tree(&expected));
        }
    }
}
