//! Why nothing could be measured.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::agent::AgentError;

/// Why nothing could be measured. Its text says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum BenchError {
    /// The file writes nowhere.
    #[error("the file has no [write]")]
    NoOutput,
    /// The real outputs are wanted, and there are several.
    #[error(
        "bench writes to one real output; leave one [write] in the file, or --real-outputs out"
    )]
    SeveralOutputs,
    /// The input has no line.
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    /// The input cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A temporary file or folder cannot be made.
    #[error("cannot make {}: {error} (TMPDIR names another place)", path.display())]
    Make {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What stands in for an output cannot listen.
    #[error("cannot listen for bench: {0}")]
    Listen(io::Error),
    /// A plain loop over the input has failed.
    #[error("cannot run a plain loop: {0}")]
    Loop(io::Error),
    /// The kernel gives no random bytes for a name.
    #[error(transparent)]
    Random(io::Error),
    /// The flow cannot be built.
    #[error(transparent)]
    Flow(#[from] AgentError),
}
