//! The end of the flow of commands: each is counted, and written into the log, without what it holds.

use std::sync::Arc;
use std::time::Duration;

use crate::pipeline::{EventCount, Sink, StageError};
use crate::relay::fleet::Fleet;

/// A command that is done with.
#[derive(Debug, Clone)]
pub(crate) struct FinishedCommand {
    /// The guest.
    pub vm: Arc<str>,
    /// Who sent it.
    pub sender: String,
    /// Its id, where it was understood.
    pub id: Option<String>,
    /// What it asked for, where it was understood.
    pub action: Option<String>,
    /// What became of it: `answered`, `undelivered` (no client took the reply), `no_inbox`, `dropped`, or the code of an error.
    pub outcome: &'static str,
    /// How long it took.
    pub took: Duration,
}

impl EventCount for FinishedCommand {}

/// Counts and logs commands.
pub(crate) struct Record {
    fleet: Arc<Fleet>,
}

impl Record {
    /// Counts in `fleet`.
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }
}

impl Sink for Record {
    type In = FinishedCommand;

    async fn write(&mut self, done: &FinishedCommand) -> Result<(), StageError> {
        let FinishedCommand { vm, sender, id, action, outcome, took } = done;
        self.fleet.commands.count(outcome);
        tracing::info!(vm = &**vm, sender, id, action, outcome, ?took, "a command for a guest");
        Ok(())
    }
}
