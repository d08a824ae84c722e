//! Why a message of the host was not understood.

use std::fmt;

use thiserror::Error;

use super::{ARGUMENTS_BYTES_MAX, NAME_BYTES_MAX};

/// Why a message was not understood: the end of a sentence. It has no value of the message, which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MessageError {
    /// Not JSON.
    #[error("it is not JSON{0}")]
    NotJson(Place),
    /// It ends too early.
    #[error("it is cut short{0}")]
    CutShort(Place),
    /// Too many objects or lists inside each other.
    #[error("it is nested too deep{0}")]
    TooDeep(Place),
    /// A field has another type.
    #[error("a field is not of its kind{0}")]
    WrongType(Place),
    /// A field is missing.
    #[error("missing field `{0}`{1}")]
    Missing(String, Place),
    /// A field is there twice.
    #[error("duplicate field `{0}`{1}")]
    Duplicate(String, Place),
    /// The message has no type.
    #[error("it has no type")]
    NoType,
    /// The type is unknown.
    #[error("its type is not known to this agent")]
    UnknownType,
    /// No reply can carry the id.
    #[error("its {0} is empty, too long, or not of printable characters")]
    Id(&'static str),
    /// A name is too long.
    #[error("a name in it is longer than {NAME_BYTES_MAX} bytes")]
    NameTooLong,
    /// The arguments are too long.
    #[error("its arguments are longer than {ARGUMENTS_BYTES_MAX} bytes")]
    ArgumentsTooLong,
}

/// The character of the message's line at which it went wrong, if that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place(pub Option<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |at| write!(f, " (at character {at})"))
    }
}

impl MessageError {
    /// A required field is missing.
    pub(super) fn missing(field: &str) -> Self {
        Self::Missing(field.to_owned(), Place::default())
    }

    /// What serde says of the part of a message that begins at `offset`, without the values in which it would show it.
    pub(super) fn of(error: &serde_json::Error, payload: &str, offset: usize) -> Self {
        // From the last line break before it, as serde counts.
        let start =
            payload.get(..offset).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
        let place = Place(match (error.line(), error.column()) {
            (_, 0) if offset == 0 => None,
            (1, column) => Some(offset - start + column),
            (_, column) => Some(column),
        });
        let text = error.to_string();
        let field = |prefix: &str| {
            let (field, _) = text.strip_prefix(prefix)?.strip_prefix(" `")?.split_once('`')?;
            error.is_data().then(|| field.to_owned())
        };
        match (field("missing field"), field("duplicate field")) {
            (Some(field), _) => Self::Missing(field, place),
            (_, Some(field)) => Self::Duplicate(field, place),
            _ if error.is_data() => Self::WrongType(place),
            _ if error.is_eof() => Self::CutShort(place),
            _ if text.starts_with("recursion") => Self::TooDeep(place),
            _ => Self::NotJson(place),
        }
    }
}
