//! What happens to a reading between the machine and the batch, one file per enricher.
//!
//! Every enricher takes a reading and gives a reading, so they can stand in any order and any
//! number. They share the groups they leave alone; a copy of a reading is a few reference counts.
//!
//! This module does not read the machine, does not wait, and does not write a wire format.

mod added;
mod join;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use join::Join;

use crate::model::{Group, Identity as MachineIdentity, SystemMetrics};
use crate::pipeline::{Restore, StateStore, Stateful, Transform};
use crate::values::{Key, Manual};
use crate::wire::Format;

/// Any of them, chosen at run time.
pub type Enricher = Box<dyn Transform<In = SystemMetrics, Out = SystemMetrics>>;

/// Cadences whose state one enricher remembers. More than any sensible file has; beyond it the
/// one heard longest ago is forgotten.
const MAX_CADENCES: usize = 16;

/// The options of an enricher, as a file has them. Whatever must know something of an enricher asks them.
pub trait Options {
    /// The enricher.
    fn build(&self, context: &EnricherContext<'_>) -> Enricher;

    /// The groups without which it, or a part of it, does nothing.
    fn needs(&self) -> Vec<Group> {
        Vec::new()
    }

    /// Whether a reading may still have `group` behind it.
    fn passes(&self, _group: Group) -> bool {
        true
    }

    /// The tags that it adds.
    fn tags(&self) -> Option<&BTreeMap<String, String>> {
        None
    }

    /// Whether lines of `format` have a place for what it adds.
    fn shows_in(&self, format: Format) -> bool {
        self.tags().is_none() || format.carries_tags()
    }

    /// The options that have no effect on this machine, which are likely mistakes.
    fn without_effect(&self) -> Vec<NoEffect> {
        Vec::new()
    }
}

/// An item of an option that has no effect on this machine.
#[derive(Debug)]
pub struct NoEffect {
    /// The option, which is a list.
    pub key: &'static str,
    /// The item of the list.
    pub item: usize,
    /// Why it has none.
    pub message: String,
    /// What to do.
    pub help: &'static str,
}

/// What the agent gives an enricher.
pub struct EnricherContext<'a> {
    /// The name of the pipeline.
    pub pipeline: &'a str,
    /// How many of the same name stand before it.
    pub nth: usize,
    /// Keeps its state over a reload.
    pub state_store: &'a StateStore,
    /// Which machine this is, by its name at its manager where a file gives one.
    pub identity: &'a dyn Fn(Option<String>) -> MachineIdentity,
    /// Makes what takes its events.
    pub notify: &'a dyn Fn() -> Notify,
}

impl EnricherContext<'_> {
    /// An enricher that continues from the state of the one before a reload: the second `rates` of a file from the second
    /// one.
    fn stateful<T>(&self, name: &str, enricher: T) -> Enricher
    where
        T: Transform<In = SystemMetrics, Out = SystemMetrics> + Restore + 'static,
    {
        Box::new(Stateful::new(enricher, self.state_store, format!("{name}/{}", self.nth)))
    }
}

/// Declares the enrichers: a module with its `MANUAL`, the variant for its name in a file, and the type of its options.
macro_rules! enrichers {
    ($($(#[$about:meta])* $module:ident: $Name:ident($Options:ident)),* $(,)?) => {
        $(mod $module;)*
        $(pub use $module::$Options;)*

        /// One enricher: `[[enrich]]` with one name in it, such as `tags = { site = "lab-1" }`.
        #[derive(Debug, Clone, PartialEq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Enrich {
            $($(#[$about])* $Name($Options),)*
        }

        impl Enrich {
            /// Its options.
            pub fn options(&self) -> &dyn Options {
                match self { $(Self::$Name(options) => options,)* }
            }

            /// Its name in a file.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$Name(_) => $module::MANUAL.key.name,)* }
            }
        }

        /// The reference of each enricher.
        pub const MANUAL: &[Manual] = &[$($module::MANUAL),*];

        /// The names of all, for `[[enrich]]` in the reference.
        pub const KEYS: &[Key] = &[$($module::MANUAL.key),*];
    };
}

enrichers! {
    /// Adds the machine's identity.
    identity: Identity(IdentityOptions),
    /// Adds fixed tags.
    tags: Tags(TagsOptions),
    /// Adds rates per second to counters.
    rates: Rates(RatesOptions),
    /// Keeps the most important of a list.
    top: Top(TopOptions),
    /// Keeps or drops whole groups.
    select: Select(SelectOptions),
    /// Drops fields of each reading.
    drop: Drop(DropOptions),
    /// Gives fields other names in `json-lines`.
    rename: Rename(RenameOptions),
    /// Lets only what has changed through, and a full copy now and then.
    changes: Changes(ChangesOptions),
    /// Keeps the processes for which all conditions hold.
    process_filter: Where(WhereOptions),
    /// Reports a value that stays above a bound.
    threshold: Threshold(Crossing),
}

pub use changes::Changes;
pub use drop::DropFields;
pub use identity::Identity;
pub use process_filter::ProcessFilter;
pub use rates::Rates;
pub use rename::RenameFields;
pub use select::Select;
pub use tags::Tags;
pub use threshold::{Measure, Notify, Threshold};
pub use top::Top;
