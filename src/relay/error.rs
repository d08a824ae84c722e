//! Why a relay cannot run.

use std::io;

use thiserror::Error;

use super::web::WebError;
use crate::sinks::{Listen, io_reason};

/// Why a relay cannot run, or has not ended in order.
#[derive(Debug, Error)]
pub(crate) enum RelayError {
    /// It cannot listen where metrics are to be served.
    #[error("cannot serve metrics at {at}: {}", io_reason(error))]
    Metrics {
        /// Where.
        at: Listen,
        /// What the system says.
        error: io::Error,
    },
    /// It cannot listen for guests over vsock.
    #[error("cannot listen at port {port} of the vsock of this host: {error}")]
    Vsock {
        /// Where.
        port: u32,
        /// What the system says.
        error: io::Error,
    },
    /// The web page cannot be served.
    #[error(transparent)]
    Web(#[from] WebError),
    /// There are no random bytes for the name of this relay's claims.
    #[error("cannot take commands: {0}")]
    Commands(io::Error),
    /// It was to stop at once.
    #[error("stopped at once; what was left was not written")]
    StoppedAtOnce,
}
