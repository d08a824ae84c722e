//! Plain data that travels between stages: no behaviour, no clock, no I/O, no wire format.
//!
//! This module does not know how a value was read (that is [`crate::metrics`]) nor how it is
//! spelled on a wire (that is [`crate::wire`]).

mod batch;
mod chance;
mod machine;
mod metrics;
mod network;
mod process;
mod time;

pub use batch::{Batch, Frame};
pub use chance::Chance;
pub use machine::{
    Agent, Cpu, Disk, DiskIo, Host, Load, Memory, Mount, NodeCount, Pressure, Stall,
};
pub use metrics::{Group, Identity, SystemMetrics, Trouble};
pub use network::{Interface, InterfaceRates, Network, Port};
pub use process::{Process, Rank};
pub use time::Iso8601;
