//! The executor: runs a permitted request on this machine, or on a simulated one.

use std::path::PathBuf;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::commands::actions::agent::SharedReport;
use crate::commands::actions::{self, ActionRequest, Afterwards, Context, Done, power};
use crate::commands::authorize::CurrentPolicy;
use crate::commands::authorize::policy::Decision;
use crate::commands::decode::request::{RawCommand, RequestKind, Script};
use crate::commands::execute::outcome::Outcome;
use crate::commands::process::{self, Prepared, ProcessError, Program, Runner};
use crate::metrics::collect::CommandLine;
use crate::metrics::latest::Latest;

/// Runs permitted requests. It may be slow, fail or panic: [`Execute`](super::Execute) enforces the deadline and
/// replies.
pub trait Executor: Send + Sync + 'static {
    /// Runs a request until `deadline` at the latest. Dropping the future cancels it.
    fn execute(&self, request: RequestKind, deadline: Instant) -> BoxFuture<'_, Done>;

    /// Runs the action that follows a reply, once the reply has been sent.
    fn afterwards(&self, afterwards: Afterwards) -> BoxFuture<'_, ()>;

    /// Whether the agent is stopping, so that nothing new should start.
    fn is_stopping(&self) -> bool {
        false
    }
}

/// Runs actions and programs on this machine.
pub struct LocalExecutor {
    /// Starts programs.
    pub runner: Runner,
    /// The latest readings of the metrics flow.
    pub latest: Latest,
    /// The policy for the side effects of actions.
    pub current_policy: CurrentPolicy,
    /// The agent's state folder.
    pub state: PathBuf,
    /// How much of the command lines of processes the host may see.
    pub command_line: CommandLine,
    /// What the agent tells of itself.
    pub agent: SharedReport,
}

impl Executor for LocalExecutor {
    fn execute(&self, request: RequestKind, deadline: Instant) -> BoxFuture<'_, Done> {
        async move {
            let (runner, notes) = self.runner.with_warnings();
            let detach = request.detach();
            let mut done = match request {
                RequestKind::Raw(raw) => raw_command(raw, detach, &runner, deadline).await.into(),
                RequestKind::Script(pending) => {
                    script(pending, detach, &runner, deadline).await.into()
                }
                RequestKind::Action(order) => {
                    let (latest, command_line) = (self.latest.clone(), self.command_line);
                    let state = Some(self.state.clone());
                    let agent = Some(self.agent.clone());
                    let cx = Context { runner, deadline, latest, command_line, state, agent };
                    match self.denied(&order, &cx).await {
                        Some(denied) => denied.into(),
                        None => actions::perform(&order, &cx).await,
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
    /// The denial if a rule denies a side effect of the action, or if the side effects cannot be looked up.
    async fn denied(&self, action: &ActionRequest, cx: &Context) -> Option<Outcome> {
        let policy = self.current_policy.policy().filter(|policy| policy.has_limits())?;
        let why = match action.side_effects(cx).await {
            Ok(effects) => match policy.deny_side_effects(&effects)? {
                Decision::Denied { why, .. } => why,
                Decision::Allowed { .. } => return None,
            },
            Err(why) => why.to_string(),
        };
        Some(Outcome { stderr: why.clone(), ..Outcome::refused(why) })
    }
}

/// How long a program that ignores SIGTERM lives beyond its deadline: half of the margin of
/// [`ends_by`](crate::commands::decode::request::Request::ends_by), so that the reply is in time.
fn mercy(deadline: Instant) -> Duration {
    (deadline.saturating_duration_since(Instant::now()) / 40).min(MERCY_MAX)
}
const MERCY_MAX: Duration = Duration::from_millis(250);

async fn raw_command(raw: RawCommand, detach: bool, runner: &Runner, deadline: Instant) -> Outcome {
    let prepared = spawn_blocking(move || process::command_line(&raw, deadline)).await;
    match prepared.unwrap_or(Err(ProcessError::Panicked)) {
        Err(why) => Outcome::failed(why),
        Ok(Prepared { program, note }) => {
            // Before `Execute` gives it up, so that what it has said is in the reply in any case.
            let answer_by = Some(deadline + mercy(deadline).mul_f32(1.4));
            let program = Program { answer_by, ..program };
            run(Prepared { program, note }, detach, runner).await
        }
    }
}

async fn script(script: Script, detach: bool, runner: &Runner, deadline: Instant) -> Outcome {
    let prepared = spawn_blocking(move || process::script(&script, deadline)).await;
    match prepared.unwrap_or(Err(ProcessError::Panicked)) {
        // Nothing started, so the host may send it again.
        Err(why) => Outcome::refused(why),
        Ok(prepared) => run(prepared, detach, runner).await,
    }
}

async fn run(Prepared { program, note }: Prepared, detach: bool, runner: &Runner) -> Outcome {
    let mercy = Some(mercy(program.deadline));
    let finished = runner.run(Program { detach, mercy, ..program }).await;
    let mut outcome = finished.map_or_else(Outcome::failed, Outcome::from);
    outcome.note(note);
    outcome
}
