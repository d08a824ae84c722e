//! `infiniservice-host` and its library, against a guest whose part is spoken here, and against the real
//! agent.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test ends where the world is not as it should be

mod support;

#[path = "host/peer.rs"]
mod peer;

#[path = "host/cli.rs"]
mod cli;
#[path = "host/diagnose.rs"]
mod diagnose;
#[path = "host/interrupted.rs"]
mod interrupted;
#[path = "host/library.rs"]
mod library;
