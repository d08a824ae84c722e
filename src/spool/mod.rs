//! The spool: durable messages are stored on disk until the host acknowledges them.
//!
//! ```text
//!  replies, completions,                     ┌──────────── spool task ────────────┐
//!  agent events ── mpsc: DurableMessage ───▶ │ spool: write(2), then hand over    │ ── mpsc: TrackedFrame ──▶ port
//!                                            │   STATE/spool  (fsync in 50 ms)    │ ◀── watch: acknowledged seq ──┘
//!                                            └────────────────────────────────────┘
//! ```
//!
//! A [`DurableMessage`] enters through [`SpoolTask`], which runs one `job` on the blocking pool for everything that
//! is ready. The job puts messages into the queue ([`Spool`]), evicts others where the queue is full (`eviction`),
//! and appends records (`record`) to the [record file](crate::record_file) (`write`). At a start, `recovery` reads
//! it through `scan` and `first`. `acks`, `status` and `session_ids` are what other parts of the agent read.
//!
//! Each part of the queue's state is changed by its own type only: `items` (what waits, and its sums), `frames` (those in
//! memory), `tombstones`, `recorded` (what the file knows of the queue) and `condition` (what keeps messages from being
//! stored).
//!
//! # Guarantees
//! - A message is with the kernel before the port gets it, so it survives the agent's death, also by `kill -9`.
//! - It survives a power cut after at most 50 ms ([`SYNC_WITHIN`]): one sync covers all messages since the last.
//!   The host reads most replies sooner than that, so a sync for each message would delay all of them for the sake
//!   of few; and a power cut ends the running commands anyway.
//! - An acknowledged message is not sent again, unless the record of the acknowledgement is lost: it is written at
//!   once and synced within a second. Every message from an earlier run is marked
//!   [`redelivered`](crate::port::TrackedFrame::redelivered).
//! - Messages leave in the order in which they came, over restarts too. Nothing torn leaves.
//! - A power cut at any write, sync or rename leaves a readable file (tested at each of them). Corruption costs the
//!   item it hits, or with its head everything behind it. Corruption of the beginning, which holds the format and
//!   the owner, costs no item as long as a later record repeats the owner. A file of which nothing can be used
//!   (also one of another version) is kept as `spool.damaged`, one of them, until `spool drop --all`.
//! - Losses by corruption are counted as `damaged`, or as `not synced` if the file ends torn and was written before
//!   this boot. A part of unknown content counts as one item.
//! - A full or failing disk is a [`State`]: it is reported to the log, the hosts and `infiniservice spool`, and
//!   ends when a write succeeds again (tried every 2 s). Meanwhile messages are in memory, at most 4 MiB or the
//!   spool's size; when the agent ends, the log says how many are lost with it.
//! - A failed read is no corruption: the file stays as it is until it can be read, and a run that began with such a
//!   file works in memory only. Only checksums decide what is corrupt.
//! - A full spool evicts in the order of [`MessageKind`], the oldest of a kind first, and never a message that the port
//!   has. Each is counted as lost, `spool full`. Of replies the long ones (1 KiB) go first. Each evicted one, and
//!   each that finds no room when it comes, leaves a [`Tombstone`] as a new message: the command ran, and its id
//!   gets an answer. Short replies and tombstones go when no long reply is left, and then only the count remains.
//! - The file is [`SIZE_MIN`] to [`SIZE_MAX`] (by default [`SIZE`]) long, ¾ of it for waiting records, so it is
//!   rewritten at most once for each ¼ of its size; during a rewrite there are two files. When nothing waits, it is
//!   cut to its first records after a second: the output of commands does not stay on the disk.
//! - Mode 0600, no symbolic link, no other user's file; one writer, by `flock` on the state folder. A file of
//!   another machine (a clone) is emptied and its items are counted.
//!
//! # Why a format of its own
//! | | crates | memory at rest | 200 records of 2 KiB | when emptied |
//! |---|---|---|---|---|
//! | redb 4.6 | 2 | +0.7 MiB (0.3 of it anonymous) | 1.1 MiB, 1.5 ms a commit | stays at 1.1 MiB, with the old bytes |
//! | fjall 3.1 | 42 | not tried | | |
//! | sled 0.34 | 16 | not tried: its last release is a beta | | |
//! | this | 0 | 32 bytes an item, 256 KiB of frames at most | 0.4 MiB, one sync for all | two records, about 0.4 KiB |
//!
//! (crates: itself included, `cargo tree -e normal`; redb measured with a 64 KiB cache, release build at `opt-level
//! = "s"`.) A queue needs no search, no transaction over several keys and no second writer, which are a store's
//! strengths. The agent rests at 4.9 MiB of memory with a ceiling of 5, and a store cannot be made to erase a
//! reply's bytes. A test that cuts the power at every step replaces the field experience of a store. Also rejected:
//! SQLite (C code to build and audit), and one file per item (two fsyncs for each, and an order made of names).
//!
//! # Measured
//! The delay of a reply of 2 KB, from the inbox to the port's channel, on a real file (ext4, two shared cores,
//! unoptimised build, five runs of 1,000 replies a few milliseconds apart, each acknowledged at once): 0.11-0.17 ms
//! in the median, 99 % within 2.2-6.5 ms, at most 5-14 ms and once 95: those came during a sync. The test
//! `the_hop_through_a_real_file_is_short` measures it.

mod message;
mod sink;
mod task;
mod job;
mod queue;
mod eviction;
mod write;
mod record;
mod recovery;
mod items;
mod frames;
mod tombstones;
mod recorded;
mod condition;
mod scan;
mod first;
mod acks;
mod status;
mod session_ids;
mod types;

use crate::record_file::Names;

pub use acks::Acks;
pub use message::{DurableMessage, MessageKind};
pub use queue::Spool;
pub use recovery::open;
pub(crate) use scan::{Corruption, Entry, Scan, body};
pub use scan::{ITEMS_MAX, scan};
pub use session_ids::SessionIds;
pub use sink::DurableSink;
pub use status::SpoolStatus;
pub(crate) use status::Waiting;
pub use task::{Machine, SpoolTask};
pub(crate) use types::{CACHE_MAX, SIZE_MAX};
pub use types::{MEMORY_MAX, Opened, SIZE, SIZE_MIN, Settings, State, TOMBSTONE_MAX};

pub(crate) use record::{millis, time};

/// The names of the spool in the state folder.
pub const NAMES: Names =
    Names { name: "spool", beside: "spool.new", aside: "spool.damaged", lock: None };
