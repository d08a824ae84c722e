//! The end of the command flow: each frame into the lane of its class. Does not know what is behind them.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::commands::reply::Spoken;
use crate::model::Frame;
use crate::pipeline::{Sink, StageError, StageStats};
use crate::spool::DurableMessage;

/// Hands what must be read to whoever keeps it, and waits for that; what is for this host only goes to the
/// lane of replies, and is dropped, as `full`, where 64 of them wait.
///
/// # Why replies are dropped and not waited for
/// They are echoes and questions, which the host asks for again. If they were waited for, a host that asks and does
/// not read would close the way in, and with it the way of the answer that makes room.
#[derive(Debug)]
pub struct ReplySink {
    port: String,
    replies: mpsc::Sender<Frame>,
    must: Option<mpsc::Sender<DurableMessage>>,
    node: Arc<StageStats>,
}

impl ReplySink {
    /// To the lanes of `port`. Without a lane for what must be read, all is for this host only.
    pub fn new(
        port: String,
        replies: mpsc::Sender<Frame>,
        must: Option<mpsc::Sender<DurableMessage>>,
        node: Arc<StageStats>,
    ) -> Self {
        Self { port, replies, must, node }
    }
}

impl Sink for ReplySink {
    type In = Spoken;

    fn name(&self) -> String {
        "port".to_owned()
    }

    fn detail(&self) -> String {
        let how = if self.must.is_some() { "kept until read" } else { "to this host only" };
        format!("{}, ahead of metrics, {how}", self.port)
    }

    async fn write(&mut self, spoken: &Spoken) -> Result<(), StageError> {
        let gone = || StageError::outside("the port has ended");
        let frame = spoken.frame.clone();
        if let (Some(kind), Some(must)) = (spoken.must, &self.must) {
            return must
                .send(DurableMessage { frame, kind, request: spoken.request })
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
