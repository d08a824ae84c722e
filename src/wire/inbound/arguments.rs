//! The arguments of an action, read into the type that the action takes. They stand beside `action`, in its `params`
//! or in the `params` of the command; the first place that has one counts.

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde::forward_to_deserialize_any;
use zeroize::Zeroizing;

use super::{ARGUMENTS_BYTES_MAX, Fields, MessageError, Place, Raw, place, present};

/// The objects in which a command has its arguments. Nothing of them is built before an action [reads](Self::read) them.
/// Not to be shown: they may hold the password of `JoinDomain`.
#[derive(Clone, Copy, Default)]
pub struct Arguments<'a> {
    payload: &'a str,
    levels: [Option<Raw<'a>>; 3],
}

impl<'a> Arguments<'a> {
    /// The name of the action in `command_type`, and its arguments there and in `params`.
    pub(super) fn of(
        fields: Fields<'a>,
        command_type: Raw<'a>,
        params: Option<Raw<'a>>,
    ) -> Result<(Option<String>, Self), MessageError> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            action: Option<String>,
        }
        let object = |value: Raw<'a>| match value.as_str() {
            text if !text.starts_with('{') => Err(fields.not_of_kind(value)),
            text if text.len() > ARGUMENTS_BYTES_MAX => Err(MessageError::ArgumentsTooLong),
            _ => Ok(value),
        };
        let outer = object(command_type)?;
        let [own] = Fields { body: outer, ..fields }.named(["params"])?;
        let inner = present(own).map(object).transpose()?;
        let more = present(params).map(object).transpose()?;
        let payload = fields.payload;
        let named: Named = Self { payload, levels: [Some(outer), None, None] }.read()?;
        Ok((named.action, Self { payload, levels: [Some(outer), inner, more] }))
    }

    /// A message that has the same arguments, for [`parse`](super::parse) in another process; overwritten when it is
    /// dropped. `None` where there are none.
    pub fn message(self) -> Option<Zeroizing<String>> {
        let [command_type, _, params] = self.levels;
        let (command_type, params) =
            (command_type?.as_str(), params.map_or("null", |raw| raw.as_str()));
        Some(Zeroizing::new(format!(
            r#"{{"type":"SafeCommand","id":"-","command_type":{command_type},"params":{params}}}"#
        )))
    }

    /// The arguments as a `T`, a struct of optional fields. A member that `T` has no field for is passed over, and
    /// `null` is as good as missing.
    ///
    /// # Errors
    /// A member is not of its kind, or twice in one object.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, MessageError> {
        T::deserialize(Levels(self))
    }
}

/// Whatever a type says of a value, the value is not repeated.
impl serde::de::Error for MessageError {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self::WrongType(Place::default())
    }
}

/// What a type is read from.
struct Levels<'a>(Arguments<'a>);

impl<'de> Deserializer<'de> for Levels<'de> {
    type Error = MessageError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, MessageError> {
        Err(MessageError::custom("arguments are a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MessageError> {
        let mut found: Vec<Option<Raw<'de>>> = vec![None; known.len()];
        for level in self.0.levels.into_iter().flatten() {
            let mut here = vec![false; known.len()];
            for (name, value) in level.members().into_iter().flatten() {
                let Some(at) = known.iter().position(|known| name.spells(known)) else { continue };
                if std::mem::replace(&mut here[at], true) {
                    let end = end_of(self.0.payload, name);
                    return Err(MessageError::Duplicate(known[at].to_owned(), Place(Some(end))));
                }
                found[at] = found[at].or(present(Some(value)));
            }
        }
        let found = known.iter().zip(found).filter_map(|(name, value)| Some((*name, value?)));
        let found = found.collect::<Vec<_>>().into_iter();
        visitor.visit_map(Members { payload: self.0.payload, found, value: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The members that were found, each once.
struct Members<'a> {
    payload: &'a str,
    found: std::vec::IntoIter<(&'static str, Raw<'a>)>,
    value: Option<Raw<'a>>,
}

impl<'a> MapAccess<'a> for Members<'a> {
    type Error = MessageError;

    fn next_key_seed<K: DeserializeSeed<'a>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, MessageError> {
        let Some((name, value)) = self.found.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, MessageError> {
        let Some(value) = self.value.take() else { return Err(MessageError::custom("no member")) };
        let mut json = serde_json::Deserializer::from_str(value.as_str());
        let start = place(self.payload, value);
        seed.deserialize(&mut json).map_err(|error| MessageError::of(&error, self.payload, start))
    }
}

/// Where `value` ends in the message, counted as [`MessageError::of`] counts.
fn end_of(payload: &str, value: Raw<'_>) -> usize {
    let end = place(payload, value) + value.as_str().len();
    let line = payload.get(..end).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    end - line
}
