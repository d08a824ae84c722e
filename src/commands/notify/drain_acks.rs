//! Reads acknowledgements between the end of the command flow and the end of its port, which still sends its last
//! messages.

use std::time::Duration;

use futures::Stream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::commands::decode::Decode;
use crate::commands::decode::ack_filter::AckFilter;
use crate::commands::receive::inbound::ReadLease;
use crate::commands::receive::line_framer::Frame;
use crate::commands::verify::Verify;
use crate::pipeline::{Context, Graph, Pipeline, Source, StageError, StatsRegistry};
use crate::port::{AckTracker, Inbound};

/// A closing port starts to close at most this long after its flow stops.
const BOTH_WITHIN: Duration = Duration::from_millis(100);

/// The inbound channel of a port as a source, from the end of the command flow to the end of the port.
///
/// # Why not the command flow itself
/// The port ends when everything is sent, and the flow sends its last replies when it ends: if the flow ended with the
/// port, each would wait for the other.
pub struct DrainAcks {
    lease: ReadLease,
    stop: CancellationToken,
    closing: CancellationToken,
}

impl DrainAcks {
    /// Reads with `lease`, which follows the lease of the flow, once `closing` closes the port. If `stop` stops the flow
    /// and the port does not close, another flow replaces it, and this source ends.
    pub fn new(lease: ReadLease, stop: CancellationToken, closing: CancellationToken) -> Self {
        Self { lease, stop, closing }
    }

    /// The flow to `answers`: lines of at most `max_line` bytes that pass `verify`. Requests are discarded, because they
    /// come too late.
    pub fn into_graph(
        self,
        max_line: usize,
        verify: Verify,
        answers: AckTracker,
        health: &StatsRegistry,
    ) -> Graph {
        let frame = Frame::of(self.lease.clone(), max_line);
        let never = CancellationToken::new(); // it ends with the port
        let (graph, _discarded) =
            Pipeline::from_sources(&Context::new("drain", health, &never), [self], 1)
                .then(frame)
                .then(verify)
                .then(Decode::default())
                .then(AckFilter::new(answers))
                .hand_to("nobody", String::new(), 1);
        graph
    }
}

impl Source for DrainAcks {
    type Out = Inbound;

    fn open(&mut self) -> impl Stream<Item = Result<Inbound, StageError>> + Send + '_ {
        async_stream::stream! {
            self.stop.cancelled().await;
            // When the agent stops, both happen, one after the other.
            if timeout(BOTH_WITHIN, self.closing.cancelled()).await.is_err() {
                return;
            }
            self.lease.acquire().await;
            while let Some(inbound) = self.lease.next().await {
                yield Ok(inbound);
            }
        }
    }
}
