//! What carries out a request: this machine, or a made-up one. Does not answer, write down or decide.

use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::commands::actions::{self, Afterwards, Context, Done, golden, power};
use crate::commands::authorize::InForce;
use crate::commands::authorize::foresee::foresee;
use crate::commands::authorize::policy::Decision;
use crate::commands::decode::request::{Action, RawCommand, Script, What};
use crate::commands::execute::outcome::Outcome;
use crate::commands::process::{self, Prepared, Program, Runner};
use crate::metrics::collect::CommandLine;
use crate::metrics::latest::Latest;

/// Carries out what was permitted. It may take its time, fail and panic: whoever dispatches sees to
/// the rest.
pub trait Executor: Send + Sync + 'static {
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
pub struct LocalExecutor {
    /// Starts programs.
    pub runner: Runner,
    /// What the metrics flow has read last.
    pub latest: Latest,
    /// What an action may come to on this machine.
    pub in_force: InForce,
    /// The agent's state folder.
    pub state: PathBuf,
    /// How much of command lines it tells the host.
    pub command_line: CommandLine,
}

impl Executor for LocalExecutor {
    fn perform(&self, what: What, deadline: Instant) -> BoxFuture<'_, Done> {
        async move {
            let (runner, notes) = self.runner.noting();
            let detach = what.detach();
            let mut done = match what {
                What::Raw(raw) => raw_command(raw, detach, &runner, deadline).await.into(),
                What::Script(pending) => script(pending, detach, &runner, deadline).await.into(),
                What::Action(order) => {
                    let (latest, command_line) = (self.latest.clone(), self.command_line);
                    let cx = Context { runner, deadline, latest, command_line };
                    match (self.denied(&order.action, &cx).await, order.action) {
                        (Some(denied), _) => denied.into(),
                        (None, Action::PrepareGoldenImage(image)) => {
                            golden::prepare(&cx, &image, Some(&self.state)).await
                        }
                        (None, action) => actions::perform(action, &cx).await,
                    }
                }
            };
            done.outcome.note(notes.take());
            done
        }
        .boxed()
    }

    fn afterwards(&self, afterwards: Afterwards) -> BoxFuture<'_, ()> {
        async move {
            let done = match afterwards {
                Afterwards::Reboot { force } => power::reboot(force, &self.runner).await,
                Afterwards::PowerOff => power::off(&self.runner).await,
            };
            if let Err(error) = done {
                tracing::error!(%error, "the machine was not restarted or switched off");
            }
        }
        .boxed()
    }

    fn is_stopping(&self) -> bool {
        self.runner.is_stopping()
    }
}

impl LocalExecutor {
    /// What is answered where a rule denies what the action would come to here, or that cannot be told.
    async fn denied(&self, action: &Action, cx: &Context) -> Option<Outcome> {
        let policy = self.in_force.policy().filter(|policy| policy.has_limits())?;
        let why = match foresee(action, cx).await {
            Ok(effects) => match policy.decide_along(&effects)? {
                Decision::Denied { why, .. } => why,
                Decision::Allowed { .. } => return None,
            },
            Err(why) => why,
        };
        Some(Outcome { stderr: why.clone(), ..Outcome::refused(why) })
    }
}

/// What a program that ignores SIGTERM has left at its deadline: half of what a
/// [request](crate::commands::decode::request::Request::ends_by) is ended early, so that the answer is in time.
fn mercy(deadline: Instant) -> Option<Duration> {
    Some(deadline.saturating_duration_since(Instant::now()) / 40)
}

async fn raw_command(raw: RawCommand, detach: bool, runner: &Runner, deadline: Instant) -> Outcome {
    let prepared = spawn_blocking(move || process::command_line(&raw, deadline)).await;
    match prepared.unwrap_or_else(|error| Err(error.to_string())) {
        Err(why) => Outcome::failed(why),
        Ok(prepared) => run(prepared, detach, runner).await,
    }
}

async fn script(script: Script, detach: bool, runner: &Runner, deadline: Instant) -> Outcome {
    let prepared = spawn_blocking(move || process::script(&script, deadline)).await;
    match prepared.unwrap_or_else(|error| Err(error.to_string())) {
        // Nothing was begun: it may be offered again.
        Err(why) => Outcome::refused(why),
        Ok(prepared) => run(prepared, detach, runner).await,
    }
}

async fn run(Prepared { program, note }: Prepared, detach: bool, runner: &Runner) -> Outcome {
    let mercy = mercy(program.deadline);
    let finished = runner.run(Program { detach, mercy, ..program }).await;
    let mut outcome = finished.map_or_else(Outcome::failed, Outcome::from);
    outcome.note(note);
    outcome
}
