//! The source of the command flow: the bytes that the port reads.
//!
//! The inbound channel belongs to the port and outlives the flows that read it one after the other. [`SharedInbound`] is
//! that channel with the partial line that one flow leaves to the next; a [`ReadLease`] is the right to read it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use futures::Stream;
use futures::future::poll_fn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::pipeline::{Source, StageError};
use crate::port::Inbound;
use crate::sync::IgnorePoison;
use crate::wire::{LINE_BYTES_MAX, Lines};

/// The inbound channel of a port and its partial line. Clones share it.
#[derive(Debug, Clone)]
pub struct SharedInbound {
    /// Locked for one poll.
    receiver: Arc<Mutex<mpsc::Receiver<Inbound>>>,
    /// Locked for one chunk.
    lines: Arc<Mutex<Lines>>,
    permit: Arc<Semaphore>,
}

/// The exclusive right of one flow to read, held from its first read until its source *and* its segment are dropped. By
/// then everything that it read has been cut into lines, and the next flow continues with the partial line.
#[derive(Debug, Clone)]
pub struct ReadLease {
    shared: SharedInbound,
    held: Arc<OnceLock<OwnedSemaphorePermit>>,
}

impl SharedInbound {
    /// Shares `receiver`.
    pub fn new(receiver: mpsc::Receiver<Inbound>) -> Self {
        Self {
            receiver: Arc::new(Mutex::new(receiver)),
            lines: Arc::new(Mutex::new(Lines::new(LINE_BYTES_MAX))),
            permit: Arc::new(Semaphore::new(1)),
        }
    }

    /// A lease for one flow. It can be acquired once all earlier leases are dropped.
    pub fn lease(&self) -> ReadLease {
        ReadLease { shared: self.clone(), held: Arc::default() }
    }
}

impl ReadLease {
    /// Waits for the right to read; returns at once if this lease has it.
    pub async fn acquire(&self) {
        if self.held.get().is_none()
            && let Ok(permit) = Arc::clone(&self.shared.permit).acquire_owned().await
        {
            // Only one source acquires, so the cell is empty.
            let _ = self.held.set(permit);
        }
    }

    /// The next bytes of the port; `None` when it has closed. Call it after [`acquire`](Self::acquire).
    pub async fn next(&self) -> Option<Inbound> {
        let receiver = &self.shared.receiver;
        poll_fn(|cx| receiver.lock().ignore_poison().poll_recv(cx)).await
    }

    /// The partial line.
    pub(super) fn lines(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().ignore_poison()
    }
}

/// The inbound channel of a port as a source. It ends when the port closes.
pub struct Receive {
    port: String,
    lease: ReadLease,
}

impl Receive {
    /// Reads `port` once `lease` is acquired.
    pub fn new(port: String, lease: ReadLease) -> Self {
        Self { port, lease }
    }
}

impl Source for Receive {
    type Out = Inbound;

    fn detail(&self) -> String {
        self.port.clone()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Inbound, StageError>> + Send + '_ {
        async_stream::stream! {
            self.lease.acquire().await;
            while let Some(inbound) = self.lease.next().await {
                yield Ok(inbound);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{FutureExt, StreamExt};
    use tokio::time::Instant;

    use super::*;
    use crate::commands::receive::line_framer::Frame;
    use crate::pipeline::{Output, Transform};

    #[tokio::test]
    async fn the_next_flow_reads_when_the_one_before_has_cut_its_last_chunk_and_ends_its_line() {
        let (port, receiver) = mpsc::channel(4);
        let intake = SharedInbound::new(receiver);
        let (first, second) = (intake.lease(), intake.lease());
        let mut source = Receive::new("p".to_owned(), first.clone());
        let mut segment = Frame::of(first, 100);
        for chunk in ["one\ntw", "o\n"] {
            port.send(Inbound::Bytes(Bytes::from(chunk))).await.unwrap();
        }
        let chunk = std::pin::pin!(source.open()).next().await.unwrap().unwrap();
        drop(source);
        let mut next = Receive::new("p".to_owned(), second.clone());
        let mut reads = std::pin::pin!(next.open());
        assert!(reads.next().now_or_never().is_none(), "a chunk is on its way to the lines");
        let mut out = Output::default();
        segment.apply(Instant::now(), &chunk, &mut out);
        assert_eq!(out.drain().map(|line| line.0).collect::<Vec<_>>(), ["one"]);
        drop(segment);
        let chunk = reads.next().await.unwrap().unwrap();
        Frame::of(second, 100).apply(Instant::now(), &chunk, &mut out);
        assert_eq!(out.drain().map(|line| line.0).collect::<Vec<_>>(), ["two"]);
    }

    #[tokio::test]
    async fn a_flow_that_never_had_its_turn_holds_nobody_up() {
        let (port, receiver) = mpsc::channel(4);
        let intake = SharedInbound::new(receiver);
        let mut first = Receive::new("p".to_owned(), intake.lease());
        let mut never = Receive::new("p".to_owned(), intake.lease());
        let mut last = Receive::new("p".to_owned(), intake.lease());
        {
            let mut reads = std::pin::pin!(first.open());
            assert!(reads.next().now_or_never().is_none());
            assert!(std::pin::pin!(never.open()).next().now_or_never().is_none());
        }
        drop((first, never));
        port.send(Inbound::Reset).await.unwrap();
        assert_eq!(std::pin::pin!(last.open()).next().await.unwrap().unwrap(), Inbound::Reset);
    }
}
