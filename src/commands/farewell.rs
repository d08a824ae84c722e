//! The last to listen at a port: when the command flow has ended, and the port still says what there is to
//! say, somebody must hear how far the host has read. Looks into nothing.

use std::time::Duration;

use futures::Stream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::receive::Turn;
use crate::pipeline::{Fault, Source};
use crate::port::Inbound;

/// How long after the stop of its flow a port that closes does.
const BOTH_WITHIN: Duration = Duration::from_millis(100);

/// The inbound lane of a port as a source, from the end of the command flow to that of the port.
///
/// # Why not that flow itself
/// The port ends when everything is said, and the flow says its last when it ends: if it ended with the port,
/// each would wait for the other.
pub struct Farewell {
    turn: Turn,
    stop: CancellationToken,
    closing: CancellationToken,
}

impl Farewell {
    /// What the port reads in `turn`, which comes after that of the flow: once `closing` closes the port. Where
    /// `stop` stops the flow and nothing closes, another flow takes its place, and this ends.
    pub fn new(turn: Turn, stop: CancellationToken, closing: CancellationToken) -> Self {
        Self { turn, stop, closing }
    }
}

impl Source for Farewell {
    type Out = Inbound;

    fn open(&mut self) -> impl Stream<Item = Result<Inbound, Fault>> + Send + '_ {
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
