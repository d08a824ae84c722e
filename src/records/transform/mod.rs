//! What happens to a record between the source and the batch: `[[transform]]`, one file per stage.
//!
//! All stages of a flow are one pass over each record ([`Pass`]). The fields that they name are found once, while the
//! record is validated; what no stage changes is copied as it is.

mod pass;
mod record;
mod scan;
#[cfg(test)]
mod tests;

use serde::Deserialize;
use tokio::time::Instant;

use crate::values::{Problem, Section};

pub use pass::Pass;
pub use record::{Field, Fields, Record};
pub use scan::Flaw;

/// What a stage does to a record.
pub trait Operator: Send {
    /// Changes the record, or takes it out.
    fn apply(&mut self, now: Instant, record: &mut Record<'_>) -> Verdict;
}

/// Whether a record goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// To the next stage.
    Keep,
    /// It is left out as intended, for this reason: a word or two in snake case, as statistics have it.
    Discard(&'static str),
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
        $(pub mod $module;)*

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
}
