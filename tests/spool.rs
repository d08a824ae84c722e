//! The spool on a failing disk, the spool task with a fake port, and `infiniservice spool`.
#![allow(clippy::unwrap_used)]

#[path = "doubles/mod.rs"]
mod doubles;
#[path = "spool/check.rs"]
mod check;
#[path = "spool/cli.rs"]
mod cli;
#[path = "spool/damage.rs"]
mod damage;
#[path = "spool/head.rs"]
mod head;
#[path = "spool/task.rs"]
mod task;
#[path = "spool/power.rs"]
mod power;
#[path = "spool/rig.rs"]
mod rig;
#[path = "spool/room.rs"]
mod room;
#[path = "spool/unreadable.rs"]
mod unreadable;
#[path = "spool/tombstones.rs"]
mod tombstones;
