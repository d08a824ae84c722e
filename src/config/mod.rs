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
pub mod reference;
pub mod schema;

use crate::values::{table, units, value, variant};

pub use crate::metrics::collect::{ProcessesKeys as ProcessesOptions, Read};
pub use crate::metrics::enrich::{
    ChangesOptions, Enrich, IdentityOptions, RatesOptions, SelectOptions, TagsOptions, TopOptions,
};
pub use crate::sinks::{Destination, FileOptions};
pub use crate::values::{Count, Period, Problem, Size};
pub use agent::{
    AgentSettings, CEILING_MAX, CEILING_MIN, HostKind, IdentitySettings, LEVELS_HELP, Log, Memory,
    ReloadSettings, Restart, Runtime, RuntimeKind, Shutdown, SpoolSettings, StateSettings,
    is_log_level,
};
pub use commands::{Audit, Commands, CommandsFile, Enforce, Execute, Receive, Reply, Verify};
pub use destination::conflicts;

pub use error::{ConfigError, Place, Severity};
pub use limit::MemoryLimit;
#[cfg(feature = "host")]
pub use load::load_relay;
pub use load::{
    BUILT_IN, DEFAULT_FOLDER, inspect, is_built_in, load, load_file, load_tests, load_with,
    secret_fault, test_files, texts,
};
pub use loaded::{Loaded, Pipeline};
pub use memory::WorstCase;
pub use pipeline::{Batch, Collect, Generate, PipelineFile, Serialize};
pub use records::{RecordsFile, SerializeRecords};
#[cfg(feature = "host")]
pub use relay::{
    Endpoint, Found, GuestSecret, Guests, NO_RULES, NO_TOKEN, Nats, OPEN_HELP, Otlp, RULES_HELP,
    RelayCommands, RelayFile, SocketPattern, TOKEN_HELP, Vsock, Web, find as find_sockets,
};
pub use setting::{NotASetting, Setting};
pub use test_file::{Expected, Given, Lines, Matching, TestCase, TestFile, TestPart, WrongTest};
pub use warnings::unknown_log_targets;
pub use write::{Delivery, OutputFormat, Target, Write};

/// Looks up an environment variable. An argument, so that tests need no real environment.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;
