//! A model of a virtio-serial port with both of its ends in one process: for tests and simulations under
//! paused time. It opens nothing and knows no line.
//!
//! It obeys what was seen of the real port: one opener; a read is 0 while no host is there and the same
//! device lives again when one comes; a read gives at most 4096 bytes and a write takes at most
//! 32 KiB, whole or not at all; the ring counts writes, not bytes; what is in flight is discarded when
//! the host leaves; unplugged is for ever; a write may return 0 with no change to follow.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Sleep;

use super::device::{Device, NotOpen, Opener, Received, Sent};
use super::inlet::CHUNK_BYTES_MAX;
use super::outbox::WRITE_BYTES_MAX;
use super::window::WINDOW_BYTES;

/// The guest's end: what a [`Port`](super::Port) opens.
#[derive(Debug, Clone)]
pub struct FakePort(Shared);

/// The host's end, and the hand of fate.
#[derive(Debug, Clone)]
pub struct FakeHost(Shared);

/// What one host got from its connect to its leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSession {
    /// Every byte it received.
    pub received: Vec<u8>,
    /// How much it had received each time the guest opened the port: it cannot see that itself.
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

/// A port that is plugged in, with nobody at either end and room for 128 writes.
pub fn pair() -> (FakePort, FakeHost) {
    let shared = Shared::default();
    (FakePort(shared.clone()), FakeHost(shared))
}

impl FakeHost {
    /// A host connects; it reads.
    pub fn connect(&self) {
        let mut state = self.0.lock();
        if !state.is_connected {
            state.is_connected = true;
            state.is_reading = true;
            state.sessions.push(HostSession::default());
        }
        state.change();
    }

    /// The host leaves: what is in flight is discarded, what it sent before is still read.
    pub fn leave(&self) {
        let mut state = self.0.lock();
        state.is_connected = false;
        state.discard_in_flight();
        state.change();
    }

    /// The host sends; it waits while nobody has the port open.
    pub fn send(&self, bytes: &[u8]) {
        let mut state = self.0.lock();
        state.to_guest.extend(bytes);
        state.change();
    }

    /// The host reads no more, and the ring fills.
    pub fn stop_reading(&self) {
        self.0.lock().is_reading = false;
    }

    /// The host reads what has piled up, and goes on reading.
    pub fn read_on(&self) {
        let mut state = self.0.lock();
        state.is_reading = true;
        state.deliver();
        state.change();
    }

    /// The port is taken out of the machine. Its host stays connected to the hypervisor.
    pub fn unplug(&self) {
        let mut state = self.0.lock();
        state.is_plugged = false;
        state.plug += 1;
        state.discard_in_flight();
        state.to_guest.clear();
        state.change();
    }

    /// The port is put in again.
    pub fn plug(&self) {
        self.0.lock().is_plugged = true;
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
        let mut state = self.0.lock();
        state.fails_once = true;
        state.change();
    }

    /// What each host got so far, the first one first.
    pub fn sessions(&self) -> Vec<HostSession> {
        self.0.lock().sessions.clone()
    }

    /// What the host that is or was there last got, beyond its first `offset` bytes.
    pub fn received_after(&self, offset: usize) -> Vec<u8> {
        let state = self.0.lock();
        let last = state.sessions.last();
        last.and_then(|last| last.received.get(offset..)).unwrap_or_default().to_vec()
    }

    /// Bytes that were accepted and never delivered.
    pub fn discarded(&self) -> u64 {
        self.0.lock().discarded
    }

    /// How often the guest tried what.
    pub fn tries(&self) -> Tries {
        self.0.lock().tries
    }
}

impl Opener for FakePort {
    fn name(&self) -> String {
        "fake".to_owned()
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Device>, NotOpen>> {
        let shared = self.0.clone();
        async move { open(shared).map(|device| Box::new(device) as Box<dyn Device>) }.boxed()
    }
}

/// Writes the ring takes before it is full.
const RING_WRITES: usize = 128;
/// As the real device's: how soon a write that returned 0 is tried again.
const ZERO_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    is_plugged: bool,
    /// Counts the times it was taken out: a device of another plug is gone.
    plug: u64,
    is_held: bool,
    is_open: bool,
    is_connected: bool,
    is_reading: bool,
    fails_once: bool,
    zero_writes: u32,
    write_bytes_max: usize,
    ring: VecDeque<Vec<u8>>,
    to_guest: VecDeque<u8>,
    sessions: Vec<HostSession>,
    discarded: u64,
    has_changed: bool,
    waker: Option<Waker>,
    tries: Tries,
}

impl Default for State {
    fn default() -> Self {
        Self {
            is_plugged: true,
            plug: 0,
            is_held: false,
            is_open: false,
            is_connected: false,
            is_reading: true,
            fails_once: false,
            zero_writes: 0,
            write_bytes_max: WRITE_BYTES_MAX,
            ring: VecDeque::new(),
            to_guest: VecDeque::new(),
            sessions: Vec::new(),
            discarded: 0,
            has_changed: false,
            waker: None,
            tries: Tries::default(),
        }
    }
}

impl State {
    fn change(&mut self) {
        self.has_changed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn deliver(&mut self) {
        if let Some(session) = self.sessions.last_mut().filter(|_| self.is_reading) {
            self.ring.drain(..).for_each(|write| session.received.extend(write));
        }
    }

    fn discard_in_flight(&mut self) {
        self.discarded += self.ring.drain(..).map(|write| write.len() as u64).sum::<u64>();
    }
}

struct FakeDevice {
    shared: Shared,
    plug: u64,
    retry: Option<Pin<Box<Sleep>>>,
}

fn open(shared: Shared) -> Result<FakeDevice, NotOpen> {
    let mut state = shared.lock();
    state.tries.opens += 1;
    if !state.is_plugged {
        return Err(NotOpen::Absent("there is no port \"fake\" yet".to_owned()));
    }
    if state.is_held || state.is_open {
        return Err(NotOpen::Busy("another process holds port \"fake\"; only one may".to_owned()));
    }
    state.is_open = true;
    let received = state.sessions.last().map_or(0, |session| session.received.len());
    let in_flight: usize = state.ring.iter().map(Vec::len).sum();
    if let Some(session) = state.sessions.last_mut() {
        session.opened_at.push(received + in_flight);
    }
    let plug = state.plug;
    drop(state);
    Ok(FakeDevice { shared, plug, retry: None })
}

impl Drop for FakeDevice {
    fn drop(&mut self) {
        self.shared.lock().is_open = false;
    }
}

impl Device for FakeDevice {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        let mut state = self.shared.lock();
        state.tries.reads += 1;
        if state.plug != self.plug {
            return Ok(Received::Gone);
        }
        if std::mem::take(&mut state.fails_once) {
            return Err(io::Error::other("a fault without a name"));
        }
        let bytes = state.to_guest.len().min(into.len()).min(CHUNK_BYTES_MAX);
        if bytes > 0 {
            into.iter_mut().zip(state.to_guest.drain(..bytes)).for_each(|(to, byte)| *to = byte);
            return Ok(Received::Bytes(bytes));
        }
        Ok(if state.is_connected { Received::Idle } else { Received::Away })
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Sent> {
        let mut state = self.shared.lock();
        state.tries.writes += 1;
        if state.plug != self.plug {
            return Ok(Sent::Gone);
        }
        if !state.is_connected {
            return Ok(Sent::Away);
        }
        if state.zero_writes > 0 {
            state.zero_writes -= 1;
            self.retry = Some(Box::pin(tokio::time::sleep(ZERO_RETRY)));
            return Ok(Sent::Full);
        }
        if state.ring.len() >= RING_WRITES {
            return Ok(Sent::Full);
        }
        let bytes = from.len().min(state.write_bytes_max);
        state.ring.push_back(from[..bytes].to_vec());
        state.deliver();
        Ok(Sent::Took(bytes))
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.tries.waits += 1;
        if self.retry.as_mut().is_some_and(|retry| retry.as_mut().poll(cx).is_ready()) {
            self.retry = None;
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut state.has_changed) {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn window(&self) -> Option<usize> {
        Some(WINDOW_BYTES)
    }
}
