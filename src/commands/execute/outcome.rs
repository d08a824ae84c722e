//! What came of a request. Does not know how it is spelled on the wire.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::commands::process::{Exit, Finished};

/// What came of one request: exactly one of these for each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Whether it was done.
    pub success: bool,
    /// Exit code of the program, where one ran; 124 when its time was over.
    pub exit_code: Option<i32>,
    /// What the program said.
    pub stdout: String,
    /// What the program complained of.
    pub stderr: String,
    /// The result, in the shape the host reads.
    pub data: Option<Value>,
    /// Why it was not done, as a sentence; there whenever `success` is false.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// What the program said in all, on both streams, where one ran.
    pub said: Said,
    /// When the host asked for it, where one did that may still be there.
    pub asked: Option<Instant>,
    /// Whether nothing of it was begun, and nothing of it is lost where it is asked for again.
    pub refused: bool,
    /// The request that it is the outcome of, as the request log numbers them; 0 where it is in none.
    pub request: u32,
}

/// How much a program said, of which an [`Outcome`] may keep less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// On standard output, in bytes.
    pub stdout_bytes: u64,
    /// On standard error, in bytes.
    pub stderr_bytes: u64,
    /// Whether something was cut.
    pub truncated: bool,
}

impl Outcome {
    /// Done, with a result.
    pub fn data(data: Value) -> Self {
        Self { success: true, data: Some(data), ..Self::default() }
    }

    /// Done, with something to say.
    pub fn said(stdout: impl Into<String>) -> Self {
        Self { success: true, stdout: stdout.into(), ..Self::default() }
    }

    /// Not begun, and why.
    pub fn refused(error: impl Into<String>) -> Self {
        Self { refused: true, ..Self::failed(error) }
    }

    /// Adds what the agent has to say of it, each a sentence without a full stop, behind what the program
    /// complained of, where people read it.
    pub fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            if !self.stderr.is_empty() && !self.stderr.ends_with('\n') {
                self.stderr.push('\n');
            }
            self.stderr.push_str(&format!("infiniservice: {note}\n"));
        }
    }

    /// Not done, and why.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

/// Exit code of what ran out of time, as `timeout(1)` has it.
pub const EXIT_TIMEOUT: i32 = 124;

/// What a program did is what came of the request; success is exit code 0.
impl From<Finished> for Outcome {
    fn from(finished: Finished) -> Self {
        let error = match finished.exit {
            Exit::Code(0) => None,
            Exit::Code(code) => Some(format!("it ended with exit code {code}")),
            Exit::Signal(signal) => Some(format!("it was ended by signal {signal}")),
            Exit::TimedOut => {
                Some("its time was over; it was ended with everything it had started".to_owned())
            }
            Exit::Cancelled => {
                Some("the agent stops; it was ended with everything it had started".to_owned())
            }
        };
        let said = Said {
            stdout_bytes: finished.stdout.bytes,
            stderr_bytes: finished.stderr.bytes,
            truncated: finished.stdout.truncated || finished.stderr.truncated,
        };
        Self {
            success: error.is_none(),
            // Where the agent stops, the program did not come to a code of its own.
            exit_code: (finished.exit != Exit::Cancelled).then(|| finished.exit.code()),
            said,
            stdout: finished.stdout.text,
            stderr: finished.stderr.text,
            error,
            ..Self::default()
        }
    }
}
