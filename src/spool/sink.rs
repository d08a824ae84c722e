//! The sink of a durable port: hands frames to the spool.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{DurableMessage, MessageKind, SpoolStatus};
use crate::model::Frame;
use crate::pipeline::{Sink, StageError};

/// Sends each frame to the spool task, which stores it until the host acknowledges it, and waits while that is busy.
///
/// A frame of readings evicts an older one where the spool is full. A frame with a [receipt](crate::model::Receipt)
/// came from a source that can wait: it is sent while less than half of the spool is taken and no other message is on
/// its way there, and the spool acknowledges it once it is on disk. What still waits when the flow is stopped is not
/// sent: its source reads it again, if it keeps a position.
#[derive(Debug)]
pub struct DurableSink {
    port: String,
    inbox: mpsc::Sender<DurableMessage>,
    status: SpoolStatus,
    stop: CancellationToken,
    /// A frame was not sent; the ones after it are not, either.
    has_skipped: bool,
}

impl DurableSink {
    /// A sink into the inbox of the spool of `port`, which has this status. After `stop` it waits no longer for room.
    pub fn new(
        port: String,
        inbox: mpsc::Sender<DurableMessage>,
        status: SpoolStatus,
        stop: &CancellationToken,
    ) -> Self {
        Self { port, inbox, status, stop: stop.clone(), has_skipped: false }
    }

    /// Waits for room for a frame of records. `false`: there is none, and the flow is stopped.
    async fn has_room(&mut self) -> bool {
        // The status is that of the last job of the spool task, which takes all that is in the inbox.
        let is_alone = || self.inbox.capacity() == self.inbox.max_capacity();
        let room = self.status.half_free(is_alone);
        let has_room = tokio::select! {
            biased;
            () = room => true,
            () = self.stop.cancelled() => false,
        };
        if !has_room && !std::mem::replace(&mut self.has_skipped, true) {
            let port = &self.port;
            tracing::info!(%port, "the spool is half full: the records that wait for it stay at their sources");
        }
        has_room
    }
}

impl Sink for DurableSink {
    type In = Frame;

    fn name(&self) -> String {
        "port".to_owned()
    }

    fn detail(&self) -> String {
        format!("{}, kept until acknowledged", self.port)
    }

    fn hands_on(&self) -> bool {
        true
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        if frame.receipt.is_awaited() && (self.has_skipped || !self.has_room().await) {
            return Ok(());
        }
        let message =
            DurableMessage { frame: frame.clone(), kind: MessageKind::Metrics, request: 0 };
        self.inbox.send(message).await.map_err(|_| StageError::outside("the port has ended"))
    }
}
