//! Delivery: what must arrive is kept, on disk, until the host is known to have read it.
//!
//! ```text
//!  replies, completions,           ┌───────────── keeper ─────────────┐
//!  agent events ── mpsc: Must ───▶ │ spool: write(2), then hand over  │ ── mpsc: Kept ──▶ port, must lane
//!                                  │   STATE/spool  (fsync in 50 ms)  │ ◀── watch: read up to seq ──┘
//!                                  └──────────────────────────────────┘
//! ```
//!
//! Reading order: `must` (what and in which order it is shed), `record` (the bytes), `storage` (what a disk
//! is), `reader` and `scan` (reading), `opening`, `spool`, `write` and `shed` (the queue), `desk` and `keeper` (the task), `file` (the real
//! disk), `faulty` (one that breaks).
//!
//! # What is promised
//! - An item is with the kernel before the port gets it, so it survives the agent's death, also by `kill -9`.
//! - It survives a power cut 50 ms later at most ([`SYNC_WITHIN`]): syncs are done for all that came since
//!   the last. The host reads most answers sooner than that, so waiting for each sync would delay all of them
//!   for the sake of few; and a cut takes the running commands with it anyway.
//! - What was read is not sent again, except where the note of it was lost: written at once, synced within
//!   a second. Whatever an earlier run of the agent had taken is marked [`again`](crate::port::TrackedFrame::again).
//! - Items leave in the order in which they came, over restarts too. Nothing torn leaves.
//! - A power cut at any write, sync or rename leaves a file that is read (tested at each of them). Damage
//!   costs the item it hits, or with its head all that is behind it; damage to the beginning, which says what and
//!   whose the file is, costs no item as long as that is said once more. A file of which nothing can be used (of
//!   another version, too) is kept as `spool.damaged`, one of them, until `spool drop --all`.
//! - What damage costs is in the books, as `damaged`, or as `not synced` where the file ends torn and was written
//!   before this boot; a part of which nothing is known counts as one.
//! - A full disk, or one that fails, is a [`State`]: told to the log, the hosts and who asks here, and left when a
//!   write succeeds again (tried every 2 s). Meanwhile items are in memory, 4 MiB or the spool's size at most; when the
//!   agent ends, the log says how many are lost with it.
//! - A read that fails is no damage: the file stays as it is until it can be read, and a run that began with
//!   such a file is one of memory only. What is damaged is what the sums say.
//! - When it is full it sheds in the order of [`Kind`], the oldest of a kind first, and never what the
//!   port has in hand; each is in the books as lost, `spool full`. Of answers the long ones (1 KiB) go first, and for
//!   each, also for one that finds no room when it comes, a [`Tombstone`] of its loss stays, as a new item: the command ran,
//!   and its id is answered. Short answers, and
//!   those words, go when no long one is left, and then nothing of them stays but the count.
//! - The file is [`SIZE_MIN`] to [`SIZE_MAX`] (here [`SIZE`]) long, ¾ of it for what waits, so that it is
//!   written anew once per ¼ of its size; for that moment there are two files. When nothing waits it is cut
//!   to its first records after a second: what commands have said does not stay on the disk.
//! - Mode 0600, no symbolic link, no other user's file; one writer, by `flock` on the state folder. A file of another
//!   machine (a clone) is emptied and counted.
//!
//! # Why an own file
//! | | crates | memory at rest | 200 records of 2 KiB | when emptied |
//! |---|---|---|---|---|
//! | redb 4.6 | 2 | +0.7 MiB (0.3 of it anonymous) | 1.1 MiB, 1.5 ms a commit | stays at 1.1 MiB, with the old bytes |
//! | fjall 3.1 | 42 | not tried | | |
//! | sled 0.34 | 16 | not tried: its last release is a beta | | |
//! | this | 0 | 32 bytes an item, 256 KiB of frames at most | 0.4 MiB, one sync for all | two records, about 0.4 KiB |
//!
//! (crates: itself included, `cargo tree -e normal`; redb measured with a 64 KiB cache, release build at `opt-level = "s"`.)
//! A queue needs no search, no transaction over several keys and no second writer, which is what a store is
//! good at. The agent rests at 4.9 MiB of memory with a ceiling of 5, and a store cannot be asked to forget
//! an answer's bytes. What a store would give, being tried by others, is replaced by cutting the power at
//! every step in a test. Rejected too: SQLite (C code to build and audit), one file per item (an fsync of two for each,
//! and an order made of names).
//!
//! # Measured
//! What a reply of 2 KB pays for being kept, from the inbox to the lane, on a real file (ext4, two shared cores,
//! unoptimised build, five runs of 1,000 replies a few milliseconds apart, each read at once): 0.11-0.17 ms in
//! the median, 99 % within 2.2-6.5 ms, at most 5-14 ms and once 95: those came during a sync. The test
//! `the_hop_through_a_real_file_is_short` measures it.
//!
//! This module does not sign, parse or send a line, does not know when the host has read something, and
//! starts nothing by itself.

mod acks;
mod status;
mod job;
mod session_ids;
mod sink;
mod faulty_disk;
mod file;
mod task;
mod message;
mod recovery;
mod reader;
mod record;
mod scan;
mod eviction;
mod queue;
mod storage;
mod types;
mod write;

pub use acks::Acks;
pub use faulty_disk::{Faults, FaultyDisk};
pub use file::{ASIDE, File, NAME, Names, open};
pub use message::{DurableMessage, Kind};
pub use queue::Spool;
pub use scan::{Corruption, Entry, ITEMS_MAX, Scan, Session, body, scan};
pub use session_ids::SessionIds;
pub use sink::DurableSink;
pub use status::{SpoolStatus, Waiting};
pub use storage::Storage;
pub use task::{Machine, SYNC_WITHIN, SpoolTask};
pub use types::{
    CACHE_MAX, Losses, MEMORY_MAX, Opened, SIZE, SIZE_MAX, SIZE_MIN, Settings, State,
    TOMBSTONE_MAX, Tombstone,
};

pub(crate) use reader::{CHUNK, Reader};
pub(crate) use record::{HEAD, RawHead, read_raw, write_raw};
pub(crate) use status::{millis, time};
pub(crate) use storage::append_all;
