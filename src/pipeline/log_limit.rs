//! When a trouble that lasts is logged: when it begins, at most once a minute while it lasts, and when it is over.
//! Logs nothing itself.

use std::time::Duration;

use tokio::time::Instant;

/// The least time between two lines about the same trouble.
pub const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// One trouble, such as a sink that cannot write. It says whether to log; also one that comes and goes is logged
/// no more often than every [`LOG_INTERVAL`].
///
/// ```
/// use infiniservice::pipeline::{LOG_INTERVAL, LogLimit};
/// use tokio::time::Instant;
///
/// let (mut limit, start) = (LogLimit::default(), Instant::now());
/// assert_eq!(limit.happened(start), Some(0), "it begins");
/// assert_eq!(limit.happened(start), None);
/// assert_eq!(limit.happened(start + LOG_INTERVAL), Some(1), "one was not logged");
/// assert!(limit.is_over());
/// assert!(!limit.is_over(), "it was over already");
/// ```
#[derive(Debug, Default)]
pub struct LogLimit {
    /// When it was logged last.
    logged: Option<Instant>,
    /// How often it has happened since then.
    silent: u64,
    /// Whether a log reader believes that it lasts.
    is_open: bool,
}

impl LogLimit {
    /// It has happened: if that is to be logged, how often it has happened without since the last time.
    pub fn happened(&mut self, now: Instant) -> Option<u64> {
        if self.logged.is_some_and(|at| now.saturating_duration_since(at) < LOG_INTERVAL) {
            self.silent += 1;
            return None;
        }
        self.logged = Some(now);
        self.is_open = true;
        Some(std::mem::take(&mut self.silent))
    }

    /// All is well again: whether that is to be logged, because the trouble was.
    pub fn is_over(&mut self) -> bool {
        std::mem::take(&mut self.is_open)
    }
}
