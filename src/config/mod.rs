//! The configuration files: loading, grammar, and errors with their place.
//!
//! A file is read ([`load()`]), parsed as TOML, its `${NAME}` are filled in (`interpolate`), it becomes typed
//! ([`PipelineFile`], [`CommandsFile`], [`AgentSettings`]), and rules that need the whole file are checked (`validate`). An
//! error of any step is a [`ConfigError`]: the file, the place, the invalid text and the remedy. The variants and fields of
//! the types are the syntax of the files, and the names that errors suggest; [`mod@reference`] documents each key.
//!
//! [`load()`] blocks on files: on a runtime, call it from `spawn_blocking`.

mod load;
mod loaded;
mod parse;
mod document;
mod syntax;
mod setting;
mod interpolate;
mod renamed;
mod pipeline;
mod write;
mod records;
#[cfg(feature = "host")]
mod relay;
mod test_file;
mod commands;
mod rule;
mod secret;
mod agent;
mod check;
mod validate;
mod warnings;
mod destination;
mod memory;
mod limit;
mod error;
mod explain;
mod summary;
pub(crate) mod reference;
pub(crate) mod schema;

use crate::values::{table, units, value, variant};

pub use crate::metrics::collect::{ProcessesKeys as ProcessesOptions, Read};
pub use crate::metrics::enrich::{
    ChangesOptions, Enrich, IdentityOptions, RatesOptions, SelectOptions, TagsOptions, TopOptions,
};
pub use crate::sinks::{Destination, FileOptions};
pub use crate::values::{Count, Period, Size};
pub use agent::AgentSettings;
pub(crate) use agent::{HostKind, LEVELS_HELP, Runtime, RuntimeKind, StateSettings, is_log_level};
pub(crate) use commands::{Audit, CommandsFile, Execute, Reply};
pub use commands::{Commands, Enforce};
pub(crate) use destination::conflicts;

pub use error::ConfigError;
pub(crate) use error::Severity;
pub(crate) use limit::MemoryLimit;
#[cfg(feature = "host")]
pub(crate) use load::load_relay;
pub use load::{BUILT_IN, load, load_file};
pub(crate) use load::{
    DEFAULT_FOLDER, inspect, is_built_in, load_tests, load_with, secret_fault, test_files, texts,
};
pub use loaded::Loaded;
pub(crate) use loaded::Pipeline;
pub(crate) use memory::WorstCase;
pub use pipeline::{Batch, Collect, PipelineFile, Serialize};
pub use records::RecordsFile;
#[cfg(feature = "host")]
pub(crate) use relay::{
    Endpoint, Guests, NO_RULES, NO_TOKEN, Nats, OPEN_HELP, Otlp, RULES_HELP, RelayCommands,
    RelayFile, SocketPattern, TOKEN_HELP, Vsock, Web, find as find_sockets,
};
pub(crate) use setting::{NotASetting, Setting};
pub(crate) use test_file::{
    Expected, Matching, TestCase, TestFile, TestInput, TestPart, WrongTest,
};
pub(crate) use warnings::unknown_log_targets;
pub use write::{Delivery, Target, Write};

/// Looks up an environment variable. An argument, so that tests need no real environment.
pub(crate) type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;
