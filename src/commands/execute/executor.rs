//! The executor: runs a permitted request on this machine, or on a simulated one.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use crate::commands::actions::plan::Effect;
use crate::commands::actions::{ActionOutcome, Afterwards, power};
use crate::commands::authorize::CurrentPolicy;
use crate::commands::authorize::policy::{Decision, Policy};
use crate::commands::execute::machine::{Judge, Machine};
use crate::commands::execute::unit::Units;
use crate::commands::process::ProgramOutput;
use crate::commands::request::RequestKind;

/// Runs permitted requests. It may be slow, fail or panic: [`Execute`](super::Execute) enforces the deadline and
/// replies.
pub trait Executor: Send + Sync + 'static {
    /// Runs the request `id` until `deadline` at the latest. Dropping the future cancels it; `output` then has what a
    /// command line or a script wrote. `None`: the agent stops and the request goes on without it; the next run of the
    /// agent answers it.
    fn execute<'a>(
        &'a self,
        id: &'a str,
        request: RequestKind,
        deadline: Instant,
        output: &'a ProgramOutput,
    ) -> BoxFuture<'a, Option<ActionOutcome>>;

    /// Runs the action that follows a reply, once the reply has been sent.
    fn afterwards(&self, afterwards: Afterwards) -> BoxFuture<'_, ()>;

    /// Whether the agent is stopping, so that nothing new should start.
    fn is_stopping(&self) -> bool {
        false
    }
}

/// Runs actions and programs on this machine: in units of their own, or in this process.
pub(crate) struct LocalExecutor {
    /// Runs them in this process.
    pub machine: Machine,
    /// The policy for the side effects of actions.
    pub current_policy: CurrentPolicy,
    /// Runs them in units, where systemd runs the agent.
    pub units: Option<Units>,
}

impl Executor for LocalExecutor {
    fn execute<'a>(
        &'a self,
        id: &'a str,
        request: RequestKind,
        deadline: Instant,
        output: &'a ProgramOutput,
    ) -> BoxFuture<'a, Option<ActionOutcome>> {
        let policy = self.current_policy.policy().filter(|policy| policy.has_limits());
        let judge = policy.map(|policy| -> Judge<'a> {
            Box::new(move |effects| std::future::ready(denial(&policy, &effects)).boxed())
        });
        match &self.units {
            Some(units) => units.run(id, request, deadline, output, &self.machine, judge).boxed(),
            None => self.machine.run(request, deadline, output, judge).map(Some).boxed(),
        }
    }

    fn afterwards(&self, afterwards: Afterwards) -> BoxFuture<'_, ()> {
        async move {
            let done = match afterwards {
                Afterwards::Reboot { force } => power::reboot(force, &self.machine.runner).await,
                Afterwards::PowerOff => power::off(&self.machine.runner).await,
            };
            if let Err(error) = done {
                tracing::error!(%error, "the machine was not restarted or switched off");
            }
        }
        .boxed()
    }

    fn is_stopping(&self) -> bool {
        self.machine.runner.is_stopping()
    }
}

fn denial(policy: &Policy, effects: &[Effect<'_>]) -> Option<String> {
    match policy.deny_side_effects(effects)? {
        Decision::Denied { why, .. } => Some(why),
        Decision::Allowed { .. } => None,
    }
}
