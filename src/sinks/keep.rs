//! Frames that must be read by the host of a port. Keeps none itself, and does not know when one was read.

use tokio::sync::mpsc;

use crate::delivery::{Kind, Must};
use crate::model::Frame;
use crate::pipeline::{Fault, Sink};

/// Hands each frame of readings to whoever keeps it until the host has read it, and waits while that is busy.
#[derive(Debug)]
pub struct Keep {
    port: String,
    must: mpsc::Sender<Must>,
}

impl Keep {
    /// Into `must`, which belongs to `port`.
    pub fn new(port: String, must: mpsc::Sender<Must>) -> Self {
        Self { port, must }
    }
}

impl Sink for Keep {
    type In = Frame;

    fn name(&self) -> String {
        "port".to_owned()
    }

    fn detail(&self) -> String {
        format!("{}, kept until read", self.port)
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), Fault> {
        let must = Must { frame: frame.clone(), kind: Kind::Metrics, request: 0 };
        self.must.send(must).await.map_err(|_| Fault::outside("the port has ended"))
    }
}
