//! The model of the port with a tap on the guest's side of it: the only file that knows the model's interface.
//! Judges nothing: [`Known`](super::known::Known) does.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::doubles::port::{self as model, ModelHost, ModelPort};
use futures::FutureExt;
use futures::future::BoxFuture;
use infiniservice::internals::port::{Device, NotOpen, Opener, Received, Sent};
use tokio::sync::Notify;

use super::known::Shared;

/// Both ends of a port. `changed` fires whenever the guest has written.
pub fn pair(known: &Shared) -> (GuestEnd, HostEnd, Arc<Notify>) {
    let (port, host) = model::pair();
    let changed = Arc::new(Notify::new());
    let guest = GuestEnd { port, known: Arc::clone(known), changed: Arc::clone(&changed) };
    (guest, HostEnd { host, offset: 0, is_connected: false, splits: false }, changed)
}

/// The guest's end.
#[derive(Clone)]
pub struct GuestEnd {
    port: ModelPort,
    known: Shared,
    changed: Arc<Notify>,
}

impl Opener for GuestEnd {
    fn name(&self) -> String {
        "simulated".to_owned()
    }

    fn open(&mut self) -> BoxFuture<'_, Result<Box<dyn Device>, NotOpen>> {
        async move {
            let opened = self.port.open().await;
            let what = if opened.is_ok() { "opened" } else { "not opened" };
            let mut told = self.known.lock();
            told.note(what, 0, 0);
            told.begins_anew();
            told.is_open |= opened.is_ok();
            drop(told);
            let (known, changed) = (Arc::clone(&self.known), Arc::clone(&self.changed));
            opened.map(|device| Box::new(Tapped { device, known, changed }) as Box<dyn Device>)
        }
        .boxed()
    }
}

struct Tapped {
    device: Box<dyn Device>,
    known: Shared,
    changed: Arc<Notify>,
}

impl Drop for Tapped {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        known.begins_anew();
        known.is_open = false;
    }
}

impl Device for Tapped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        let received = self.device.read(into)?;
        if let Received::Bytes(_) = received {
            self.known.lock().moves += 1;
        }
        Ok(received)
    }

    fn write(&mut self, from: &[u8]) -> io::Result<Sent> {
        let sent = self.device.write(from)?;
        if let Sent::Took(bytes) = sent {
            self.known.lock().accepted(&from[..bytes], from.len());
            self.changed.notify_one();
        }
        Ok(sent)
    }

    fn poll_changed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.known.lock().looks() {
            return Poll::Ready(Err(io::Error::other("it spins")));
        }
        self.device.poll_changed(cx)
    }

    fn needs_newline(&self) -> bool {
        self.device.needs_newline()
    }

    fn window(&self) -> Option<usize> {
        self.device.window()
    }
}

/// The host's end, and the hand of fate.
pub struct HostEnd {
    host: ModelHost,
    /// How much of what came was taken.
    offset: usize,
    /// Whether a host is there.
    pub is_connected: bool,
    /// Writes were cut into smaller ones than a real port does, and each takes room.
    pub splits: bool,
}

impl HostEnd {
    /// A host comes and reads.
    pub fn connect(&mut self) {
        self.host.connect();
        (self.offset, self.is_connected) = (0, true);
    }

    /// The host leaves.
    pub fn leave(&mut self) {
        self.host.leave();
        self.is_connected = false;
    }

    /// The host goes and another one is there, before the guest can look.
    pub fn swap(&mut self) {
        self.leave();
        self.connect();
    }

    /// What came since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        let taken = self.host.received_after(self.offset);
        self.offset += taken.len();
        taken
    }

    /// Bytes that will still reach it, if it reads.
    pub fn underway(&self) -> usize {
        self.host.received_after(self.offset).len() + self.host.in_flight()
    }

    /// Buffers of the port that nobody will ever give back.
    pub fn leaked(&self) -> usize {
        self.host.leaked()
    }

    /// The host sends.
    pub fn send(&self, bytes: &[u8]) {
        self.host.send(bytes);
    }

    /// The host reads no more.
    pub fn stop_reading(&self) {
        self.host.stop_reading();
    }

    /// The host reads on.
    pub fn read_on(&self) {
        self.host.read_on();
    }

    /// The port is taken out of the machine.
    pub fn unplug(&self) {
        self.host.unplug();
    }

    /// The port is put in again.
    pub fn plug(&self) {
        self.host.plug();
    }

    /// Another process opens the port, or closes it.
    pub fn hold(&self, is_held: bool) {
        self.host.hold(is_held);
    }

    /// A write takes at most so many bytes.
    pub fn take_at_most(&mut self, bytes: usize) {
        self.splits |= bytes < 4_096;
        self.host.take_at_most(bytes);
    }

    /// The next so many writes return 0.
    pub fn write_zero(&self, times: u32) {
        self.host.write_zero(times);
    }

    /// The next read fails.
    pub fn fail_once(&self) {
        self.host.fail_once();
    }
}
