//! The spool under a disk that breaks, the keeper with a fake port, and the command that looks at a spool.
#![allow(clippy::unwrap_used)]

#[path = "spool/cli.rs"]
mod cli;
#[path = "spool/faults.rs"]
mod faults;
#[path = "spool/keeper.rs"]
mod keeper;
#[path = "spool/rig.rs"]
mod rig;
