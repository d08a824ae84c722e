//! Reads the values of a parsed file into types.
//!
//! # Why
//! The deserializer of `toml` takes the document apart, and compiles the fields of each type twice, once for a date in
//! place of a table. This one borrows the document and knows no dates, which no setting takes: 0.4 MiB less executable.

use std::fmt;
use std::ops::Range;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_spanned::de::{SpannedDeserializer, is_spanned};
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// Reads a whole document.
///
/// # Errors
/// What `T` does not take, at the smallest value or key that it is about; without a place, where a key is missing in
/// the document itself.
pub(super) fn read<T: DeserializeOwned>(document: &DeTable<'_>) -> Result<T, ReadError> {
    T::deserialize(Root(document))
}

/// What a type says against a value, and where the value stands.
#[derive(Debug)]
pub(super) struct ReadError(Box<Details>);

#[derive(Debug)]
struct Details {
    message: String,
    span: Option<Range<usize>>,
}

impl ReadError {
    pub(super) fn message(&self) -> &str {
        &self.0.message
    }

    pub(super) fn span(&self) -> Option<Range<usize>> {
        self.0.span.clone()
    }

    /// The error at `span`, where it has no closer place.
    #[cold]
    fn at(mut self, span: &Range<usize>) -> Self {
        self.0.span.get_or_insert_with(|| span.clone());
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for ReadError {}

impl Error for ReadError {
    fn custom<M: fmt::Display>(message: M) -> Self {
        Self(Box::new(Details { message: message.to_string(), span: None }))
    }
}

struct Root<'d>(&'d DeTable<'d>);

impl<'de> Deserializer<'de> for Root<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_map(Entries::of(self.0))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

/// A value, wherever it stands.
struct Value<'d> {
    value: &'d DeValue<'d>,
    span: Range<usize>,
}

impl<'d> Value<'d> {
    fn of(value: &'d Spanned<DeValue<'d>>) -> Self {
        Self { value: value.get_ref(), span: value.span() }
    }

    fn give<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => visitor.visit_i64(number),
                    Err(_) => match u64::from_str_radix(number.as_str(), number.radix()) {
                        Ok(number) => visitor.visit_u64(number),
                        Err(_) => Err(Error::custom("integer number overflowed")),
                    },
                }
            }
            DeValue::Float(number) => match float(number.as_str()) {
                Some(number) => visitor.visit_f64(number),
                None => Err(Error::custom("floating-point number overflowed")),
            },
            DeValue::Boolean(is) => visitor.visit_bool(*is),
            DeValue::Datetime(_) => Err(unexpected(Unexpected::Other("date"), &visitor)),
            DeValue::Array(values) => visitor.visit_seq(Items(values.iter())),
            DeValue::Table(table) => visitor.visit_map(Entries::of(table)),
        }
    }
}

/// `None` where it is too large; only the word itself is infinite.
fn float(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() || number.is_nan() || text.contains("inf")).then_some(number)
}

#[cold]
fn unexpected(found: Unexpected<'_>, wanted: &dyn Expected) -> ReadError {
    Error::invalid_type(found, wanted)
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.give(visitor).map_err(|error| error.at(&self.span))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let span = self.span.clone();
        visitor.visit_some(self).map_err(|error| error.at(&span))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let span = self.span.clone();
        visitor.visit_newtype_struct(self).map_err(|error| error.at(&span))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        if is_spanned(name) {
            let span = self.span.clone();
            return visitor.visit_map(SpannedDeserializer::new(self, span));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let variant = match self.value {
            DeValue::String(word) => Ok(Variant { name: Key { word, span: None }, value: None }),
            DeValue::Table(table) if table.len() > 1 => {
                Err(Error::custom("wanted exactly 1 element, more than 1 element"))
            }
            DeValue::Table(table) => match table.iter().next() {
                Some((name, value)) => {
                    Ok(Variant { name: Key::of(name), value: Some(Value::of(value)) })
                }
                None => Err(Error::custom("wanted exactly 1 element, found 0 elements")),
            },
            _ => Err(Error::custom("wanted string or table")),
        };
        variant
            .and_then(|variant| visitor.visit_enum(variant))
            .map_err(|error: ReadError| error.at(&self.span))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ReadError> for Value<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The values of a list.
struct Items<'d>(std::slice::Iter<'d, Spanned<DeValue<'d>>>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = ReadError;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        self.0.next().map(|value| seed.deserialize(Value::of(value))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The keys of a table, and their values.
struct Entries<'d> {
    rest: toml::map::Iter<'d, Spanned<DeString<'d>>, Spanned<DeValue<'d>>>,
    value: Option<Value<'d>>,
}

impl<'d> Entries<'d> {
    fn of(table: &'d DeTable<'d>) -> Self {
        Self { rest: table.iter(), value: None }
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = ReadError;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, ReadError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(Value::of(value));
        Key::of(key).read(seed).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, ReadError> {
        let Some(value) = self.value.take() else {
            return Err(Error::custom("a value is asked for before its key"));
        };
        let span = value.span.clone();
        seed.deserialize(value).map_err(|error| error.at(&span))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

/// A key, or a word that names a variant.
struct Key<'d> {
    word: &'d str,
    /// The key's own place; a word has that of its value.
    span: Option<Range<usize>>,
}

impl<'d> Key<'d> {
    fn of(key: &'d Spanned<DeString<'d>>) -> Self {
        Self { word: key.get_ref(), span: Some(key.span()) }
    }

    fn read<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        seed.deserialize(StrDeserializer::new(self.word)).map_err(|error: ReadError| {
            match &self.span {
                Some(span) => error.at(span),
                None => error,
            }
        })
    }
}

/// A variant of an enum: a word, or the key of a table of one.
struct Variant<'d> {
    name: Key<'d>,
    value: Option<Value<'d>>,
}

impl<'d, 'de> EnumAccess<'de> for Variant<'d> {
    type Error = ReadError;
    type Variant = Content<'d>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Content<'d>), ReadError> {
        Ok((self.name.read(seed)?, Content(self.value)))
    }
}

/// What a variant holds; nothing, where it is a word.
struct Content<'d>(Option<Value<'d>>);

impl<'d> Content<'d> {
    fn expect(self, wanted: &'static str) -> Result<Value<'d>, ReadError> {
        self.0.ok_or_else(|| unexpected(Unexpected::UnitVariant, &wanted))
    }
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        match self.0.map(|content| (content.value, content.span)) {
            None => Ok(()),
            Some((DeValue::Table(table), _)) if table.is_empty() => Ok(()),
            Some((DeValue::Table(_), span)) => {
                Err(ReadError::custom("expected empty table").at(&span))
            }
            Some((other, span)) => {
                let message = format_args!("expected table, found {}", other.type_str());
                Err(ReadError::custom(message).at(&span))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, ReadError> {
        seed.deserialize(self.expect("newtype variant")?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, ReadError> {
        self.expect("tuple variant")?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.expect("struct variant")?.deserialize_any(visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "compared as text")]
    struct File {
        must: Option<Inner>,
        text: Option<String>,
        number: Option<u16>,
        large: Option<u64>,
        share: Option<f64>,
        on: Option<Spanned<bool>>,
        list: Option<Vec<u8>>,
        kind: Option<Kind>,
        counts: Option<BTreeMap<String, i64>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "compared as text")]
    struct Inner {
        name: String,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    #[expect(dead_code, reason = "compared as text")]
    enum Kind {
        Plain,
        With(Inner),
    }

    fn said(source: &str) -> Result<String, (String, Option<Range<usize>>)> {
        let document = DeTable::parse(source).unwrap();
        match read::<File>(document.get_ref()) {
            Ok(file) => Ok(format!("{file:?}")),
            Err(error) => Err((error.message().to_owned(), error.span())),
        }
    }

    #[test]
    fn a_document_is_read_as_toml_reads_it_and_errors_have_the_same_words_and_places() {
        let sources = [
            "text = 'a'\nnumber = 0xff\nlarge = 18446744073709551615\nshare = 1.5e3\non = true\nlist = [1, 2]",
            "share = inf",
            "share = 1e999",
            "share = 1",
            "number = -1",
            "number = 65536",
            "large = 99999999999999999999999999999999999999999",
            "text = 1",
            "text = true",
            "text = [1]",
            "text = { a = 1 }",
            "on = 1",
            "list = [1, 'two']",
            "list = [1, 256]",
            "list = 1",
            "kind = 'plain'",
            "kind = 'with'",
            "kind = 'other'",
            "kind = 1",
            "kind = {}",
            "kind = { plain = {} }",
            "kind = { plain = { a = 1 } }",
            "kind = { plain = 1 }",
            "kind = { with = { name = 'a' } }",
            "kind = { with = {} }",
            "kind = { other = {} }",
            "kind = { plain = {}, with = {} }",
            "[must]\nname = 'a'",
            "[must]",
            "[must]\nname = 'a'\nother = 1",
            "must = 1",
            "[counts]\na = 1\nb = -2",
            "[counts]\na = 'b'",
            "other = 1",
        ];
        for source in sources {
            let expected = toml::from_str::<File>(source);
            let expected = expected.map(|file| format!("{file:?}"));
            let expected = expected.map_err(|error| (error.message().to_owned(), error.span()));
            assert_eq!(said(source), expected, "{source}");
        }
    }

    #[test]
    fn a_date_is_no_setting() {
        let (message, span) = said("[must]\nname = 2026-11-30").unwrap_err();
        assert_eq!(message, "invalid type: date, expected a string");
        assert_eq!(span, Some(14..24));
    }
}
