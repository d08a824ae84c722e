//! Tells the port what the host says of itself: what it has read, what it understands, and that it wants a sign of
//! life. None of that goes further. Writes nothing.

use tokio::time::Instant;

use super::decode::Asked;
use crate::pipeline::{Emit, Transform};
use crate::port::Answers;

/// Takes keep-alives, and what the host understands, out of the flow.
///
/// # Why here, and not where requests are handled
/// An answer makes room at the port. Behind a queue of requests that wait for that room it would never come. And the
/// echo of a request says how far the host has read, so it is the port that writes it.
#[derive(Debug)]
pub struct Hear {
    answers: Answers,
}

impl Hear {
    /// Tells `answers`.
    pub fn new(answers: Answers) -> Self {
        Self { answers }
    }
}

impl Transform for Hear {
    type In = Asked;
    type Out = Asked;

    fn apply(&mut self, _now: Instant, input: &Asked, out: &mut Emit<Asked>) {
        match input {
            Asked::KeepAliveAnswered(number) => self.answers.answered(*number),
            Asked::KeepAlive(number) => self.answers.requested(*number),
            Asked::Understands => self.answers.understood(),
            _ => return out.push(input.clone()),
        }
        out.lose("heard", 1);
    }
}
