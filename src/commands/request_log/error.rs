//! Why the request log is not on the disk.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::task::JoinError;

use super::PATIENCE;
use crate::sinks::io_reason;

/// Why something is not in the request log on the disk: the end of a sentence.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The log is in memory only.
    #[error(transparent)]
    Unusable(Arc<Unusable>),
    /// Its file could not be written.
    #[error("{}", io_reason(.0))]
    Write(io::Error),
    /// The disk takes longer than [`PATIENCE`].
    #[error("the request log takes longer than {PATIENCE:?}")]
    Late,
    /// The thread that writes has ended.
    #[error(transparent)]
    Thread(#[from] JoinError),
}

/// Why the file of a log cannot be used at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It cannot be opened.
    #[error("{}", io_reason(.0))]
    Open(io::Error),
    /// It cannot be read.
    #[error("it cannot be read: {}", io_reason(.0))]
    Read(io::Error),
    /// It is damaged, and stays where it is.
    #[error("nothing in it can be used, nor can it be set aside: {}", io_reason(.0))]
    SetAside(io::Error),
}
