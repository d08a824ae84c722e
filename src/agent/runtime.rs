//! The async runtime, built from the settings.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::agent::resources::{self, LimitError};
use crate::config::{self, RuntimeKind};

/// Threads for blocking reads: one per collector that is out at the same time, and then some. More
/// work than that waits.
const BLOCKING_MAX: usize = 32;

/// How long an idle blocking thread stays: long enough for readings a second apart.
const BLOCKING_IDLE: Duration = Duration::from_millis(1_500);

/// Threads without which the agent does not run: one for the log, and two to read and to write.
const BLOCKING_MIN: usize = 3;

/// Builds the runtime that the settings ask for: `current_thread` runs every task on the calling
/// thread; `multi_thread` has one worker per processor unless the settings say how many.
///
/// # Errors
/// The system does not give what it needs. Checked beforehand, because the runtime would panic.
pub(crate) fn build(settings: &config::Runtime) -> Result<Runtime, LimitError> {
    let workers = match (settings.kind, settings.worker_threads) {
        (RuntimeKind::CurrentThread, _) => 0,
        (RuntimeKind::MultiThread, Some(threads)) => threads.items(),
        (RuntimeKind::MultiThread, None) => {
            std::thread::available_parallelism().map_or(1, usize::from)
        }
    };
    resources::suffice(BLOCKING_MIN + workers)?;
    let mut builder = match settings.kind {
        RuntimeKind::CurrentThread => Builder::new_current_thread(),
        RuntimeKind::MultiThread => Builder::new_multi_thread(),
    };
    if let Some(threads) = settings.worker_threads {
        builder.worker_threads(threads.items());
    }
    builder
        .thread_name(&settings.thread_name)
        .max_blocking_threads(BLOCKING_MAX)
        .thread_keep_alive(BLOCKING_IDLE)
        .enable_all()
        .build()
        .map_err(LimitError::Runtime)
}
