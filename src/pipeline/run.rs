//! Runs the tasks of graphs side by side, to their end or to the shutdown deadline. The caller stops it through the
//! token.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::supervise::{ExitStatus, Restart, supervise};
use super::task::Task;
use super::topology::Topology;
use crate::tasks::spawn_in;

/// A built pipeline: its tasks, ready to run, and its topology.
#[must_use = "a graph does nothing until it is run"]
pub struct Graph {
    /// What it looks like.
    pub topology: Topology,
    tasks: Vec<Box<dyn Task>>,
}

impl Graph {
    pub(super) fn empty(name: &str) -> Self {
        let topology = Topology { name: name.to_owned(), ..Topology::default() };
        Self { topology, tasks: Vec::new() }
    }

    pub(super) fn add(&mut self, task: impl Task) {
        self.tasks.push(Box::new(task));
    }

    /// Takes the tasks out, to run them beside those of other graphs.
    pub fn into_tasks(self) -> Vec<Box<dyn Task>> {
        self.tasks
    }

    /// Runs this graph alone until its sources end or `stop` is called and it has drained.
    pub async fn run(
        self,
        restart: &Restart,
        stop: &CancellationToken,
        drain: Duration,
    ) -> Outcome {
        run(self.tasks, restart, stop, drain).await
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The worst end of any task.
    pub end: ExitStatus,
    /// Whether every task came to its end before the deadline; if not, the rest was aborted.
    pub drained: bool,
}

/// Runs `tasks` side by side under supervision. One that ends for good by a fault calls `stop` for
/// all; after `stop` the rest has `drain` to hand over what it holds.
pub async fn run(
    tasks: Vec<Box<dyn Task>>,
    restart: &Restart,
    stop: &CancellationToken,
    drain: Duration,
) -> Outcome {
    let deadline = async {
        stop.cancelled().await;
        sleep(drain).await;
    };
    run_until(tasks, restart, stop, deadline).await
}

/// The same, with any `deadline`: when it is over the rest is aborted.
pub async fn run_until(
    tasks: Vec<Box<dyn Task>>,
    restart: &Restart,
    stop: &CancellationToken,
    deadline: impl Future<Output = ()>,
) -> Outcome {
    let mut running = JoinSet::new();
    for task in tasks {
        let (restart, stop) = (restart.clone(), stop.clone());
        spawn_in(&mut running, async move { supervise(&restart, task, stop).await });
    }
    let mut end = ExitStatus::Done;
    let mut deadline = std::pin::pin!(deadline);
    loop {
        let joined = tokio::select! {
            biased;
            joined = running.join_next() => joined,
            () = &mut deadline => {
                running.shutdown().await;
                return Outcome { end, drained: false };
            }
        };
        let ended = match joined {
            None => return Outcome { end, drained: true },
            Some(Ok(ended)) => ended,
            // The supervisor catches panics of its task; what is left is a bug of ours or an abort.
            Some(Err(error)) => {
                tracing::error!(%error, "supervisor has failed");
                ExitStatus::Spent
            }
        };
        if ended != ExitStatus::Done {
            stop.cancel();
        }
        end = end.max(ended);
    }
}
