//! Where records come from: `[[read]]`, one file per source.

mod stdin;

pub(crate) mod split;

use serde::{Deserialize, Deserializer};

pub use stdin::Stdin;

use crate::records::batch::{Decode, Invalid, ParseAs};
use crate::values::{Problem, Size};

/// One `[[read]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Lines, and from where.
    pub lines: Lines,
    /// What a line is.
    #[serde(default)]
    pub parse_as: ParseAs,
    /// The longest line that is read; longer ones are skipped.
    #[serde(default = "one_mib")]
    pub max_line: Size,
    /// What becomes of a line that is not what it should be.
    #[serde(default)]
    pub invalid: Invalid,
}

impl Read {
    /// How its lines are to be read.
    pub fn decode(&self) -> Decode {
        Decode { parse_as: self.parse_as, invalid: self.invalid }
    }
}

/// `lines = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {
    /// Standard input, to its end.
    Stdin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinesTable {
    stdin: Option<bool>,
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match LinesTable::deserialize(deserializer)?.stdin {
            Some(true) => Ok(Self::Stdin),
            _ => Err(Problem::new("names no source", "write lines = { stdin = true }").pack()),
        }
    }
}

fn one_mib() -> Size {
    Size::kib(1024)
}
