//! The engine: stages, the channels between them, and the tasks that run them.
//!
//! In reading order: [`stage`] is what one writes, [`builder`] is how stages are put together, and
//! the rest is how that runs: [`chain`] (fused, no channel), [`ring`] (newest wins), [`task`] (one
//! per waiting thing), [`handler`] (requests that act, in a [`concurrency::ConcurrencyLimit`]), [`supervise`] (again after a fault,
//! logged by [`log_limit`]),
//! [`state_store`] (what outlives a stage), [`mod@run`] (side by side, to the end). [`stats`] counts items, [`memory_budget`] bytes.
//!
//! This module does not know any metric, command, file format or device.

pub mod builder;
pub mod chain;
pub mod handler;
pub mod stats;
pub mod memory_budget;
pub mod log_limit;
pub mod topology;
pub mod concurrency;
pub mod ring;
pub mod run;
pub mod state_store;
pub mod stage;
pub mod supervise;
pub mod task;

pub use builder::{Pipeline, Published};
pub use chain::{Identity, Segment};
pub use concurrency::{ConcurrencyLimit, ConcurrencyLimits};
pub use handler::Handler;
pub use log_limit::{LOG_INTERVAL, LogLimit};
pub use memory_budget::{Charge, MemoryBudget, Reservation};
pub use ring::{Ring, Subscriber};
pub use run::{Graph, Outcome, run, run_until};
pub use stage::{BoxSink, EventCount, Output, Sink, Source, StageError, Transform};
pub use state_store::{Restore, StateStore, Stateful};
pub use stats::{StageStats, StatsRegistry};
pub use supervise::{ExitStatus, Restart, panic_text};
pub use task::Task;
