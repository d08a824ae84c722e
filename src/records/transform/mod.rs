//! What happens to a record between the source and the batch: `[[transform]]`, one file per stage.
//!
//! All stages of a flow are one pass over each record ([`Pass`]). The fields that they name are found once, while the
//! record is validated; what no stage changes is copied as it is.

mod block;
mod fields;
mod found;
#[cfg(test)]
mod json_test_suite;
mod pass;
mod pattern;
mod record;
mod scan;
mod sequence;
mod shape;
#[cfg(test)]
mod tests;
mod text;

use serde::Deserialize;
use tokio::time::Instant;

use crate::values::{Problem, Section};

pub(crate) use fields::{Field, Fields};
use found::FoundFields;
pub use pass::Pass;
pub(crate) use record::Record;
pub(in crate::records) use text::plain_text;

/// What a stage does to a record.
pub(crate) trait Operator: Send {
    /// Changes the record, or takes it out.
    fn apply(&mut self, now: Instant, record: &mut Record<'_>) -> Verdict;

    /// When it wants to give what it holds, at the latest.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Writes the records that are due into `out`, each one line: those that a [`Verdict::Release`] has reported, those whose
    /// deadline is `now` or before, and all of them where the input `has_ended`.
    fn release(&mut self, _now: Instant, _has_ended: bool, _out: &mut Vec<u8>) {}

    /// Records that it holds, in whatever form; and the word that those are counted under that end here, because fewer are
    /// given than were taken.
    fn held(&self) -> (u64, &'static str) {
        (0, "held")
    }
}

/// The members of a record, for formats that write them one by one.
#[derive(Debug)]
pub(crate) struct Members {
    fields: Fields,
    found: FoundFields,
    name: Vec<u8>,
}

impl Default for Members {
    fn default() -> Self {
        let mut fields = Fields::default();
        fields.open();
        Self { fields, found: FoundFields::default(), name: Vec::new() }
    }
}

impl Members {
    /// Gives the name of each member of `line`, without escapes, and its value as JSON; `line` has its newline.
    pub(crate) fn each(&mut self, line: &[u8], mut give: impl FnMut(&[u8], &[u8])) {
        if scan::scan(line, &self.fields, &mut self.found).is_err() {
            return; // what has been through the pass is a record
        }
        for place in self.found.members() {
            let (name, value) = place.of(line);
            give(plain_text(name, &mut self.name), value);
        }
    }
}

/// A value as a key to tell records apart by: the same text is the same key, however it is escaped.
fn key_of(record: &Record<'_>, fields: &[Field], key: &mut Vec<u8>, text: &mut Vec<u8>) {
    key.clear();
    for field in fields {
        let (kind, value) = match record.text(*field, text) {
            Some(text) => (b'"', text),
            None => (b' ', record.value(*field).unwrap_or_default()),
        };
        key.push(kind);
        key.extend_from_slice(&value.len().to_le_bytes());
        key.extend_from_slice(value);
    }
}

/// Whether a record goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To the next stage.
    Keep,
    /// It is left out as intended, for this reason: a word or two in snake case, as statistics have it.
    Discard(&'static str),
    /// It is lost, for this reason.
    Drop(&'static str),
    /// The stage holds it.
    Hold,
    /// The stage holds it, and what it held before is due.
    Release,
}

/// The options of a stage as a file has them.
trait Options {
    /// The stage itself, which registers the fields that it names.
    fn build(&self, fields: &mut Fields) -> Result<Box<dyn Operator>, Problem>;
}

/// An example of a stage: a test runs it, and the reference shows it.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The `[[transform]]` sections.
    pub file: &'static str,
    /// Lines that go in.
    pub input: &'static str,
    /// Lines that come out.
    pub output: &'static str,
}

/// A stage in the reference of files.
#[derive(Debug, Clone, Copy)]
pub struct Manual {
    /// Its name in `[[transform]]`.
    pub name: &'static str,
    /// The type of its options.
    pub takes: &'static str,
    /// What it does, as a phrase.
    pub does: &'static str,
    /// Its options, where they are keys.
    pub options: Option<Section>,
    /// What it makes of records.
    pub example: Example,
}

/// Declares the stages: a module, the type of its options, and the name in a file, which is the name of the module.
macro_rules! stages {
    ($($(#[$about:meta])* $module:ident: $Stage:ident),* $(,)?) => {
        $(pub(crate) mod $module;)*

        /// One `[[transform]]`: the name of a stage and its options.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Stage {
            $($(#[$about])* $Stage($module::$Stage),)*
        }

        /// The reference of each stage.
        pub const MANUAL: &[Manual] = &[$($module::MANUAL),*];

        impl Stage {
            /// Its name in a file.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Stage(_) => stringify!($module),)* }
            }

            fn options(&self) -> &dyn Options {
                match self { $(Self::$Stage(options) => options,)* }
            }
        }
    };
}

stages! {
    /// Adds fixed fields.
    tags: Tags,
    /// Lets only the records on that a condition holds for.
    filter: Filter,
    /// Leaves only some fields.
    keep: Keep,
    /// Takes fields out.
    drop: Drop,
    /// Gives fields other names.
    rename: Rename,
    /// Makes fields of a text.
    parse: Parse,
    /// Lets one in so many on.
    sample: Sample,
    /// Lets so many in a time on.
    throttle: Throttle,
    /// Drops what came a short time before.
    dedupe: Dedupe,
    /// Makes one record of many, with figures.
    aggregate: Aggregate,
    /// Joins lines that belong together.
    multiline: Multiline,
}
