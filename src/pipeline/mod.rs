//! The engine: stages, the channels between them, and the tasks that run them.
//!
//! In reading order: [`stage`] is what one writes, [`builder`] is how stages are put together, and
//! the rest is how that runs: [`chain`] (fused, no channel), [`ring`] (newest wins), [`task`] (one
//! per waiting thing), [`handle`] (requests that act, in a [`places::Room`]), [`supervise`] (again after a fault,
//! logged by [`log_limit`]),
//! [`shelf`] (what outlives a stage), [`mod@run`] (side by side, to the end). [`health`] counts items, [`ledger`] bytes.
//!
//! This module does not know any metric, command, file format or device.

pub mod builder;
pub mod chain;
pub mod handle;
pub mod health;
pub mod ledger;
pub mod log_limit;
pub mod picture;
pub mod places;
pub mod ring;
pub mod run;
pub mod shelf;
pub mod stage;
pub mod supervise;
pub mod task;

pub use builder::{Pipeline, Published};
pub use chain::{Identity, Segment};
pub use handle::Handler;
pub use health::{Health, Node, ON_PURPOSE};
pub use ledger::{Charge, Ledger, Reservation};
pub use log_limit::{LOG_INTERVAL, LogLimit};
pub use places::{Places, Room};
pub use ring::{Ring, Tail};
pub use run::{Graph, Outcome, run, run_until};
pub use shelf::{Kept, Renew, Shelf};
pub use stage::{Emit, Fault, Sink, Source, Transform, Weigh};
pub use supervise::{End, Restart, panic_text};
pub use task::Task;
