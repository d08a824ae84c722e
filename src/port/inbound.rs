//! The inbound lane: what the host sent, in chunks, to whoever wants it. Does not know lines.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::counters::{Counters, add};

/// Chunks the inbound lane holds; when it is full the port is not read, and the host sees it full.
pub const CHUNKS_KEPT: usize = 16;
/// The most in one chunk: what the driver gives at once.
pub const CHUNK_BYTES_MAX: usize = 4096;

/// What comes in from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// Bytes, in order; a chunk ends anywhere.
    Bytes(Bytes),
    /// The host they came from has gone: half a line of it is worth nothing.
    Reset,
}

/// The port's end of the inbound lane.
pub(super) struct InboundSender {
    lane: Option<PollSender<Inbound>>,
    /// One place in the lane is ours.
    reserved: bool,
    /// Bytes went in since the last [`Inbound::Reset`].
    begun: bool,
    reset_due: bool,
    said_unwanted: bool,
    counters: Arc<Counters>,
}

impl InboundSender {
    /// Without a lane: what comes in is dropped and counted.
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let (lane, reserved, begun, reset_due, said_unwanted) = (None, false, false, false, false);
        Self { lane, reserved, begun, reset_due, said_unwanted, counters }
    }

    /// Opens the lane. A second call would orphan the first, so it is made once.
    pub(super) fn open(&mut self) -> mpsc::Receiver<Inbound> {
        let (sender, receiver) = mpsc::channel(CHUNKS_KEPT);
        self.lane = Some(PollSender::new(sender));
        self.reserved = false;
        receiver
    }

    /// Ends the lane: the flow behind it comes to its end.
    pub(super) fn close(&mut self) {
        self.lane = None;
    }

    /// Whether a chunk would be taken now; if not, the task is woken when it would be.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(lane) = &mut self.lane {
            if !self.reserved {
                match lane.poll_reserve(cx) {
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

    /// Takes a chunk, after [`is_ready`](Self::is_ready) said so.
    pub(super) fn give(&mut self, port: &str, chunk: &[u8]) {
        add(&self.counters.bytes_in, chunk.len() as u64);
        if self.lane.is_some() {
            self.begun = true;
            self.send(Inbound::Bytes(Bytes::copy_from_slice(chunk)));
            return;
        }
        add(&self.counters.bytes_in_unwanted, chunk.len() as u64);
        if !std::mem::replace(&mut self.said_unwanted, true) {
            tracing::info!(%port, "the host sends messages and no command flow reads them: they are dropped and counted");
        }
    }

    /// The host has gone: what it began to say is void.
    pub(super) fn host_left(&mut self) {
        self.reset_due |= std::mem::take(&mut self.begun);
        if self.reset_due && self.reserved {
            self.send(Inbound::Reset);
            self.reset_due = false;
        }
    }

    fn send(&mut self, item: Inbound) {
        self.reserved = false;
        if let Some(lane) = &mut self.lane
            && lane.send_item(item).is_err()
        {
            self.close();
        }
    }
}
