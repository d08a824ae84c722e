//! The inbound channel: bytes from the host, in chunks, for the command flow.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::counters::{Counters, add};

/// Capacity of the inbound channel. When it is full, the device is not read, and the host sees a full port.
pub(crate) const CHUNKS_KEPT: usize = 16;
/// The longest chunk: what the driver returns at once.
pub const CHUNK_BYTES_MAX: usize = 4096;

/// An item of the inbound channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// Bytes, in order. A chunk may end anywhere.
    Bytes(Bytes),
    /// The host disconnected: discard an unfinished line.
    Reset,
}

/// The port's end of the inbound channel.
pub(super) struct InboundSender {
    channel: Option<PollSender<Inbound>>,
    /// A permit for one item is reserved.
    reserved: bool,
    /// Bytes were sent since the last [`Inbound::Reset`].
    is_line_open: bool,
    reset_due: bool,
    unwanted_logged: bool,
    counters: Arc<Counters>,
}

impl InboundSender {
    /// Without a channel: bytes from the host are dropped and counted.
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let (channel, reserved, is_line_open, reset_due, unwanted_logged) =
            (None, false, false, false, false);
        Self { channel, reserved, is_line_open, reset_due, unwanted_logged, counters }
    }

    /// Opens the channel. Call it once: a second call orphans the first receiver.
    pub(super) fn open(&mut self) -> mpsc::Receiver<Inbound> {
        let (sender, receiver) = mpsc::channel(CHUNKS_KEPT);
        self.channel = Some(PollSender::new(sender));
        self.reserved = false;
        receiver
    }

    /// Ends the channel, and so the command flow behind it.
    pub(super) fn close(&mut self) {
        self.channel = None;
    }

    /// Whether the channel takes a chunk now; if not, the task is woken when it does.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(channel) = &mut self.channel {
            if !self.reserved {
                match channel.poll_reserve(cx) {
                    Poll::Ready(Ok(())) => self.reserved = true,
                    Poll::Ready(Err(_)) => self.close(),
                    Poll::Pending => return false,
                }
            } else if self.reset_due {
                self.send(Inbound::Reset);
                self.reset_due = false;
            } else {
                return true;
            }
        }
        true
    }

    /// Sends a chunk. Call it only after [`is_ready`](Self::is_ready).
    pub(super) fn push(&mut self, port: &str, chunk: &[u8]) {
        add(&self.counters.bytes_in, chunk.len() as u64);
        if self.channel.is_some() {
            self.is_line_open = true;
            self.send(Inbound::Bytes(Bytes::copy_from_slice(chunk)));
            return;
        }
        add(&self.counters.bytes_in_unwanted, chunk.len() as u64);
        if !std::mem::replace(&mut self.unwanted_logged, true) {
            tracing::info!(%port, "the host sends messages and no command flow reads them: they are dropped and counted");
        }
    }

    /// The host disconnected: an unfinished line is discarded.
    pub(super) fn host_left(&mut self) {
        self.reset_due |= std::mem::take(&mut self.is_line_open);
        if self.reset_due && self.reserved {
            self.send(Inbound::Reset);
            self.reset_due = false;
        }
    }

    fn send(&mut self, item: Inbound) {
        self.reserved = false;
        if let Some(channel) = &mut self.channel
            && channel.send_item(item).is_err()
        {
            self.close();
        }
    }
}
