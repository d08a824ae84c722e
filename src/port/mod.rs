//! The device: finding the port, opening it, and moving bytes both ways. Does not know what the bytes mean.
//!
//! ```text
//! replies   ──▶ mpsc, 64 ──┐ first
//! telemetry ──▶ (own ring) ┴▶ outbox, 32 KiB ──▶ device ──▶ host
//! inbound   ◀── mpsc, 16 ◀───────── 4 KiB ◀──────┘
//! ```
//!
//! [`Target`] says which device, [`Opener`] and [`Device`] what every device looks like,
//! [`Port`] is the task. Reading order: `target`, `discovery`, `device`, `linux`, `lanes`, `outbox`,
//! `session`, `actor`.
//!
//! # Measured
//! On a real port (QEMU 7.2 emulating the processor, Linux 6.1, two shared cores), release build: no wake-up in 5 s
//! without a host, two for each write with one; a line echoed in 0.15 ms (median; 99 % within 0.7 ms); guest to
//! host 22-30 MiB/s in frames of 200 bytes, 84 of 4 KiB, 313 of 32 KiB, and a reply under that load in 6-28 ms.
//!
//! This module does not parse a line, sign, count deliveries, or fall back to a port of another name.

mod actor;
mod counters;
mod device;
mod discovery;
mod inlet;
mod lanes;
mod linux;
pub mod model;
mod open;
mod outbox;
mod retry;
mod session;
mod stdio;
mod target;
mod unix;
mod watch;

pub use actor::{End, Port, Summary};
pub use counters::Counters;
pub use device::{Device, Level, NotOpen, Opener, Received, Sent};
pub use discovery::check;
pub use inlet::{CHUNK_BYTES_MAX, CHUNKS_KEPT, Inbound};
pub use lanes::REPLIES_KEPT;
pub use outbox::WRITE_BYTES_MAX;
pub use target::{DEFAULT_PORT, InvalidTarget, Target};
