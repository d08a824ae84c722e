//! The sink of a durable port: hands frames to the spool.

use tokio::sync::mpsc;

use super::{DurableMessage, Kind};
use crate::model::Frame;
use crate::pipeline::{Sink, StageError};

/// Sends each frame of readings to the spool task, which stores it until the host acknowledges it, and waits while
/// that is busy.
#[derive(Debug)]
pub struct DurableSink {
    port: String,
    inbox: mpsc::Sender<DurableMessage>,
}

impl DurableSink {
    /// A sink into the inbox of the spool of `port`.
    pub fn new(port: String, inbox: mpsc::Sender<DurableMessage>) -> Self {
        Self { port, inbox }
    }
}

impl Sink for DurableSink {
    type In = Frame;

    fn name(&self) -> String {
        "port".to_owned()
    }

    fn detail(&self) -> String {
        format!("{}, kept until read", self.port)
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        let message = DurableMessage { frame: frame.clone(), kind: Kind::Metrics, request: 0 };
        self.inbox.send(message).await.map_err(|_| StageError::outside("the port has ended"))
    }
}
