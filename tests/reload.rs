//! The real program, changed while it runs: by the signal, by the command, and by its files; with metrics and
//! commands under way, and a host that must not notice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "reload/rig.rs"]
mod rig;
#[path = "reload/under_load.rs"]
mod under_load;
#[path = "reload/kept.rs"]
mod kept;
#[path = "reload/watch.rs"]
mod watch;
#[path = "reload/told.rs"]
mod told;
#[path = "reload/absent.rs"]
mod absent;
#[path = "reload/stricter.rs"]
mod stricter;
