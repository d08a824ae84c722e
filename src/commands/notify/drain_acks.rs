//! The last to listen at a port: when the command flow has ended, and the port still says what there is to
//! say, somebody must hear how far the host has read. Looks into nothing.

use std::time::Duration;

use futures::Stream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::commands::decode::Decode;
use crate::commands::decode::ack_filter::AckFilter;
use crate::commands::receive::inbound::ReadLease;
use crate::commands::receive::line_framer::Frame;
use crate::commands::verify::Verify;
use crate::pipeline::{Graph, Pipeline, Source, StageError, StatsRegistry};
use crate::port::{AckTracker, Inbound};

/// How long after the stop of its flow a port that closes does.
const BOTH_WITHIN: Duration = Duration::from_millis(100);

/// The inbound lane of a port as a source, from the end of the command flow to that of the port.
///
/// # Why not that flow itself
/// The port ends when everything is said, and the flow says its last when it ends: if it ended with the port,
/// each would wait for the other.
pub struct DrainAcks {
    turn: ReadLease,
    stop: CancellationToken,
    closing: CancellationToken,
}

impl DrainAcks {
    /// What the port reads in `turn`, which comes after that of the flow: once `closing` closes the port. Where
    /// `stop` stops the flow and nothing closes, another flow takes its place, and this ends.
    pub fn new(turn: ReadLease, stop: CancellationToken, closing: CancellationToken) -> Self {
        Self { turn, stop, closing }
    }

    /// The flow from here to `answers`: lines of at most `max_line` bytes that `verify` lets through. What the host
    /// asks for comes too late.
    pub fn hear(
        self,
        max_line: usize,
        verify: Verify,
        answers: AckTracker,
        health: &StatsRegistry,
    ) -> Graph {
        let frame = Frame::of(self.turn.clone(), max_line);
        let never = CancellationToken::new(); // it ends with the port
        let (graph, _nobody) = Pipeline::from_sources("farewell", [self], 1, health, &never)
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
            // The end of the agent is both, one after the other.
            if timeout(BOTH_WITHIN, self.closing.cancelled()).await.is_err() {
                return;
            }
            self.turn.begin().await;
            while let Some(inbound) = self.turn.next().await {
                yield Ok(inbound);
            }
        }
    }
}
