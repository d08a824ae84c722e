//! Tells the port what the host has read: answers to its barriers go no further. Knows no barrier itself.

use tokio::time::Instant;

use super::decode::Asked;
use crate::pipeline::{Emit, Transform};
use crate::port::Answers;

/// Takes the host's answers to keep-alives of our own out of the flow.
///
/// # Why here, and not where requests are handled
/// An answer makes room at the port. Behind a queue of requests that wait for that room it would never come.
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
            Asked::KeepAliveAnswered(number) => {
                self.answers.answered(*number);
                out.lose("heard", 1);
            }
            _ => out.push(input.clone()),
        }
    }
}
