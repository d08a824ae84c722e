//! QEMU's half of the port: the ring it takes writes from, the host's connection, and when it stops
//! taking. Knows no guest's process.
//!
//! Facts: `hw/char/virtio-serial-bus.c` and `hw/char/virtio-console.c` of QEMU 7.2, and seen.

use std::collections::VecDeque;

use super::socket::Socket;
use crate::port::CHUNK_BYTES_MAX;

/// Buffers of a port's ring, each way.
pub const RING_BUFFERS: usize = 128;

#[derive(Debug)]
pub(super) struct Hypervisor {
    /// Whether the port's device is in the machine.
    pub is_plugged: bool,
    /// Whether the guest has said that the port is open.
    pub guest_open: bool,
    /// Whether the machine stands still. Then the port hears nothing of its host
    /// (`virtconsole_enable_backend`): nothing is put into the guest's buffers, and that a host left is
    /// never told. What the guest has written goes on to the host.
    is_stopped: bool,
    /// What the guest was told: whether a host is there.
    told: bool,
    host: Option<Connection>,
    /// Hosts that connected behind the first: accepted by the kernel, not served.
    waiting: usize,
    buffer_bytes: usize,
    /// Writes of the guest that were not looked at.
    ring: VecDeque<Vec<u8>>,
    /// The write that did not fit into the socket. Its buffer is still taken.
    in_hand: Option<Vec<u8>>,
    /// The socket that was to say when there is room is gone, unheard: nothing moves until a host leaves.
    is_stuck: bool,
    /// Buffers the guest may take back.
    returned: usize,
    /// Buffers nobody will ever give back.
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
    /// A port that is plugged in, with nobody at either end.
    pub(super) fn new(buffer_bytes: usize) -> Self {
        Self {
            is_plugged: true,
            guest_open: false,
            is_stopped: false,
            told: false,
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

    /// Whether the guest takes a host to be there.
    pub(super) fn is_told_of_host(&self) -> bool {
        self.told
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

    /// The guest takes back what was done with; tells how many buffers that were.
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
            // One that left unheard: nobody to send to, and nothing to wait for (`tcp_chr_write` fails).
            if self.told && self.in_hand.is_none() {
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

    /// The machine stands still.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
    }

    /// It goes on: a host that is there now is told of, and nothing where the guest was told of another
    /// one before.
    pub(super) fn cont(&mut self) {
        self.is_stopped = false;
        self.told |= self.is_plugged && self.host.is_some();
        self.flush();
    }

    /// A host connects. `false` where one is there already: then it waits behind it.
    pub(super) fn connect(&mut self) -> bool {
        if self.host.is_some() {
            self.waiting += 1;
            return false;
        }
        let socket = || Socket::new(self.buffer_bytes);
        self.host = Some(Connection { to_host: socket(), to_guest: socket() });
        self.told |= self.is_plugged && !self.is_stopped;
        self.flush();
        true
    }

    /// The host leaves; tells how many bytes of the guest it has not got. A write in hand is dropped and
    /// its buffer never given back: `discard_throttle_data` detaches it and pushes nothing
    /// (the same in QEMU 10.0). Whoever waited is served at once.
    pub(super) fn disconnect(&mut self) -> usize {
        let Some(mut host) = self.host.take() else { return 0 };
        let mut lost = host.to_host.clear();
        if self.is_stopped {
            self.is_stuck = self.in_hand.is_some();
        } else if self.is_plugged {
            lost += self.discard();
            self.told = false;
        }
        if self.waiting > 0 {
            self.waiting -= 1;
            self.connect();
        }
        lost
    }

    /// The device is put in; whoever is connected is told of.
    pub(super) fn plug(&mut self) {
        if !self.is_plugged {
            (self.is_plugged, self.told) = (true, self.host.is_some());
        }
    }

    /// The device is taken out. The host stays connected and can read what is in its socket.
    pub(super) fn unplug(&mut self) -> usize {
        let lost = self.discard();
        (self.is_plugged, self.guest_open, self.told) = (false, false, false);
        self.inbox.clear();
        lost
    }

    /// The machine moves to another QEMU, where nobody is connected. A write in hand is moved with it and
    /// dropped there, and its buffer is given back.
    pub(super) fn migrate(&mut self) -> usize {
        let in_hand = self.in_hand.take();
        self.returned += usize::from(in_hand.is_some());
        let lost = in_hand.map_or(0, |write| write.len()) + self.discard();
        (self.host, self.waiting, self.told, self.is_stuck) = (None, 0, false, false);
        lost
    }

    /// The host sends. Beyond what socket and ring hold a real one would have to wait; here the socket
    /// towards the guest has no end.
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

    /// Gives back every buffer but the one in hand; tells how many bytes were dropped.
    fn discard(&mut self) -> usize {
        self.returned += self.ring.len();
        self.leaked += usize::from(self.in_hand.is_some());
        self.is_stuck = false;
        self.ring.drain(..).chain(self.in_hand.take()).map(|write| write.len()).sum()
    }
}
