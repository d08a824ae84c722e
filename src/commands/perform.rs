//! What carries out a request: this machine, or a made-up one. Does not answer, write down or decide.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::actions::{self, Afterwards, Context, Done, power};
use super::execute::{self, Prepared, Program, Runner};
use super::outcome::Outcome;
use super::request::{RawCommand, Script, What};
use crate::metrics::latest::Latest;

/// Carries out what was permitted. It may take its time, fail and panic: whoever dispatches sees to
/// the rest.
pub trait Perform: Send + Sync + 'static {
    /// Does it, and ends at about `deadline` at the latest. Dropping the future ends it.
    fn perform(&self, what: What, deadline: Instant) -> BoxFuture<'_, Done>;

    /// Does what follows an answer, once that has left.
    fn afterwards(&self, afterwards: Afterwards) -> BoxFuture<'_, ()>;

    /// Whether it is about to end, and nothing should be begun.
    fn is_stopping(&self) -> bool {
        false
    }
}

/// This machine: actions, and programs that are started.
pub struct ThisMachine {
    /// Starts programs.
    pub runner: Runner,
    /// What the metrics flow has read last.
    pub latest: Latest,
}

impl Perform for ThisMachine {
    fn perform(&self, what: What, deadline: Instant) -> BoxFuture<'_, Done> {
        async move {
            let (runner, notes) = self.runner.noting();
            let detach = what.detach();
            let mut done = match what {
                What::Raw(raw) => raw_command(raw, detach, &runner, deadline).await.into(),
                What::Script(pending) => script(pending, detach, &runner, deadline).await.into(),
                What::Action(order) => {
                    let cx = Context { runner, deadline, latest: self.latest.clone() };
                    actions::perform(order.action, &cx).await
                }
            };
            done.outcome.note(notes.take());
            done
        }
        .boxed()
    }

    fn afterwards(&self, afterwards: Afterwards) -> BoxFuture<'_, ()> {
        async move {
            let Afterwards::Reboot { force } = afterwards;
            if let Err(error) = power::reboot(force, &self.runner).await {
                tracing::error!(%error, "the machine was not restarted");
            }
        }
        .boxed()
    }

    fn is_stopping(&self) -> bool {
        self.runner.is_stopping()
    }
}

async fn raw_command(raw: RawCommand, detach: bool, runner: &Runner, deadline: Instant) -> Outcome {
    let prepared = spawn_blocking(move || execute::command_line(&raw, deadline)).await;
    match prepared.unwrap_or_else(|error| Err(error.to_string())) {
        Err(why) => Outcome::failed(why),
        Ok(prepared) => run(prepared, detach, runner).await,
    }
}

async fn script(script: Script, detach: bool, runner: &Runner, deadline: Instant) -> Outcome {
    let prepared = spawn_blocking(move || execute::script(&script, deadline)).await;
    match prepared.unwrap_or_else(|error| Err(error.to_string())) {
        // Nothing was begun: it may be offered again.
        Err(why) => Outcome::refused(why),
        Ok(prepared) => run(prepared, detach, runner).await,
    }
}

async fn run(Prepared { program, note }: Prepared, detach: bool, runner: &Runner) -> Outcome {
    let finished = runner.run(Program { detach, ..program }).await;
    let mut outcome = finished.map_or_else(Outcome::failed, Outcome::from);
    outcome.note(note);
    outcome
}
