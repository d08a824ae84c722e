//! Where the command flow begins: what the port reads, as a stream. Does not look into it.
//!
//! The lane belongs to the port and outlives the flows that read it, one after the other: an [`SharedInbound`] is
//! that lane, with the half line that one flow leaves to the next, and a [`ReadLease`] is the right to read it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use futures::Stream;
use futures::future::poll_fn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::pipeline::{Source, StageError};
use crate::port::Inbound;
use crate::sync::IgnorePoison;
use crate::wire::{LINE_BYTES_MAX, Lines};

/// The inbound lane of a port and what is begun of a line. A copy is the same lane.
#[derive(Debug, Clone)]
pub struct SharedInbound {
    /// Locked for one poll.
    lane: Arc<Mutex<mpsc::Receiver<Inbound>>>,
    /// Locked for one chunk.
    lines: Arc<Mutex<Lines>>,
    turn: Arc<Semaphore>,
}

/// The right of one flow to read, from its first read until its source *and* its segment are gone: then
/// everything that it read has been cut into lines, and what is left of one is where the next flow begins.
#[derive(Debug, Clone)]
pub struct ReadLease {
    intake: SharedInbound,
    held: Arc<OnceLock<OwnedSemaphorePermit>>,
}

impl SharedInbound {
    /// Reads `lane`.
    pub fn new(lane: mpsc::Receiver<Inbound>) -> Self {
        Self {
            lane: Arc::new(Mutex::new(lane)),
            lines: Arc::new(Mutex::new(Lines::new(LINE_BYTES_MAX))),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// A turn for one flow, which begins when those that were begun before are over.
    pub fn turn(&self) -> ReadLease {
        ReadLease { intake: self.clone(), held: Arc::default() }
    }
}

impl ReadLease {
    /// Waits for the turn; at once where it is ours already.
    pub async fn begin(&self) {
        if self.held.get().is_none()
            && let Ok(permit) = Arc::clone(&self.intake.turn).acquire_owned().await
        {
            // Only one source asks, so there is none in it.
            let _ = self.held.set(permit);
        }
    }

    /// What the port reads next, once the turn has begun; `None` when the port has closed.
    pub async fn next(&self) -> Option<Inbound> {
        let lane = &self.intake.lane;
        poll_fn(|cx| lane.lock().ignore_poison().poll_recv(cx)).await
    }

    /// What is begun of a line.
    pub(super) fn lines(&self) -> MutexGuard<'_, Lines> {
        self.intake.lines.lock().ignore_poison()
    }
}

/// The inbound lane of a port as a source. It ends when the port closes.
pub struct Receive {
    port: String,
    turn: ReadLease,
}

impl Receive {
    /// What `port` reads, once it is its turn.
    pub fn new(port: String, turn: ReadLease) -> Self {
        Self { port, turn }
    }
}

impl Source for Receive {
    type Out = Inbound;

    fn detail(&self) -> String {
        self.port.clone()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Inbound, StageError>> + Send + '_ {
        async_stream::stream! {
            self.turn.begin().await;
            while let Some(inbound) = self.turn.next().await {
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
        let (port, lane) = mpsc::channel(4);
        let intake = SharedInbound::new(lane);
        let (first, second) = (intake.turn(), intake.turn());
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
        let (port, lane) = mpsc::channel(4);
        let intake = SharedInbound::new(lane);
        let mut first = Receive::new("p".to_owned(), intake.turn());
        let mut never = Receive::new("p".to_owned(), intake.turn());
        let mut last = Receive::new("p".to_owned(), intake.turn());
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
