//! What carries out a request: this machine, or a made-up one. Does not answer, write down or decide.

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::actions::{self, Afterwards, Context, Done, power};
use super::execute::{self, Runner};
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
    /// Where the texts of scripts lie while they run.
    pub scripts: PathBuf,
}

impl Perform for ThisMachine {
    fn perform(&self, what: What, deadline: Instant) -> BoxFuture<'_, Done> {
        async move {
            let outcome = match what {
                What::Raw(raw) => self.raw(&raw, deadline).await,
                What::Script(script) => self.script(script, deadline).await,
                What::Action(order) => {
                    let runner = self.runner.clone();
                    let cx = Context { runner, deadline, latest: self.latest.clone() };
                    return actions::perform(order.action, &cx).await;
                }
            };
            Done { outcome, afterwards: None }
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

impl ThisMachine {
    async fn raw(&self, raw: &RawCommand, deadline: Instant) -> Outcome {
        match execute::command_line(raw, deadline) {
            Err(why) => Outcome::failed(why),
            Ok(program) => match self.runner.run(program).await {
                Err(why) => Outcome::failed(why),
                Ok(finished) => finished.into(),
            },
        }
    }

    async fn script(&self, script: Script, deadline: Instant) -> Outcome {
        let folder = self.scripts.clone();
        let written = spawn_blocking(move || execute::script(&script, &folder, deadline)).await;
        let (program, file) = match written {
            Ok(Ok(written)) => written,
            // Nothing was begun: it may be offered again.
            Ok(Err(why)) => return Outcome::refused(why),
            Err(error) => return Outcome::refused(error.to_string()),
        };
        let finished = self.runner.run(program).await;
        drop(file);
        finished.map_or_else(Outcome::failed, Outcome::from)
    }
}
