//! Why a line is not in the audit.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::sinks::io_reason;

/// Why a line was not written to the audit, as the end of a sentence.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The file could not be opened or written. All lines that waited for it have this error.
    #[error("the audit file {path:?} cannot be written: {}", io_reason(error))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: Arc<io::Error>,
    },
    /// It was not written in this time; it may still be.
    #[error("the audit file {path:?} takes longer than {patience:?}")]
    Late {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// So many lines wait already, or the agent has no runtime any more.
    #[error("{waiting} lines are waiting for the audit file {path:?}")]
    Full {
        /// The file.
        path: PathBuf,
        /// The most that may wait.
        waiting: usize,
    },
    /// The agent ended before it was written.
    #[error("the agent stops")]
    Stopping,
}
