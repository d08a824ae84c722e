//! The guest kernel's half of the port (`drivers/char/virtio_console.c`, Linux 6.1), with fault injection.

use std::task::Waker;

use super::hypervisor::Hypervisor;
use super::{HostSession, Tries};
use infiniservice::internals::port::WRITE_BYTES_MAX;
use infiniservice::internals::port::{HostPresence, Received, Sent};

/// The whole state of the model, under one lock.
#[derive(Debug)]
pub(super) struct Driver {
    pub qemu: Hypervisor,
    /// The number of unplugs: a descriptor from before is gone.
    pub plug: u64,
    /// Whether the port is open.
    pub is_open: bool,
    /// The ring is marked as full, and no buffer has been taken back since.
    is_full: bool,

    /// The host reads whatever comes.
    pub is_reading: bool,
    pub sessions: Vec<HostSession>,
    pub discarded: u64,

    pub is_held: bool,
    pub fails_once: bool,
    pub zero_writes: u32,
    pub write_bytes_max: usize,

    pub has_changed: bool,
    pub waker: Option<Waker>,
    pub tries: Tries,
}

/// The result of a write, with one more case than [`Sent`].
pub(super) enum Wrote {
    Sent(Sent),
    /// The write returned 0, and no readiness change need follow.
    Zero,
}

impl Driver {
    pub(super) fn new(buffer_bytes: usize) -> Self {
        Self {
            qemu: Hypervisor::new(buffer_bytes),
            plug: 0,
            is_open: false,
            is_full: false,
            is_reading: true,
            sessions: Vec::new(),
            discarded: 0,
            is_held: false,
            fails_once: false,
            zero_writes: 0,
            write_bytes_max: WRITE_BYTES_MAX,
            has_changed: false,
            waker: None,
            tries: Tries::default(),
        }
    }

    /// A process of the guest opens the port (`port_fops_open`). What the host sent before flows now.
    pub(super) fn open(&mut self) {
        let at = self.sessions.last().map_or(0, |session| session.received.len());
        let in_flight = self.qemu.in_flight();
        if let Some(session) = self.sessions.last_mut().filter(|_| self.qemu.has_host()) {
            session.opened_at.push(at + in_flight);
        }
        (self.is_open, self.qemu.guest_open) = (true, true);
        self.reclaim();
        self.flush();
    }

    /// The process closes the port (`port_fops_release`): unread bytes are dropped; written bytes go on their way.
    pub(super) fn close(&mut self) {
        (self.is_open, self.qemu.guest_open) = (false, false);
        self.qemu.inbox.clear();
        self.reclaim();
    }

    /// `port_fops_read`: one buffer at most, and what was sent before the host left still comes.
    pub(super) fn read(&mut self, into: &mut [u8]) -> Received {
        let Some(chunk) = self.qemu.inbox.front_mut() else {
            return if self.qemu.shows_host() { Received::Idle } else { Received::Away };
        };
        let bytes = chunk.len().min(into.len());
        into[..bytes].copy_from_slice(&chunk[..bytes]);
        chunk.drain(..bytes);
        if chunk.is_empty() {
            self.qemu.inbox.pop_front();
            self.qemu.flush();
        }
        Received::Bytes(bytes)
    }

    /// `port_fops_write`: whole up to 32 KiB, or not at all.
    pub(super) fn write(&mut self, from: &[u8]) -> Wrote {
        if !self.qemu.shows_host() {
            return Wrote::Sent(Sent::Away);
        }
        if self.zero_writes > 0 {
            self.zero_writes -= 1;
            return Wrote::Zero;
        }
        self.reclaim();
        if self.is_full {
            return Wrote::Sent(Sent::Full);
        }
        match self.qemu.free() {
            // Full, but not marked as full: a re-plug forgets that.
            0 => return Wrote::Zero,
            1 => self.is_full = true,
            _ => {}
        }
        let bytes = from.len().min(self.write_bytes_max);
        self.qemu.put(from[..bytes].to_vec());
        self.flush();
        Wrote::Sent(Sent::Took(bytes))
    }

    /// `port_fops_poll`.
    pub(super) fn level(&mut self, plug: u64) -> HostPresence {
        if plug != self.plug {
            return HostPresence { readable: false, writable: false, hung_up: true };
        }
        let hung_up = !self.qemu.shows_host();
        self.reclaim();
        HostPresence {
            readable: hung_up || !self.qemu.inbox.is_empty(),
            writable: !hung_up && !self.is_full,
            hung_up,
        }
    }

    /// The port is unplugged. A new one forgets that the ring was marked full, not that it is.
    pub(super) fn unplug(&mut self) {
        if self.qemu.is_plugged {
            self.discarded += self.qemu.unplug() as u64;
            self.plug += 1;
            self.is_open = false;
        }
        self.reclaim();
        self.is_full = false;
        self.change();
    }

    /// Takes back buffers that the hypervisor has processed (`reclaim_consumed_buffers`).
    pub(super) fn reclaim(&mut self) {
        if self.qemu.reclaim() > 0 {
            self.is_full = false;
        }
    }

    /// Moves what can be moved, both ways.
    pub(super) fn flush(&mut self) {
        self.qemu.flush();
        self.deliver();
    }

    /// Delivers bytes to a host that reads.
    pub(super) fn deliver(&mut self) {
        if let Some(session) = self.sessions.last_mut().filter(|_| self.is_reading) {
            self.qemu.take(usize::MAX, &mut session.received);
        }
    }

    /// Wakes waiting tasks.
    pub(super) fn change(&mut self) {
        self.has_changed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
