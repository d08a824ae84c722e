//! Frames that must be read by the host of a port. Keeps none itself, and does not know when one was read.

use tokio::sync::mpsc;

use super::{DurableMessage, Kind};
use crate::model::Frame;
use crate::pipeline::{Sink, StageError};

/// Hands each frame of readings to whoever keeps it until the host has read it, and waits while that is busy.
#[derive(Debug)]
pub struct DurableSink {
    port: String,
    must: mpsc::Sender<DurableMessage>,
}

impl DurableSink {
    /// Into `must`, which belongs to `port`.
    pub fn new(port: String, must: mpsc::Sender<DurableMessage>) -> Self {
        Self { port, must }
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
        let must = DurableMessage { frame: frame.clone(), kind: Kind::Metrics, request: 0 };
        self.must.send(must).await.map_err(|_| StageError::outside("the port has ended"))
    }
}
