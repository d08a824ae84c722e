//! A model of a virtio-serial port with both of its ends in one process: for tests and simulations under paused
//! time. It is deterministic: it draws no random number.
//!
//! | situation | read | write | poll |
//! |---|---|---|---|
//! | no host | 0 ([`Received::Away`]) | `EAGAIN` ([`Sent::Away`]) | in, hang-up |
//! | host connected, nothing sent | `EAGAIN` | whole, at most 32 KiB | out |
//! | host connected, does not read | | into its socket, then into the ring, then `EAGAIN` | nothing |
//! | host has disconnected | what it sent first, then 0 | `EAGAIN` | in, hang-up |
//! | unplugged | `ENODEV` | `ENODEV` | hang-up |
//! | ring full and not marked as full | | 0, and no change follows | out |
//!
//! One process has the port open at a time; a read returns at most 4096 bytes; the ring counts writes, not bytes.
//! Bytes in flight are discarded when the host disconnects, and a host that disconnects while the port is throttled
//! costs it a buffer for good. The facts are where they are modelled: `socket` (the host's kernel), `hypervisor`
//! (QEMU's half), `driver` (the guest kernel's half). [`script`] runs the same operations here and on a real port;
//! the VM tests compare the two.
//!
//! [`Received::Away`]: infiniservice::internals::port::Received::Away
//! [`Sent::Away`]: infiniservice::internals::port::Sent::Away

mod driver;
mod guest;
mod host;
mod hypervisor;
pub mod script;
pub mod socket;

use std::sync::{Arc, Mutex, MutexGuard};

use driver::Driver;

pub use hypervisor::RING_BUFFERS;
pub use socket::{BUFFER_BYTES, cost};

/// The guest's end: what a [`Port`](infiniservice::internals::port::Port) opens.
#[derive(Debug, Clone)]
pub struct ModelPort(Shared);

/// The host's end, with the controls of the machine.
#[derive(Debug, Clone)]
pub struct ModelHost(Shared);

/// What one host received from its connect to its disconnect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSession {
    /// Every byte it received.
    pub received: Vec<u8>,
    /// How much it will have received of what was written before, each time the guest opened the port: a host
    /// cannot see an open.
    pub opened_at: Vec<usize>,
}

/// How often the guest tried each operation.
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

/// A plugged port without a guest process and a host; hosts have Linux's default buffers.
pub fn pair() -> (ModelPort, ModelHost) {
    pair_with_buffer(BUFFER_BYTES)
}

/// As [`pair`], with hosts whose sockets hold `bytes` of [`cost`]; with 1 they hold one write, and only the ring
/// buffers.
pub fn pair_with_buffer(bytes: usize) -> (ModelPort, ModelHost) {
    let shared = Shared(Arc::new(Mutex::new(Driver::new(bytes))));
    (ModelPort(shared.clone()), ModelHost(shared))
}

#[derive(Debug, Clone)]
struct Shared(Arc<Mutex<Driver>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Driver> {
        self.0.lock().unwrap()
    }
}
