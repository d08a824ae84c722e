//! The outcome of a request.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use crate::commands::process::{Exit, Finished, ProgramOutput};
use crate::wire::outbound::Response;

/// The outcome of one request; each request has exactly one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it succeeded.
    pub success: bool,
    /// Exit code of the program, if one ran; 124 after a timeout.
    pub exit_code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The result, as the host reads it.
    pub data: Option<Value>,
    /// Why it failed, as a sentence; present whenever `success` is false.
    pub error: Option<String>,
    /// How long it took.
    pub took: Duration,
    /// The size of the whole output, before truncation.
    pub output_size: OutputSize,
    /// When the request was received, if the host that sent it may still be connected.
    #[serde(skip)]
    pub requested_at: Option<Instant>,
    /// Whether nothing started, so that the host can safely send it again.
    pub refused: bool,
    /// The number of the request in the request log; 0 if it is not there.
    #[serde(skip)]
    pub request: u32,
}

/// How much a program wrote; an [`Outcome`] may keep less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputSize {
    /// On standard output, in bytes.
    pub stdout_bytes: u64,
    /// On standard error, in bytes.
    pub stderr_bytes: u64,
    /// Whether the outcome keeps less than that.
    pub truncated: bool,
}

impl Outcome {
    /// The answer on the wire to the command `id`.
    pub fn response<'o>(&'o self, id: &'o str, command_type: &'o str) -> Response<'o> {
        Response {
            id,
            command_type,
            success: self.success,
            exit_code: self.exit_code,
            stdout: &self.stdout,
            stderr: &self.stderr,
            data: self.data.as_ref(),
            error: self.error.as_deref(),
            took: self.took,
        }
    }

    /// Success, with a result.
    pub fn data(data: Value) -> Self {
        Self { success: true, data: Some(data), ..Self::default() }
    }

    /// Success, with text on standard output.
    pub fn text(stdout: impl Into<String>) -> Self {
        Self { success: true, stdout: stdout.into(), ..Self::default() }
    }

    /// Refused before anything started, with the reason.
    pub fn refused(error: impl Into<String>) -> Self {
        Self { refused: true, ..Self::failed(error) }
    }

    /// Appends remarks of the agent to standard error, where people read it; each is a sentence without a full stop.
    pub fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            if !self.stderr.is_empty() && !self.stderr.ends_with('\n') {
                self.stderr.push('\n');
            }
            self.stderr.push_str(&format!("infiniservice: {note}\n"));
        }
    }

    /// A program whose time was over, and whose end was not waited for: with its output until now.
    pub fn late(output: &ProgramOutput) -> Self {
        let error = "its time was over; some of what it had started had not ended yet when this was answered";
        Self { error: Some(error.to_owned()), ..output.finish(Exit::TimedOut).into() }
    }

    /// A program whose end is not known, with the reason, and its output as far as it came.
    pub fn lost(error: impl Into<String>, output: &ProgramOutput) -> Self {
        Self { error: Some(error.into()), ..output.finish(Exit::Cancelled).into() }
    }

    /// Failure, with the reason.
    pub fn failed(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

/// The outcome of a program; success is exit code 0.
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
        let output_size = OutputSize {
            stdout_bytes: finished.stdout.bytes,
            stderr_bytes: finished.stderr.bytes,
            truncated: finished.stdout.truncated || finished.stderr.truncated,
        };
        Self {
            success: error.is_none(),
            // When the agent stops, the program has no exit code of its own.
            exit_code: (finished.exit != Exit::Cancelled).then(|| finished.exit.code()),
            output_size,
            stdout: finished.stdout.text,
            stderr: finished.stderr.text,
            error,
            ..Self::default()
        }
    }
}
