//! Takes acknowledgements, keep-alives and the capabilities of the host out of the flow, and passes them to the port.

use tokio::time::Instant;

use crate::commands::request::HostMessage;
use crate::pipeline::{Output, Transform};
use crate::port::AckTracker;

/// Takes keep-alives and capabilities out of the flow.
///
/// # Why here, and not where requests are handled
/// An acknowledgement makes room at the port; behind a queue of requests that wait for that room it would never arrive.
/// And the reply to a keep-alive carries the state of the port, so the port writes it.
#[derive(Debug)]
pub struct AckFilter {
    acks: AckTracker,
}

impl AckFilter {
    /// Passes them to `answers`.
    pub fn new(acks: AckTracker) -> Self {
        Self { acks }
    }
}

impl Transform for AckFilter {
    type In = HostMessage;
    type Out = HostMessage;

    fn apply(&mut self, _now: Instant, input: &HostMessage, out: &mut Output<HostMessage>) {
        match input {
            HostMessage::KeepAliveAnswered(answer) => {
                self.acks.on_ack(answer.number, answer.connection);
            }
            HostMessage::KeepAlive(number) => self.acks.on_request(*number),
            HostMessage::Understands => self.acks.on_events_understood(),
            _ => return out.push(input.clone()),
        }
        out.discard_items("heard", 1);
    }
}
