//! A pipeline file as a type: the shape of the file is the flow.

use serde::Deserialize;
use serde::de::Deserializer;

use super::table::{one_or_many, some_table, table, tables};
use super::units::{Count, Period, Size};
use super::value::text_or_none;
use super::variant::words;
use super::write::{self, Write};
use crate::metrics::collect::Read;
use crate::metrics::enrich::Enrich;
use crate::model::Group;
use crate::wire::Format;

/// One pipeline file: collect (or generate) → enrich → batch → serialize → write.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineFile {
    /// The purpose, for people.
    #[serde(default, deserialize_with = "text_or_none")]
    pub about: Option<String>,
    /// The collectors, one `[[collect]]` for each interval. No group is in two of them.
    #[serde(default, deserialize_with = "tables")]
    pub collect: Vec<Collect>,
    /// Synthetic readings in place of real ones, for `bench`. Exactly one of this and `collect` is present.
    #[serde(default, deserialize_with = "some_table")]
    pub generate: Option<Generate>,
    /// The enrichers, in the order of the file.
    #[serde(default, deserialize_with = "words")]
    pub enrich: Vec<Enrich>,
    /// When a batch is complete.
    #[serde(default, deserialize_with = "table")]
    pub batch: Batch,
    /// The format of frames.
    #[serde(default, deserialize_with = "table")]
    pub serialize: Serialize,
    /// Where frames go: `[write]`, or several `[[write]]`. Never empty.
    #[serde(default, deserialize_with = "one_or_many")]
    pub write: Vec<Write>,
}

impl PipelineFile {
    /// The groups that are collected, over all intervals, or generated.
    pub fn reads(&self) -> impl Iterator<Item = &Read> {
        let generated = self.generate.iter().flat_map(|generate| &generate.from);
        self.collect.iter().flat_map(|collect| &collect.from).chain(generated)
    }

    /// The format of what `write` writes.
    pub fn format_of(&self, write: &Write) -> Format {
        write.format.unwrap_or(self.serialize.format)
    }

    /// The formats of all outputs, each once, in the order of the file.
    pub fn formats(&self) -> Vec<Format> {
        write::formats(&self.write, self.serialize.format)
    }

    /// The groups that remain behind all enrichers.
    pub fn groups(&self) -> Vec<Group> {
        let kept = |group: &Group| self.enrich.iter().all(|enrich| enrich.options().passes(*group));
        self.reads().map(Read::group).filter(kept).collect()
    }
}

/// One `[[collect]]`: an interval and its collectors. `from` is not empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// The interval.
    pub every: Period,
    /// The collectors.
    #[serde(deserialize_with = "words")]
    pub from: Vec<Read>,
}

/// `[generate]`: readings that are made up, always the same for the same seed. `from` is not empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// The groups in each reading.
    #[serde(deserialize_with = "words")]
    pub from: Vec<Read>,
    /// How many processes are in each reading.
    #[serde(default = "twenty")]
    pub processes: Count,
    /// Where the made-up values start from.
    #[serde(default = "one")]
    pub seed: u64,
}

/// `[batch]`: a batch leaves when the first of these is reached.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Readings in one batch.
    pub max_items: Count,
    /// Estimated bytes in one batch; at most 16 MiB.
    #[serde(deserialize_with = "batch_bytes")]
    pub max_bytes: Size,
    /// Age of its oldest reading.
    pub max_delay: Period,
}

impl Batch {
    /// The most that `max_bytes` may be.
    pub const MAX_BYTES: u64 = 16 << 20;
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_items: Count::fixed(64),
            max_bytes: Size::kib(256),
            max_delay: Period::millis(1_000),
        }
    }
}

/// `[serialize]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serialize {
    /// The format of frames.
    pub format: Format,
}

fn twenty() -> Count {
    Count::fixed(20)
}

fn one() -> u64 {
    1
}

fn batch_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
    let bounds = 1..=Batch::MAX_BYTES;
    Size::within(deserializer, bounds, "is too large for a batch", "the most is \"16MiB\"")
}
