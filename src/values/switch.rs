//! What is named without options.

use serde::de::{Deserialize, Deserializer};

use super::value::{Problem, Raw};

/// A target without options: `true` or an empty table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Enabled;

impl<'de> Deserialize<'de> for Enabled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let problem = match Raw::deserialize(deserializer)? {
            Raw::Bool(true) | Raw::Table { keys: 0 } => return Ok(Self),
            Raw::Bool(false) => Problem::new("is not a target", "leave the line out instead"),
            Raw::Table { .. } => {
                Problem::new("has options, and there are none", "write true instead")
            }
            _ => Problem::new("is not true or an empty table", "write true instead"),
        };
        Err(problem.pack())
    }
}
