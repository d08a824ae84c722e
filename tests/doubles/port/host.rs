//! The host's end of the model, with the controls of the machine.

use super::{HostSession, ModelHost, Tries};
use infiniservice::internals::port::WRITE_BYTES_MAX;

impl ModelHost {
    /// A host connects and reads everything. Does nothing if one is connected.
    pub fn connect(&self) {
        let mut driver = self.0.lock();
        if !driver.qemu.has_host() && driver.qemu.connect() {
            driver.is_reading = true;
            driver.sessions.push(HostSession::default());
            driver.deliver();
        }
        driver.change();
    }

    /// A second host connects: it is accepted, and served when the first one disconnects, possibly without a gap
    /// that the guest sees.
    pub fn connect_behind(&self) {
        let mut driver = self.0.lock();
        if driver.qemu.connect() {
            driver.is_reading = true;
            driver.sessions.push(HostSession::default());
            driver.change();
        }
    }

    /// The host disconnects: bytes in flight are discarded; bytes that it sent and the guest's kernel has are still
    /// read. If the port was throttled, it loses a buffer for good: see [`leaked`](Self::leaked).
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

    /// The host sends. The bytes wait while the port is closed, and are lost if the host disconnects before it is
    /// opened.
    pub fn send(&self, bytes: &[u8]) {
        let mut driver = self.0.lock();
        driver.qemu.send(bytes);
        driver.change();
    }

    /// The host stops reading: its socket fills, then the ring.
    pub fn stop_reading(&self) {
        self.0.lock().is_reading = false;
    }

    /// The host reads everything that has accumulated, and goes on reading.
    pub fn read_on(&self) {
        let mut driver = self.0.lock();
        driver.is_reading = true;
        driver.deliver();
        driver.change();
    }

    /// A host that has stopped reading reads at most `max` bytes. Returns them.
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

    /// The machine is stopped: bytes from the host wait, and the guest never sees that a host disconnects
    /// meanwhile; what is stuck then stays so until the next one disconnects. The guest must not run until
    /// [`cont`](Self::cont).
    pub fn stop(&self) {
        self.0.lock().qemu.stop();
    }

    /// The machine continues.
    pub fn cont(&self) {
        let mut driver = self.0.lock();
        driver.qemu.cont();
        driver.flush();
        driver.change();
    }

    /// The machine migrates to another hypervisor, where no host is connected: the descriptor survives.
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

    /// A write accepts at most `bytes` from now on, as on a stream.
    pub fn take_at_most(&self, bytes: usize) {
        self.0.lock().write_bytes_max = bytes.clamp(1, WRITE_BYTES_MAX);
    }

    /// The next `times` writes return 0.
    pub fn write_zero(&self, times: u32) {
        self.0.lock().zero_writes = times;
    }

    /// The next read fails with an error that is no state of the port.
    pub fn fail_once(&self) {
        let mut driver = self.0.lock();
        driver.fails_once = true;
        driver.change();
    }

    /// Whether a host is served.
    pub fn is_connected(&self) -> bool {
        self.0.lock().qemu.has_host()
    }

    /// What each host received so far, the first host first.
    pub fn sessions(&self) -> Vec<HostSession> {
        self.0.lock().sessions.clone()
    }

    /// What the current or last host received after its first `offset` bytes.
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

    /// Buffers of the ring that are never given back; at [`RING_BUFFERS`](super::RING_BUFFERS) the guest cannot
    /// write any more.
    pub fn leaked(&self) -> usize {
        self.0.lock().qemu.leaked()
    }

    /// The guest's tries.
    pub fn tries(&self) -> Tries {
        self.0.lock().tries
    }
}
