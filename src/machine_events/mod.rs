//! The life of a virtual machine: it is suspended, stopped, migrated, restored, copied, and its clock is
//! set. This finds out, tells the host the gap, and says when what is queued is another life's. It drops
//! nothing itself, sets no clock and moves no deadline.
//!
//! # What is seen, and how soon
//! | what | seen by | when |
//! |---|---|---|
//! | suspend to memory or disk, from inside | BOOTTIME against MONOTONIC | at the resume |
//! | the clock is set | REALTIME against BOOTTIME | at once |
//! | the host stops the machine, or migrates it slowly | the battery-backed clock, which is the host's | within two minutes, from 3 s on |
//! | a snapshot is restored | the kernel's event of a new generation; its id; the battery-backed clock | at once (Linux 6.8, with a vmgenid device); within two minutes |
//! | a copy is started | [`identity()`] against the one that was written down | at the start of the agent |
//! | nothing ran, though the clock did | a look that was long due | after it, if it was due meanwhile |
//!
//! Seen on a real kernel (Linux 6.1 in QEMU 7.2, emulated, `cargo run --example life`): the clock set an hour
//! forward and back, reported at once; 20 s of suspend to memory, reported as 20.7 s; 15 s between `stop` and `cont`, reported as
//! 15 s, all other clocks having stood still; a state saved and restored in another QEMU with a new generation id,
//! reported as a snapshot that stood still for the 64 s between, by the id (`qemu_fw_cfg` was loaded) and the
//! battery-backed clock.
//!
//! # What cannot be seen from inside
//! - While a host stops a machine (`stop` and `cont` in QMP), all clocks that the guest keeps by itself may
//!   stand still: kvm-clock is put back to where it was, and under emulation there is no other. Then nothing
//!   of BOOTTIME, MONOTONIC and REALTIME tells. With the processor's own counter as clock they all go on, and
//!   only a look that was due meanwhile tells. Deadlines go with the clocks: where those stand still, a command
//!   with a minute left still has it after an hour; where they go on, its time is over.
//! - The battery-backed clock goes on with the host's, unless QEMU was told otherwise (`-rtc clock=vm`) or there
//!   is none.
//! - Of a live migration nothing is seen but a pause of three seconds or more.
//! - A snapshot that is restored without a vmgenid device is a stop like any other, of the time since it
//!   was taken.
//! - The host's signed messages tell too: a stamp that lies ahead by the gap. `verify` has it in hand; it is not
//!   used here, because an agent without a secret has none, and a gap is then reported twice.
//!
//! # Why rates and time-outs need nothing from here
//! They all count by MONOTONIC, which no one can set and which does not count a suspend: what counters
//! counted, they counted while it ran too. So a reading that straddles a suspend has the rate of the time in
//! which the machine ran; a cadence finds no missed ticks, and merges those that it does find.
//!
//! This module has no settings: its thresholds are facts of the clocks it reads ([`STEP`], [`STOP`],
//! [`STALL`]), and the price of looking is fixed ([`INTERVAL`]).

mod detect;
mod identity;
mod linux;
mod watcher;

pub(crate) use identity::is_same_machine;
use std::path::Path;
pub(crate) use watcher::INTERVAL;
pub use watcher::MachineEvents;

/// An opaque word for this machine, the same after every reboot: for the head of whatever is kept on its
/// disk for the host. `root` is `/`, but for a test. Reads files: not for an async worker.
///
/// Compare it with [`is_same_machine`], which knows that a part may be unknown.
///
/// | changes with | `machine-id` | `product_uuid` | generation id | boot id |
/// |---|---|---|---|---|
/// | a reboot | no | no | with QEMU's `guid=auto` | yes |
/// | a copy of the disk in another machine | only where it was emptied first | yes | yes | yes |
/// | a copy made with the host's own tool | only where it was emptied first | yes | yes | yes |
/// | a snapshot restored, disk and memory | no | no | yes | no |
/// | a copy of the running machine, with its memory | no | no, it was read at boot | yes | no |
///
/// So it is made of the first two. The boot id must not be in it, nor the generation's id, or a
/// queue would not survive a plain restart, for which it is kept; a new generation is
/// told while the agent runs ([`MachineEvents::restored_or_cloned`]). A snapshot of a machine that was off takes its queue back
/// with its disk, and nothing tells: what is in it may reach the host a second time.
///
/// Only digests of them are in it (SHA-256 with a purpose, 128 bits), so it may be shown.
pub(crate) fn identity(root: &Path) -> String {
    linux::identity_of(root)
}
