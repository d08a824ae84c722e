//! The host's end of the model, and the hand of fate.

use super::{HostSession, ModelHost, Tries};
use crate::port::write_buffer::WRITE_BYTES_MAX;

impl ModelHost {
    /// A host connects; it reads whatever comes. Nothing where one is connected.
    pub fn connect(&self) {
        let mut driver = self.0.lock();
        if !driver.qemu.has_host() && driver.qemu.connect() {
            driver.is_reading = true;
            driver.sessions.push(HostSession::default());
            driver.deliver();
        }
        driver.change();
    }

    /// A host connects behind the one that is there: its connect succeeds, and it is served when that one
    /// leaves, without a gap that the guest must see.
    pub fn connect_behind(&self) {
        let mut driver = self.0.lock();
        if driver.qemu.connect() {
            driver.is_reading = true;
            driver.sessions.push(HostSession::default());
            driver.change();
        }
    }

    /// The host leaves: what is in flight is discarded, what it sent and the guest's kernel has is still
    /// read. Where the port was throttled it has one buffer less for ever: see [`leaked`](Self::leaked).
    pub fn leave(&self) {
        let mut driver = self.0.lock();
        driver.discarded += driver.qemu.disconnect() as u64;
        driver.reclaim();
        if driver.qemu.has_host() {
            driver.sessions.push(HostSession::default());
            driver.deliver();
        }
        driver.change();
    }

    /// The host sends; it waits while nobody has the port open, and is lost when the host leaves before.
    pub fn send(&self, bytes: &[u8]) {
        let mut driver = self.0.lock();
        driver.qemu.send(bytes);
        driver.change();
    }

    /// The host reads no more: its socket fills, then the ring.
    pub fn stop_reading(&self) {
        self.0.lock().is_reading = false;
    }

    /// The host reads what has piled up, and goes on reading.
    pub fn read_on(&self) {
        let mut driver = self.0.lock();
        driver.is_reading = true;
        driver.deliver();
        driver.change();
    }

    /// A host that has stopped reading reads at most so many bytes; gives them.
    pub fn take(&self, max: usize) -> Vec<u8> {
        let (mut driver, mut taken) = (self.0.lock(), Vec::new());
        driver.qemu.take(max, &mut taken);
        if let Some(session) = driver.sessions.last_mut() {
            session.received.extend_from_slice(&taken);
        }
        driver.change();
        taken
    }

    /// The port is taken out of the machine. Its host stays connected to the hypervisor.
    pub fn unplug(&self) {
        self.0.lock().unplug();
    }

    /// The port is put in again, with its ring as it was.
    pub fn plug(&self) {
        let mut driver = self.0.lock();
        driver.qemu.plug();
        driver.change();
    }

    /// The machine stands still: what the host sends waits, and the guest will never hear that a host has
    /// left meanwhile, nor be rid of what was stuck then before the next one leaves. Its process must not
    /// run until [`cont`](Self::cont).
    pub fn stop(&self) {
        self.0.lock().qemu.stop();
    }

    /// The machine goes on.
    pub fn cont(&self) {
        let mut driver = self.0.lock();
        driver.qemu.cont();
        driver.flush();
        driver.change();
    }

    /// The machine moves to another hypervisor, where nobody is connected: the descriptor survives.
    pub fn migrate(&self) {
        let mut driver = self.0.lock();
        driver.discarded += driver.qemu.migrate() as u64;
        driver.reclaim();
        driver.change();
    }

    /// Another process opens the port, or closes it.
    pub fn hold(&self, is_held: bool) {
        self.0.lock().is_held = is_held;
    }

    /// A write takes at most so many bytes from now on, as a stream's does.
    pub fn take_at_most(&self, bytes: usize) {
        self.0.lock().write_bytes_max = bytes.clamp(1, WRITE_BYTES_MAX);
    }

    /// The next so many writes return 0.
    pub fn write_zero(&self, times: u32) {
        self.0.lock().zero_writes = times;
    }

    /// The next read fails in a way that is none of the port's states.
    pub fn fail_once(&self) {
        let mut driver = self.0.lock();
        driver.fails_once = true;
        driver.change();
    }

    /// Whether a host is served.
    pub fn is_connected(&self) -> bool {
        self.0.lock().qemu.has_host()
    }

    /// What each host got so far, the first one first.
    pub fn sessions(&self) -> Vec<HostSession> {
        self.0.lock().sessions.clone()
    }

    /// What the host that is or was there last got, beyond its first `offset` bytes.
    pub fn received_after(&self, offset: usize) -> Vec<u8> {
        let driver = self.0.lock();
        let last = driver.sessions.last();
        last.and_then(|last| last.received.get(offset..)).unwrap_or_default().to_vec()
    }

    /// Bytes that were accepted and never delivered.
    pub fn discarded(&self) -> u64 {
        self.0.lock().discarded
    }

    /// Bytes that were accepted and are neither delivered nor discarded.
    pub fn in_flight(&self) -> usize {
        self.0.lock().qemu.in_flight()
    }

    /// Buffers of the ring that nobody will ever give back; at
    /// [`RING_BUFFERS`](super::RING_BUFFERS) the guest can write nothing any more.
    pub fn leaked(&self) -> usize {
        self.0.lock().qemu.leaked()
    }

    /// How often the guest tried what.
    pub fn tries(&self) -> Tries {
        self.0.lock().tries
    }
}
