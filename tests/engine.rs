//! The engine held from both ends: what goes in, what comes out, and the books, under faults.
//! Each flow runs under both runtimes where that can make a difference.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "engine/rig.rs"]
mod rig;
#[path = "engine/flow.rs"]
mod flow;
#[path = "engine/faults.rs"]
mod faults;
#[path = "engine/handler.rs"]
mod handler;
