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
//! [`Received::Away`]: super::Received::Away
//! [`Sent::Away`]: super::Sent::Away

mod driver;
mod guest;
mod host;
mod hypervisor;
pub mod script;
mod socket;

use std::sync::{Arc, Mutex, MutexGuard};

use driver::Driver;

use crate::sync::IgnorePoison;
pub use hypervisor::RING_BUFFERS;
pub use socket::{BUFFER_BYTES, cost};

/// The guest's end: what a [`Port`](super::Port) opens.
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
        self.0.lock().ignore_poison()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::script::{Op, play, random};
    use super::*;

    async fn observed(port: &(ModelPort, ModelHost), script: &str) -> Vec<String> {
        let ops: Vec<Op> = script.split(", ").map(|op| op.parse().unwrap()).collect();
        let lines = play(&ops, port.0.clone(), &port.1).await;
        lines
            .iter()
            .map(|line| line.split_once(": ").map_or("", |(_, observed)| observed).into())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_writes_are_in_flight_as_were_measured_on_a_real_port() {
        for (bytes, writes) in [(200, 295), (4_096, 172), (32_768, 135)] {
            let lines = observed(&pair(), &format!("open, connect, write {bytes} 400, poll")).await;
            let taken = bytes * writes;
            assert_eq!(lines[2], format!("{writes} writes, {taken} bytes, then full"));
            assert_eq!(lines[3], "", "neither to be read nor to be written");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_host_that_leaves_a_full_port_costs_a_buffer_until_nothing_can_be_written() {
        let port = pair();
        for lost in 1..=RING_BUFFERS {
            observed(&port, "open, connect, write 4096 400, leave").await;
            assert_eq!(port.1.leaked(), lost);
        }
        let lines =
            observed(&port, "open, connect, write 1 1, poll, unplug, plug, open, write 1 1, poll");
        let lines = lines.await;
        assert_eq!(lines[2..4], ["0 writes, 0 bytes, then full", ""]);
        assert_eq!(lines[7..9], ["0 writes, 0 bytes, then full", "out"], "a re-plug heals nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_leaves_little_unread_costs_nothing() {
        let port = pair();
        for _ in 0..1_000 {
            observed(&port, "open, connect, write 32768 2, leave").await;
        }
        assert_eq!((port.1.leaked(), port.1.discarded()), (0, 1_000 * 65_536));
    }

    #[tokio::test(start_paused = true)]
    async fn a_migration_keeps_the_descriptor_and_every_buffer() {
        let (mut guest, host) = pair();
        host.connect();
        host.stop_reading();
        let mut device = super::super::Opener::open(&mut guest).await.unwrap();
        while let super::super::Sent::Took(_) = device.write(&[0; 4096]).unwrap() {}
        host.migrate();
        assert_eq!(device.write(b"x").unwrap(), super::super::Sent::Away);
        host.connect();
        host.read_on();
        assert_eq!(device.write(b"x").unwrap(), super::super::Sent::Took(1));
        assert_eq!((host.leaked(), host.sessions()[1].received.as_slice()), (0, &b"x"[..]));
    }

    proptest! {
        // A script writes megabytes.
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn a_random_script_is_the_same_for_its_seed_and_no_byte_is_unaccounted_for(seed: u64) {
            let script = random(seed, 60);
            prop_assert_eq!(&script, &random(seed, 60));
            for op in &script {
                prop_assert_eq!(op.to_string().parse::<Op>(), Ok(*op));
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            let (guest, host) = pair();
            let lines = runtime.block_on(play(&script, guest, &host));
            let written: u64 = lines
                .iter()
                .filter_map(|line| line.split_once(" writes, ")?.1.split(' ').next()?.parse::<u64>().ok())
                .sum();
            let received: usize = host.sessions().iter().map(|host| host.received.len()).sum();
            let rest = host.discarded() + host.in_flight() as u64 + received as u64;
            prop_assert_eq!(written, rest, "written = received + discarded + in flight");
            prop_assert!(host.leaked() <= RING_BUFFERS);
        }
    }
}
