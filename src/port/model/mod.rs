//! A model of a virtio-serial port with both of its ends in one process: for tests and simulations under
//! paused time. It opens nothing, draws no random number, and knows no line.
//!
//! | situation | read | write | poll |
//! |---|---|---|---|
//! | no host | 0 ([`Received::Away`]) | `EAGAIN` ([`Sent::Away`]) | in, hang-up |
//! | host there, nothing said | `EAGAIN` | whole, at most 32 KiB | out |
//! | host there, does not read | | into its socket, then into the ring, then `EAGAIN` | nothing |
//! | host has left | what it said first, then 0 | `EAGAIN` | in, hang-up |
//! | taken out | `ENODEV` | `ENODEV` | hang-up |
//! | ring used up and forgotten to be | | 0, and no change follows | out |
//!
//! One process at a time; a read gives at most 4096 bytes; the ring counts writes, not bytes; what is in
//! flight is discarded when the host leaves, and a host that leaves while the port is throttled costs it a
//! buffer for ever. Each fact stands where it is modelled: `socket` (what the host's kernel holds),
//! `hypervisor` (QEMU's half), `driver` (the guest kernel's half). [`script`] runs the same
//! operations here and on a real port; the VM tests hold one against the other.
//!
//! [`Received::Away`]: super::Received::Away
//! [`Sent::Away`]: super::Sent::Away

mod driver;
mod guest;
mod host;
mod hypervisor;
pub mod script;
mod socket;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driver::Driver;
pub use hypervisor::RING_BUFFERS;
pub use socket::{BUFFER_BYTES, cost};

/// The guest's end: what a [`Port`](super::Port) opens.
#[derive(Debug, Clone)]
pub struct ModelPort(Shared);

/// The host's end, and the hand of fate.
#[derive(Debug, Clone)]
pub struct ModelHost(Shared);

/// What one host got from its connect to its leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSession {
    /// Every byte it received.
    pub received: Vec<u8>,
    /// How much it will have received of what was written before, each time the guest opened the port:
    /// it cannot see that itself.
    pub opened_at: Vec<usize>,
}

/// How often the guest tried what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Opens, also those that failed.
    pub opens: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Waits for a change.
    pub waits: u64,
}

/// A port that is plugged in, with nobody at either end, and hosts with Linux's own buffers.
pub fn pair() -> (ModelPort, ModelHost) {
    pair_with_buffer(BUFFER_BYTES)
}

/// The same with hosts whose sockets hold `bytes` of [`cost`]; with 1 they hold one write, and the ring is
/// all there is.
pub fn pair_with_buffer(bytes: usize) -> (ModelPort, ModelHost) {
    let shared = Shared(Arc::new(Mutex::new(Driver::new(bytes))));
    (ModelPort(shared.clone()), ModelHost(shared))
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Driver>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Driver> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
