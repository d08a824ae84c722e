//! Where the command flow begins: what the port reads, as a stream. Does not look into it.

use futures::{Stream, stream};
use tokio::sync::mpsc;

use crate::pipeline::{Fault, Source};
use crate::port::Inbound;

/// The inbound lane of a port as a source. It ends when the port closes.
pub struct Receive {
    port: String,
    lane: mpsc::Receiver<Inbound>,
}

impl Receive {
    /// What `port` reads comes out of `lane`.
    pub fn new(port: String, lane: mpsc::Receiver<Inbound>) -> Self {
        Self { port, lane }
    }
}

impl Source for Receive {
    type Out = Inbound;

    fn detail(&self) -> String {
        self.port.clone()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Inbound, Fault>> + Send + '_ {
        stream::poll_fn(|cx| self.lane.poll_recv(cx).map(|inbound| inbound.map(Ok)))
    }
}
