//! JSON text as slices of itself: a message is looked through before anything of it is built, so what it may
//! cost is known from its length. Knows no message.
//!
//! A value of [`serde_json::Value`] takes up to sixteen times the bytes of its text (`[0,0,0,…]`), and an error of
//! serde repeats the text that it does not want. Here a value is its text until it is taken, one by one.

use serde::de::IgnoredAny;

/// One JSON value that is known to be valid, as its text without blanks around it. A lone surrogate is found
/// only when the text that has it is [taken](Self::text).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// Checks all of `text`, and builds nothing. Any depth is taken: it costs a byte a level.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<IgnoredAny>(text)?;
        Ok(Self(text.trim_matches(BLANK)))
    }

    /// As it is written.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The text that it spells, in a string of at most its own length; `None` where it is no text, or spells none
    /// (a lone surrogate).
    pub fn text(self) -> Option<String> {
        let quoted = self.0.strip_prefix('"')?.strip_suffix('"')?;
        unescape(quoted)
    }

    /// The number that it is; `None` where it is none, or too large for one.
    pub fn number<T: serde::de::DeserializeOwned>(self) -> Option<T> {
        let is_number = self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        is_number.then(|| serde_json::from_str(self.0).ok())?
    }

    /// The members of an object: the text of each name with its quotes, and the value.
    pub fn members(self) -> Option<impl Iterator<Item = (Raw<'a>, Raw<'a>)>> {
        let mut rest = self.0.strip_prefix('{')?;
        Some(std::iter::from_fn(move || {
            let name = next(&mut rest)?;
            Some((name, next(&mut rest)?))
        }))
    }

    /// The elements of an array.
    pub fn elements(self) -> Option<impl Iterator<Item = Raw<'a>>> {
        let mut rest = self.0.strip_prefix('[')?;
        Some(std::iter::from_fn(move || next(&mut rest)))
    }

    /// The members of an object that have these names.
    ///
    /// # Errors
    /// `None`: it is no object. `Some`: this name is there twice.
    pub fn fields<const N: usize>(
        self,
        names: [&'static str; N],
    ) -> Result<[Option<Raw<'a>>; N], Option<&'static str>> {
        let mut found = [None; N];
        for (name, value) in self.members().ok_or(None)? {
            let Some(at) = names.iter().position(|known| name.spells(known)) else { continue };
            if found[at].replace(value).is_some() {
                return Err(Some(names[at]));
            }
        }
        Ok(found)
    }

    /// Whether it is the text `plain`, however that is spelled.
    pub fn spells(self, plain: &str) -> bool {
        if !self.0.starts_with('"') {
            return false;
        }
        let quoted = self.0.get(1..self.0.len() - 1).unwrap_or_default();
        match quoted.contains('\\') {
            false => quoted == plain,
            // The longest spelling of a character of one byte takes six.
            true => quoted.len() <= 6 * plain.len() && self.text().as_deref() == Some(plain),
        }
    }
}

/// What JSON has between its values.
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// The next value after what separates it from the one before; `None` at the end of what it is in.
fn next<'a>(rest: &mut &'a str) -> Option<Raw<'a>> {
    let text = rest.trim_start_matches([' ', '\t', '\n', '\r', ',', ':']);
    let length = match text.as_bytes().first()? {
        b']' | b'}' => return None,
        b'"' => string(text)?,
        b'{' | b'[' => nested(text)?,
        _ => text.find([',', ']', '}', ' ', '\t', '\n', '\r']).unwrap_or(text.len()),
    };
    let value;
    (value, *rest) = text.split_at(length);
    Some(Raw(value))
}

/// How long the quoted text is that `json` begins with; `None` where it does not end.
pub(super) fn string(json: &str) -> Option<usize> {
    let bytes = json.as_bytes();
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// How long the object or array is that `json` begins with.
fn nested(json: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match json.as_bytes().get(at)? {
            b'"' => at += string(&json[at..])? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

/// The text that is spelled between quotes; `None` where an escape is none, or half a surrogate pair.
fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let escape = *rest.as_bytes().first()?;
        rest = rest.get(1..)?;
        text.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = unit(&mut rest)?;
                if (0xd800..0xdc00).contains(&first) {
                    rest = rest.strip_prefix("\\u")?;
                    let pair = [first, unit(&mut rest)?];
                    char::decode_utf16(pair).next()?.ok()?
                } else {
                    char::from_u32(first.into())?
                }
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Four hex digits.
fn unit(rest: &mut &str) -> Option<u16> {
    let digits = rest.get(..4).filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
    *rest = &rest[4..];
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What serde makes of it, made of slices.
    fn built(raw: Raw<'_>) -> Value {
        if let Some(members) = raw.members() {
            return Value::Object(
                members.map(|(name, value)| (name.text().unwrap(), built(value))).collect(),
            );
        }
        if let Some(elements) = raw.elements() {
            return Value::Array(elements.map(built).collect());
        }
        raw.text().map_or_else(|| serde_json::from_str(raw.as_str()).unwrap(), Value::String)
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = || prop::collection::vec(prop::sample::select(TEXT.to_vec()), 0..6);
        let text = move || text().prop_map(|parts| parts.concat());
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    const TEXT: &[&str] =
        &["a", "\"", "\\", "é", "😀", "\n", "\u{0}", "{", "]", ",", ":", " ", "/"];

    proptest! {
        #[test]
        fn slices_are_what_serde_reads(value in json(), pretty in any::<bool>(), ascii in any::<bool>()) {
            use serde::Serialize;
            let mut line = Vec::new();
            match ascii {
                true => value.serialize(&mut serde_json::Serializer::with_formatter(&mut line, crate::wire::Ascii)).unwrap(),
                false if pretty => line = serde_json::to_vec_pretty(&value).unwrap(),
                false => line = serde_json::to_vec(&value).unwrap(),
            }
            let text = String::from_utf8(line).unwrap();
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(built(Raw::parse(&text).unwrap()), expected);
        }

        #[test]
        fn a_text_is_spelled_as_serde_reads_it_or_not_at_all(
            parts in prop::collection::vec(prop::sample::select(
                vec!["\\u00e9", "\\ud83d", "\\ude00", "\\uD83D\\uDE00", "\\n", "\\/", "\\\\", "x", "\\u0000", "é"]), 0..8),
        ) {
            let text = format!("\"{}\"", parts.concat());
            let raw = Raw::parse(&text).unwrap();
            prop_assert_eq!(raw.text(), serde_json::from_str(&text).ok());
        }
    }

    #[test]
    fn a_field_is_found_however_it_is_spelled_and_never_twice() {
        let raw = |text| Raw::parse(text).unwrap();
        let found = raw(r#" { "b" : null , "\u0061" : [1] , "c":{"a":2} } "#).fields(["a", "b"]);
        assert_eq!(
            found.map(|found| found.map(|found| found.map(Raw::as_str))),
            Ok([Some("[1]"), Some("null")])
        );
        assert_eq!(raw(r#"{"a":1,"\u0061":2}"#).fields(["a"]), Err(Some("a")));
        assert_eq!(raw(r#"{"a":null,"a":null}"#).fields(["a"]), Err(Some("a")));
        assert_eq!(raw("[1]").fields(["a"]), Err(None));
    }
}
