//! Runs requests in this process.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::commands::actions::agent::SharedReport;
use crate::commands::actions::plan::Effect;
use crate::commands::actions::{self, ActionOutcome, ActionRequest, Context};
use crate::commands::outcome::Outcome;
use crate::commands::process::{self, Prepared, ProcessError, Program, ProgramOutput, Runner};
use crate::commands::request::RequestKind;
use crate::metrics::collect::CommandLine;
use crate::metrics::latest::Latest;
use crate::tasks::spawn_blocking;

/// Runs requests in this process.
pub(crate) struct Machine {
    /// Starts programs.
    pub runner: Runner,
    /// The latest readings of the metrics flow.
    pub latest: Latest,
    /// The agent's state folder.
    pub state: PathBuf,
    /// How much of the command lines of processes the host may see.
    pub command_line: CommandLine,
    /// What the agent tells of itself.
    pub agent: Option<SharedReport>,
}

/// Says why side effects are denied, if they are.
pub(super) type Judge<'a> =
    Box<dyn FnOnce(Vec<Effect<'static>>) -> BoxFuture<'a, Option<String>> + Send + 'a>;

impl Machine {
    /// Runs a request, a command line or a script with `output`. With a `judge`, the side effects of an action are looked up and judged first.
    pub(super) async fn run(
        &self,
        request: RequestKind,
        deadline: Instant,
        output: &ProgramOutput,
        judge: Option<Judge<'_>>,
    ) -> ActionOutcome {
        let (runner, notes) = self.runner.with_warnings();
        let detach = request.detach();
        let run = |prepared: Prepared| run(prepared, detach, &runner, output);
        let mut done = match request {
            RequestKind::Raw(raw) => {
                let prepared = spawn_blocking(move || process::command_line(&raw, deadline)).await;
                match prepared.unwrap_or(Err(ProcessError::Panicked)) {
                    Ok(prepared) => run(prepared).await.into(),
                    Err(why) => Outcome::failed(why).into(),
                }
            }
            RequestKind::Script(script) => {
                let prepared = spawn_blocking(move || process::script(&script, deadline)).await;
                match prepared.unwrap_or(Err(ProcessError::Panicked)) {
                    Ok(prepared) => run(prepared).await.into(),
                    // Nothing started, so the host may send it again.
                    Err(why) => Outcome::refused(why).into(),
                }
            }
            RequestKind::Action(order) => {
                let (latest, command_line) = (self.latest.clone(), self.command_line);
                let state = Some(self.state.clone());
                let agent = self.agent.clone();
                let cx = Context { runner, deadline, latest, command_line, state, agent };
                match denied(&order, &cx, judge).await {
                    Some(denied) => denied.into(),
                    None => actions::perform(&order, &cx).await,
                }
            }
        };
        done.outcome.note(notes.take());
        done
    }
}

/// The denial if a rule denies a side effect of the action, or if the side effects cannot be looked up.
async fn denied(action: &ActionRequest, cx: &Context, judge: Option<Judge<'_>>) -> Option<Outcome> {
    let judge = judge?;
    let why = match action.side_effects(cx).await {
        Ok(effects) => judge(effects).await?,
        Err(why) => why.to_string(),
    };
    Some(Outcome { stderr: why.clone(), ..Outcome::refused(why) })
}

/// How long a program that ignores SIGTERM lives beyond its deadline: half of the margin of
/// [`ends_by`](crate::commands::request::Request::ends_by), so that the reply is in time.
fn mercy(deadline: Instant) -> Duration {
    (deadline.saturating_duration_since(Instant::now()) / 40).min(MERCY_MAX)
}
const MERCY_MAX: Duration = Duration::from_millis(250);

async fn run(
    Prepared { program, note }: Prepared,
    detach: bool,
    runner: &Runner,
    output: &ProgramOutput,
) -> Outcome {
    let mercy = Some(mercy(program.deadline));
    let finished = runner.run_into(Program { detach, mercy, ..program }, output).await;
    let mut outcome = finished.map_or_else(Outcome::failed, Outcome::from);
    outcome.note(note);
    outcome
}
