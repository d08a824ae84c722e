//! Programs run for real: whatever they do, they end at their deadline with all they have started.
//!
//! Each test runs with control groups, where they can be made here, and without. What needs root says
//! so and is skipped without it; at the end everything is run once more as a plain user.
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
