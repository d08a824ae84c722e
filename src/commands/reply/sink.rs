//! The sink of the command flow: durable messages go to the spool, the others to the reply channel of the port.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::commands::reply::OutboundFrame;
use crate::model::Frame;
use crate::pipeline::{Sink, StageError, StageStats};
use crate::spool::DurableMessage;

/// Hands durable messages to the spool and waits until it accepts them. Best-effort messages go to the reply channel of
/// the port, and are dropped as `full` when 64 of them wait.
///
/// # Why best-effort messages do not wait
/// They are echoes and requests that can be sent again. If the sink waited for them, a host that sends without reading
/// would block inbound messages too, among them the acknowledgement that makes room.
#[derive(Debug)]
pub struct ReplySink {
    port: String,
    replies: mpsc::Sender<Frame>,
    durable: Option<mpsc::Sender<DurableMessage>>,
    node: Arc<StageStats>,
}

impl ReplySink {
    /// Writes to the channels of `port`. Without `durable`, every message is best-effort.
    pub fn new(
        port: String,
        replies: mpsc::Sender<Frame>,
        durable: Option<mpsc::Sender<DurableMessage>>,
        node: Arc<StageStats>,
    ) -> Self {
        Self { port, replies, durable, node }
    }
}

impl Sink for ReplySink {
    type In = OutboundFrame;

    fn name(&self) -> String {
        "port".to_owned()
    }

    fn detail(&self) -> String {
        let how =
            if self.durable.is_some() { "kept until acknowledged" } else { "to this host only" };
        format!("{}, before metrics, {how}", self.port)
    }

    async fn write(&mut self, outbound: &OutboundFrame) -> Result<(), StageError> {
        let gone = || StageError::outside("the port has ended");
        let frame = outbound.frame.clone();
        if let (Some(kind), Some(durable)) = (outbound.durable, &self.durable) {
            return durable
                .send(DurableMessage { frame, kind, request: outbound.request })
                .await
                .map_err(|_| gone());
        }
        match self.replies.try_send(frame) {
            Err(mpsc::error::TrySendError::Closed(_)) => Err(gone()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.node.received(1);
                self.node.dropped("full", 1);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
