//! Plain data that travels between stages: no behaviour, no clock, no I/O, no wire format.
//!
//! This module does not know how a value was read (that is [`crate::metrics`]) nor how it is
//! spelled on a wire (that is [`crate::wire`]).

mod batch;
mod fields;
mod group;
mod rng;
mod machine;
mod metrics;
mod network;
mod process;
mod receipt;
mod renames;
mod time;
mod keyword;

pub use batch::{Batch, Frame};
pub use fields::field_paths;
pub use group::{AnyGroup, Field, Group, Kind, OwnGroup, OwnGroups};
pub use keyword::Keyword;
pub use machine::{
    Agent, Cpu, CpuSeconds, Disk, DiskCounters, DiskIo, Host, Load, Memory, Mount, Pressure,
    PressureStats,
};
pub use metrics::{CollectError, Identity, SystemMetrics};
pub use network::{Interface, InterfaceRates, Network, Port};
pub use process::{Process, Rank};
pub use receipt::{Receipt, Unacknowledged};
pub use renames::Renames;
pub use rng::Rng;
pub use time::Iso8601;
