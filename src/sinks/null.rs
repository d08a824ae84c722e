//! Discards frames. The stage's own counters count them.

use std::fmt;

use serde::Deserialize;
use serde::de::Deserializer;

use super::{Options, Backlog};
use crate::model::Frame;
use crate::pipeline::{BoxSink, Sink, StageError};
use crate::values::words::NONE;
use crate::values::{Manual, Enabled, key};

pub(super) const MANUAL: Manual = Manual {
    key: key("null", "`true`", NONE, "true", "discards everything, but counts it"),
    options: None,
};

/// What `null` takes: `true`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct NullOptions(Enabled);

impl fmt::Display for NullOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null")
    }
}

impl Options for NullOptions {
    fn parse<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize(deserializer)
    }

    fn build(&self) -> BoxSink<Frame> {
        BoxSink::new(Null)
    }

    fn backlog(&self) -> Backlog {
        Backlog::Nothing
    }
}

/// Accepts every frame at once and keeps none.
#[derive(Debug, Default)]
pub struct Null;

impl Sink for Null {
    type In = Frame;

    async fn write(&mut self, _frame: &Frame) -> Result<(), StageError> {
        Ok(())
    }
}
