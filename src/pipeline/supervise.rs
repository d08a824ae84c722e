//! Runs a task again when it fails or panics.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::stage::StageError;
use super::task::Task;

/// When and how often a task is run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// How many faults within [`within`](Self::within) are survived; one more is the end.
    pub budget: usize,
    /// The time over which faults are counted. A task that ran this long starts at `base` again.
    pub within: Duration,
    /// The first pause; each following one is twice as long, plus up to as much again by chance.
    pub base: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            budget: 8,
            within: Duration::from_secs(60),
            base: Duration::from_millis(100),
            max: Duration::from_secs(30),
        }
    }
}

impl Restart {
    fn backoff(&self) -> ExponentialBackoff {
        ExponentialBuilder::default()
            .with_min_delay(self.base)
            .with_max_delay(self.max)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

/// How a task ended for good, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExitStatus {
    /// Its work is done.
    Done,
    /// It said that there is no use in going on ([`StageError::last`]).
    Gone,
    /// It faulted more often than [`Restart::budget`] allows.
    Spent,
}

/// Runs `task` to its end, again after each fault or panic, with jittered exponential back-off.
///
/// Once `stop` is called, pauses are at most the shortest one, so that a drain is not held up.
pub(crate) async fn supervise(
    restart: &Restart,
    mut task: Box<dyn Task>,
    stop: CancellationToken,
) -> ExitStatus {
    let mut faults: VecDeque<Instant> = VecDeque::new();
    let mut pauses = restart.backoff();
    loop {
        let started = Instant::now();
        let fault = match AssertUnwindSafe(task.run()).catch_unwind().await {
            Ok(Ok(())) => return ExitStatus::Done,
            Ok(Err(fault)) => fault,
            Err(panic) => StageError::new(format_args!("it panicked: {}", panic_text(&*panic))),
        };
        let stage = task.failed();
        if fault.is_last() {
            tracing::info!(stage, reason = %fault, "stage has stopped and is not started again");
            return ExitStatus::Gone;
        }
        let now = Instant::now();
        if now.duration_since(started) >= restart.within {
            pauses = restart.backoff();
        }
        if fault.spends_budget() {
            faults.push_back(now);
            while faults.front().is_some_and(|first| now.duration_since(*first) > restart.within) {
                faults.pop_front();
            }
            if faults.len() > restart.budget {
                tracing::error!(stage, %fault, faults = faults.len(), "stage failed too often and is not started again");
                return ExitStatus::Spent;
            }
        }
        let limit = if stop.is_cancelled() { restart.base } else { restart.max };
        let pause = pauses.next().unwrap_or(restart.max).min(limit);
        // What the world does may be repeated for days; a fault that spends the budget is not.
        let silent = match task.log_limit() {
            Some(limit) if !fault.spends_budget() => limit.happened(now),
            _ => Some(0),
        };
        if let Some(silent) = silent {
            let before = Some(silent).filter(|silent| *silent > 0);
            tracing::warn!(stage, %fault, again_in = ?pause, not_logged = before, "stage has failed");
        }
        if stop.is_cancelled() {
            sleep(pause).await;
        } else {
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// What a caught panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
