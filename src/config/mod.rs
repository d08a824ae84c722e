//! The pipeline files: grammar, loading, and errors that say where.
//!
//! A file goes through four steps, each in a module of its own: it is read ([`load()`]), its `${NAME}`
//! are filled in (`interpolate`), it becomes the types of the grammar ([`PipelineFile`],
//! [`CommandsFile`], [`AgentSettings`]), and what only the whole can tell is checked (`check`). Whatever is wrong in
//! any of them is a [`ConfigError`]: a file, a place, the wrong word, and what would be right.
//!
//! The variants and fields of these types *are* the syntax of the files and the words that an error
//! offers; a new collector or enricher is one variant. What people read of each key is in [`mod@reference`].
//!
//! This module does not build any stage, and starts nothing. It blocks on files: on a runtime, call
//! [`load()`] from `spawn_blocking`.

mod agent;
mod validate;
mod commands;
mod destination;
mod enrich;
mod error;
mod warnings;
mod explain;
mod interpolate;
mod limit;
mod load;
mod memory;
mod parse;
mod pipeline;
mod value;
mod collectors;
pub mod reference;
mod renamed;
mod rule;
mod secret;
mod setting;
mod summary;
mod syntax;
mod table;
mod units;
mod variant;
mod write;

pub use agent::{
    AgentSettings, HostKind, IdentitySettings, LEVELS_HELP, Log, ReloadSettings, Restart, Runtime,
    RuntimeKind, Shutdown, SpoolSettings, StateSettings, is_log_level,
};
pub use collectors::{ProcessesOptions, Read};
pub use commands::{Audit, Commands, CommandsFile, Enforce, Execute, Receive, Reply, Verify};
pub use destination::conflicts;
pub use enrich::{Changes, Enrich, Identify, Rates, Select, Top};
pub use error::{ConfigError, Place, Severity};
pub use limit::MemoryLimit;
pub use load::{
    BUILT_IN, DEFAULT_FOLDER, Loaded, Pipeline, inspect, is_built_in, load, load_file, load_with,
    untrusted_secret,
};
pub use memory::{CEILING_MAX, CEILING_MIN, Memory, WorstCase};
pub use pipeline::{Batch, Collect, Generate, PipelineFile, Serialize};
pub use setting::Setting;
pub use units::{Count, Period, Size};
pub use value::Problem;
pub use write::{Delivery, FileTarget, Target, Write};

/// Looks a variable of the environment up. Passed in, so that a test needs no real environment.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;
