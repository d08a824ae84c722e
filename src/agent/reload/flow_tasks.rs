//! The tasks of flows and ports while they run, and how they have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::pipeline::{ExitStatus, Outcome, Restart, Task, run_until};
use crate::tasks::spawn_in;

/// Runs groups of tasks. A group that fails stops the agent.
pub(super) struct FlowTasks {
    /// Each group with its outcome, and whether it has ended with the agent.
    groups: JoinSet<(Outcome, bool)>,
    /// Stops the agent.
    stop: CancellationToken,
    /// How long a stopped group may drain, in milliseconds.
    drain_ms: Arc<AtomicU64>,
    /// The outcome of the groups that have ended.
    outcome: Outcome,
}

impl FlowTasks {
    /// No tasks. `stop` stops the agent.
    pub(super) fn new(stop: &CancellationToken) -> Self {
        Self {
            groups: JoinSet::new(),
            stop: stop.clone(),
            drain_ms: Arc::default(),
            outcome: Outcome { end: ExitStatus::Done, drained: true },
        }
    }

    /// How long a stopped group may drain, from now on.
    pub(super) fn set_drain(&self, drain: Duration) {
        self.drain_ms.store(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Runs `tasks` to their end. They are aborted at the shutdown deadline, which begins with `stop`, or for patient tasks
    /// with the stop of the agent. What is returned is cancelled when all have ended.
    pub(super) fn spawn(
        &mut self,
        tasks: Vec<Box<dyn Task>>,
        restart: Restart,
        stop: CancellationToken,
        is_patient: bool,
    ) -> CancellationToken {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let (all, drain_ms) = (self.stop.clone(), Arc::clone(&self.drain_ms));
        let begins = if is_patient { all.clone() } else { stop.clone() };
        let deadline = async move {
            begins.cancelled().await;
            sleep(Duration::from_millis(drain_ms.load(Relaxed))).await;
        };
        spawn_in(&mut self.groups, async move {
            let _guard = guard;
            let outcome = run_until(tasks, &restart, &stop, deadline).await;
            (outcome, all.is_cancelled())
        });
        ended
    }

    /// Waits until one more group has ended, and records its outcome. `false` when none is left.
    pub(super) async fn ended(&mut self) -> bool {
        let Some(joined) = self.groups.join_next().await else { return false };
        self.record_outcome(joined);
        true
    }

    fn record_outcome(&mut self, joined: Result<(Outcome, bool), JoinError>) {
        let (outcome, at_the_end) = joined.unwrap_or_else(|error| {
            tracing::error!(%error, "a flow has failed");
            (Outcome { end: ExitStatus::Spent, drained: true }, true)
        });
        if outcome.end != ExitStatus::Done {
            self.stop.cancel();
        }
        self.outcome.end = self.outcome.end.max(outcome.end);
        if at_the_end {
            self.outcome.drained &= outcome.drained;
        } else if !outcome.drained {
            tracing::warn!(
                "a pipeline did not end within the shutdown deadline; what it held is lost"
            );
        }
    }

    /// The outcome of all groups that have ended.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome
    }
}
