//! Programs run for real: whatever they do, they end at their deadline with all they have started.
//!
//! The tests run with control groups, where they can be made here; two of them run all the others once
//! more, without control groups and as a plain user. What needs root says so and is skipped without it.
#![allow(clippy::unwrap_used)]

#[path = "execute/rig.rs"]
mod rig;
#[path = "execute/starting.rs"]
mod starting;
#[path = "execute/streams.rs"]
mod streams;
#[path = "execute/surroundings.rs"]
mod surroundings;
#[path = "execute/trees.rs"]
mod trees;
#[path = "execute/users.rs"]
mod users;
