//! Frames that end in a lane of something that others share (a port). Knows not what is behind it.

use tokio::sync::mpsc;

use crate::model::Frame;
use crate::pipeline::{Fault, Sink};

/// Hands each frame to a lane, and waits while the lane is full.
#[derive(Debug)]
pub struct Lane {
    name: String,
    lane: mpsc::Sender<Frame>,
}

impl Lane {
    /// Into `lane`, which belongs to `name`.
    pub fn new(name: String, lane: mpsc::Sender<Frame>) -> Self {
        Self { name, lane }
    }
}

impl Sink for Lane {
    type In = Frame;

    fn name(&self) -> String {
        "port".to_owned()
    }

    fn detail(&self) -> String {
        format!("{}, ahead of metrics", self.name)
    }

    async fn write(&mut self, frame: &Frame) -> Result<(), Fault> {
        let gone = |_| Fault::outside("the port has ended");
        self.lane.send(frame.clone()).await.map_err(gone)
    }
}
