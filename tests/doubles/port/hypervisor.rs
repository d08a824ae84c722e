//! QEMU's half of the port: the ring of the guest's writes, the host's connection, and throttling.
//!
//! Facts: `hw/char/virtio-serial-bus.c` and `hw/char/virtio-console.c` of QEMU 7.2, confirmed by experiment.

use std::collections::VecDeque;

use super::socket::Socket;
use infiniservice::internals::port::CHUNK_BYTES_MAX;

/// Buffers of a port's ring, each way.
pub const RING_BUFFERS: usize = 128;

#[derive(Debug)]
pub(super) struct Hypervisor {
    /// Whether the port's device is in the machine.
    pub is_plugged: bool,
    /// Whether the guest has opened the port.
    pub guest_open: bool,
    /// Whether the machine is stopped. Then the port ignores its host (`virtconsole_enable_backend`): no bytes
    /// enter the guest's buffers, and the guest is never notified of a disconnect. What the guest has written goes
    /// on to the host.
    is_stopped: bool,
    /// Whether the guest was notified that a host is connected.
    host_shown: bool,
    host: Option<Connection>,
    /// Hosts that wait behind the first: accepted by the kernel, not served.
    waiting: usize,
    buffer_bytes: usize,
    /// Writes of the guest that are not processed.
    ring: VecDeque<Vec<u8>>,
    /// The write that did not fit into the socket. It still occupies its buffer.
    in_hand: Option<Vec<u8>>,
    /// The socket whose writability was awaited is gone: nothing moves until a host disconnects.
    is_stuck: bool,
    /// Buffers that the guest may take back.
    returned: usize,
    /// Buffers that are never given back.
    leaked: usize,
    /// Chunks for the guest that it has not read, each in a buffer of its own.
    pub inbox: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Connection {
    to_host: Socket,
    to_guest: Socket,
}

impl Hypervisor {
    /// A plugged port without a guest process and a host.
    pub(super) fn new(buffer_bytes: usize) -> Self {
        Self {
            is_plugged: true,
            guest_open: false,
            is_stopped: false,
            host_shown: false,
            host: None,
            waiting: 0,
            buffer_bytes,
            ring: VecDeque::new(),
            in_hand: None,
            is_stuck: false,
            returned: 0,
            leaked: 0,
            inbox: VecDeque::new(),
        }
    }

    /// Whether the guest sees a host.
    pub(super) fn shows_host(&self) -> bool {
        self.host_shown
    }

    /// Whether a host is there.
    pub(super) fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Buffers of the ring that the guest can put a write into.
    pub(super) fn free(&self) -> usize {
        let in_hand = usize::from(self.in_hand.is_some());
        RING_BUFFERS - self.ring.len() - in_hand - self.returned - self.leaked
    }

    /// Buffers that are lost for good.
    pub(super) fn leaked(&self) -> usize {
        self.leaked
    }

    /// Bytes the guest wrote that no host has received.
    pub(super) fn in_flight(&self) -> usize {
        let ring: usize = self.ring.iter().chain(&self.in_hand).map(Vec::len).sum();
        ring + self.host.as_ref().map_or(0, |host| host.to_host.len())
    }

    /// The guest takes back processed buffers. Returns how many.
    pub(super) fn reclaim(&mut self) -> usize {
        std::mem::take(&mut self.returned)
    }

    /// The guest puts a write into a free buffer.
    pub(super) fn put(&mut self, bytes: Vec<u8>) {
        self.ring.push_back(bytes);
    }

    /// Moves what can be moved, both ways.
    pub(super) fn flush(&mut self) {
        let Some(host) = &mut self.host else {
            // A host that left unnoticed: there is no socket to send to, and nothing to wait for (`tcp_chr_write`
            // fails).
            if self.host_shown && self.in_hand.is_none() {
                self.in_hand = self.ring.pop_front();
                self.is_stuck = self.in_hand.is_some();
            }
            return;
        };
        if self.is_plugged && !self.is_stuck {
            let wakes = host.to_host.wakes_writer();
            if let Some(write) = self.in_hand.take_if(|_| wakes) {
                self.ring.push_front(write);
            }
            while self.in_hand.is_none()
                && let Some(write) = self.ring.pop_front()
            {
                match host.to_host.send(write) {
                    Ok(()) => self.returned += 1,
                    Err(write) => self.in_hand = Some(write),
                }
            }
        }
        let takes = self.guest_open && self.is_plugged && !self.is_stopped;
        while takes && self.inbox.len() < RING_BUFFERS {
            let mut chunk = Vec::new();
            if host.to_guest.receive(CHUNK_BYTES_MAX, &mut chunk) == 0 {
                break;
            }
            self.inbox.push_back(chunk);
        }
    }

    /// The machine is stopped.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// The machine continues: the guest is notified of a host that is connected now, unless it was notified of an
    /// earlier one.
    pub(super) fn cont(&mut self) {
        self.is_stopped = false;
        self.host_shown |= self.is_plugged && self.host.is_some();
        self.flush();
    }

    /// A host connects. `false`: another one is connected, and this one waits behind it.
    pub(super) fn connect(&mut self) -> bool {
        if self.host.is_some() {
            self.waiting += 1;
            return false;
        }
        let socket = || Socket::new(self.buffer_bytes);
        self.host = Some(Connection { to_host: socket(), to_guest: socket() });
        self.host_shown |= self.is_plugged && !self.is_stopped;
        self.flush();
        true
    }

    /// The host disconnects. Returns the bytes that it has not received. A throttled write is dropped and its
    /// buffer never given back: `discard_throttle_data` detaches it and pushes nothing (the same in QEMU 10.0). A
    /// waiting host is served at once.
    pub(super) fn disconnect(&mut self) -> usize {
        let Some(mut host) = self.host.take() else { return 0 };
        let mut lost = host.to_host.clear();
        if self.is_stopped {
            self.is_stuck = self.in_hand.is_some();
        } else if self.is_plugged {
            lost += self.discard();
            self.host_shown = false;
        }
        if self.waiting > 0 {
            self.waiting -= 1;
            self.connect();
        }
        lost
    }

    /// The device is plugged in; the guest is notified of a connected host.
    pub(super) fn plug(&mut self) {
        if !self.is_plugged {
            (self.is_plugged, self.host_shown) = (true, self.host.is_some());
        }
    }

    /// The device is unplugged. The host stays connected and can read what is in its socket.
    pub(super) fn unplug(&mut self) -> usize {
        let lost = self.discard();
        (self.is_plugged, self.guest_open, self.host_shown) = (false, false, false);
        self.inbox.clear();
        lost
    }

    /// The machine migrates to another QEMU, where no host is connected. A throttled write migrates with it and is
    /// dropped there, and its buffer is given back.
    pub(super) fn migrate(&mut self) -> usize {
        let in_hand = self.in_hand.take();
        self.returned += usize::from(in_hand.is_some());
        let lost = in_hand.map_or(0, |write| write.len()) + self.discard();
        (self.host, self.waiting, self.host_shown, self.is_stuck) = (None, 0, false, false);
        lost
    }

    /// The host sends. A real one would wait when socket and ring are full; here the socket towards the guest is
    /// unbounded.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if let Some(host) = &mut self.host {
            for piece in bytes.chunks(32 * 1024) {
                // The size bounds what is accounted, and a host that waits sends the same bytes later.
                host.to_guest.put(piece.to_vec());
            }
        }
        self.flush();
    }

    /// The host reads at most `max` bytes, and what can move up behind them.
    pub(super) fn take(&mut self, max: usize, into: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        while let Some(host) = &mut self.host {
            let read = host.to_host.receive(max - taken, into);
            taken += read;
            self.flush();
            if read == 0 || taken == max {
                break;
            }
        }
        taken
    }

    /// Gives back every buffer but that of the throttled write. Returns the bytes dropped.
    fn discard(&mut self) -> usize {
        self.returned += self.ring.len();
        self.leaked += usize::from(self.in_hand.is_some());
        self.is_stuck = false;
        self.ring.drain(..).chain(self.in_hand.take()).map(|write| write.len()).sum()
    }
}
