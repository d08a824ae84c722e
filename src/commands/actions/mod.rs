//! What the host may ask for, done for real: one file per family. Decides nothing about who may ask.
//!
//! [`perform`] takes one decoded action and says what came of it. An action starts no process itself
//! (that is the [`Runner`]'s), blocks no async worker, and ends at the request's deadline.

pub(crate) mod action;
pub(crate) mod plan;
pub(crate) mod page;
pub(crate) mod root;
pub(crate) mod registry;
#[cfg(test)]
mod manual;

pub(crate) mod agent;
pub(crate) mod applications;
pub(crate) mod checks;
pub(crate) mod cleanup;
pub(crate) mod domain;
pub(crate) mod golden;
pub(crate) mod not_built;
pub(crate) mod packages;
pub(crate) mod power;
pub(crate) mod processes;
pub(crate) mod resources;
pub(crate) mod security_modules;
pub(crate) mod services;
pub(crate) mod system;
pub(crate) mod unsupported;
pub(crate) mod updates;
pub(crate) mod users;

mod error;
mod truncate;
mod kill;
mod sample;
mod systemctl;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

pub use action::{Action, ActionRequest};
pub(crate) use error::{ActionError, KillError};
pub use truncate::LINE_MAX;

use crate::commands::outcome::Outcome;
use crate::commands::process::Runner;
use crate::metrics::collect::CommandLine;
use crate::metrics::latest::Latest;
use crate::tasks::spawn_blocking;

/// What an action has at hand.
pub struct Context {
    /// Starts programs.
    pub runner: Runner,
    /// When the host has given up.
    pub deadline: Instant,
    /// What the metrics flow has read last.
    pub latest: Latest,
    /// How much of command lines is reported.
    pub command_line: CommandLine,
    /// The agent's state folder, where it has one.
    pub state: Option<PathBuf>,
    /// What the agent tells of itself.
    pub agent: Option<agent::SharedReport>,
}

/// What came of an action, and what is to follow once the host has the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionOutcome {
    /// The answer.
    pub outcome: Outcome,
    /// What must not happen before the answer has left.
    pub afterwards: Option<Afterwards>,
}

/// What follows an answer: the sender flushes it, waits a few seconds, and does this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Afterwards {
    /// Restarts the machine: `power::reboot`.
    Reboot {
        /// Without asking programs to end.
        force: bool,
    },
    /// Switches the machine off: `power::off`.
    PowerOff,
}

impl From<Outcome> for ActionOutcome {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, afterwards: None }
    }
}

/// Does one action. Never panics on what the machine says, and fills in how long it took.
///
/// Its answer is short enough for the host: [`LINE_MAX`]. It ends by the deadline, or as soon after it as a program that the deadline ended can be told of.
pub(crate) async fn perform(action: &ActionRequest, cx: &Context) -> ActionOutcome {
    let started = Instant::now();
    let mut done = action.run(cx).await;
    truncate::shorten(&mut done.outcome);
    done.outcome.took = started.elapsed();
    done
}

/// Runs blocking work off the async worker, and stops waiting for it at the deadline.
///
/// # Errors
/// It did not finish in time, or it panicked.
async fn blocking<T: Send + 'static>(
    deadline: Instant,
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ActionError> {
    match timeout_at(deadline, spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(ActionError::Panicked(what)),
        Err(_) => Err(ActionError::Late(what)),
    }
}

/// The absolute path of a program, looked for where the agent's programs get their `PATH` from.
fn find_program(name: &str) -> Option<std::path::PathBuf> {
    const FOLDERS: [&str; 6] =
        ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let paths = FOLDERS.iter().map(|folder| std::path::Path::new(folder).join(name));
    paths.into_iter().find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
}

/// A program with plain arguments and nothing else special.
fn program(name: &str, arguments: &[&str], deadline: Instant) -> crate::commands::process::Program {
    crate::commands::process::Program::new(name, arguments, deadline)
}

#[cfg(test)]
fn test_context() -> Context {
    let runner = Runner::new(tokio_util::sync::CancellationToken::new());
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    Context {
        runner,
        deadline,
        latest: Latest::default(),
        command_line: CommandLine::default(),
        state: None,
        agent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::inbound::Arguments;
    use std::time::Duration;

    #[tokio::test]
    async fn work_that_outlives_the_deadline_is_told_and_not_waited_for() {
        let (release, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let deadline = Instant::now() + Duration::from_millis(20);
        let late = blocking(deadline, "the work", move || wait.recv().is_ok()).await;
        assert!(late.unwrap_err().to_string().contains("did not finish in time"));
        drop(release);
        let broken = blocking(Instant::now() + Duration::from_secs(9), "the work", || {
            assert!(std::hint::black_box(false), "on purpose");
        });
        assert!(broken.await.unwrap_err().to_string().contains("broke off"));
    }

    #[tokio::test]
    async fn what_is_not_built_fails_with_its_reason_and_a_foreign_check_does_not_fail() {
        let cx = test_context();
        let not = registry::request("RunMaintenanceTask", Arguments::default()).unwrap();
        let done = perform(&not, &cx).await;
        let why =
            "RunMaintenanceTask is not built into this agent: maintenance tasks are not built";
        assert!(!done.outcome.success && done.outcome.error.unwrap().starts_with(why));
        let other = unsupported::OtherSystem("CheckWindowsDefender");
        let other = perform(&other.into(), &cx).await;
        assert!(other.outcome.success && other.afterwards.is_none());
    }
}
