//! The engine: stages, the channels between them, and the tasks that run them.
//!
//! In reading order: `stage` has the traits to implement, `builder` puts stages together, and the rest runs them:
//! [`chain`] (stages fused in one task), `ring` (broadcast of the newest items), `task` (sources, segments and
//! sinks), `handler` (requests; `admission` says which starts next under a [`ConcurrencyLimit`]), `supervise` (restart after a fault,
//! logged through `log_limit`), [`tap`] (a look at what passes), `state_store` (state that survives a reload), [`mod@run`] (all tasks of a graph, to
//! the end). `stats` counts items, `memory_budget` bytes, and [`topology`] is what a graph looks like.
//!
//! The engine knows no metric, command, file format or device.

pub(crate) mod builder;
pub mod chain;
pub(crate) mod handler;
pub(crate) mod stats;
pub(crate) mod memory_budget;
pub(crate) mod log_limit;
pub mod tap;
pub mod topology;
pub(crate) mod concurrency;
mod admission;
pub(crate) mod ring;
pub mod run;
pub(crate) mod state_store;
pub(crate) mod stage;
pub(crate) mod supervise;
pub(crate) mod task;

pub use admission::Admission;
pub use builder::{Context, Pipeline, Published};
pub use chain::{Identity, Segment};
pub use concurrency::{ConcurrencyLimit, ConcurrencyLimits};
pub use handler::Handler;
pub use log_limit::{LOG_INTERVAL, LogLimit};
pub use memory_budget::{MemoryBudget, Reservation, SharedReservation};
pub use ring::{Ring, Subscriber};
pub use run::{Graph, Outcome, run, run_until};
pub use stage::{BoxSink, BoxSource, EventCount, Output, Sink, Source, StageError, Transform};
pub use state_store::{Restore, StateStore, Stateful};
pub use stats::{StageCounts, StageStats, StatsRegistry, numbered};
pub use supervise::{ExitStatus, Restart, panic_text};
pub use task::Task;
