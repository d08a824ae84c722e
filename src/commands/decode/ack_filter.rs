//! Tells the port what the host says of itself: what it has read, what it understands, and that it wants a sign of
//! life. None of that goes further. Writes nothing.

use tokio::time::Instant;

use crate::commands::decode::HostMessage;
use crate::pipeline::{Output, Transform};
use crate::port::AckTracker;

/// Takes keep-alives, and what the host understands, out of the flow.
///
/// # Why here, and not where requests are handled
/// An answer makes room at the port. Behind a queue of requests that wait for that room it would never come. And the
/// echo of a request says how far the host has read, so it is the port that writes it.
#[derive(Debug)]
pub struct AckFilter {
    acks: AckTracker,
}

impl AckFilter {
    /// Tells `answers`.
    pub fn new(acks: AckTracker) -> Self {
        Self { acks }
    }
}

impl Transform for AckFilter {
    type In = HostMessage;
    type Out = HostMessage;

    fn apply(&mut self, _now: Instant, input: &HostMessage, out: &mut Output<HostMessage>) {
        match input {
            HostMessage::KeepAliveAnswered(number) => self.acks.on_ack(*number),
            HostMessage::KeepAlive(number) => self.acks.on_request(*number),
            HostMessage::Understands => self.acks.on_events_understood(),
            _ => return out.push(input.clone()),
        }
        out.drop_items("heard", 1);
    }
}
