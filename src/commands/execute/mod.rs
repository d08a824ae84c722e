//! Execution: runs each permitted request within its deadline, and returns exactly one reply per request.
//!
//! Start and end of a request go to the request log and the audit here, because only this stage sees both. Scripts, which
//! run one after the other, are in `scripts`.

pub(crate) mod executor;
pub(crate) mod machine;
pub(crate) mod running;
pub(crate) mod unit;

mod scripts;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout_at};

use crate::commands::actions::{ActionOutcome, Afterwards};
use crate::commands::audit::Audit;
use crate::commands::authorize::{Authorization, AuthorizedMessage, CurrentPolicy, Denial, Permit};
use crate::commands::execute::executor::Executor;
use crate::commands::execute::running::Running;
use crate::commands::outcome::Outcome;
use crate::commands::process::{EXIT_TIMEOUT, ProgramOutput};
use crate::commands::reply::Outbound;
use crate::commands::request::{Refusal, RequestKind};
use crate::commands::request_log::{Claim, LogError, RequestLog};
use crate::metrics::latest::Latest;
use crate::pipeline::{Admission, Handler};
use crate::wire::Format;

/// How long after its deadline a script may still take to report the timeout; its host waits.
const GRACE: Duration = Duration::from_secs(5);

/// The delay between a reply and the action that follows it, so that the host can read the reply.
const FLUSHED: Duration = Duration::from_secs(3);

const NO_ROOM: &str = "too many commands wait already; ask again when some are answered";
/// The reason in the audit for a repeated id.
const AGAIN: &str = "its id came before: answered from the record, and not run again";
const OTHER_PAYLOAD: &str =
    "its id came before with another payload, so it was not run; ask for it with an id of its own";
const UNDER_WAY: &str = "its id came before and is under way: both get one answer";

/// The stage that executes requests.
pub struct Execute {
    /// Runs requests on this machine.
    pub executor: Box<dyn Executor>,
    /// The audit; `None` in a simulation.
    pub audit: Option<Audit>,
    /// The latest readings of the metrics flow.
    pub latest: Latest,
    /// The state of each request.
    pub log: RequestLog,
    /// The policy at the time when a request starts.
    pub current_policy: CurrentPolicy,
    /// The requests that are carried out now.
    pub running: Running,
}

/// Identifies a message, so that it gets replies even if its handling panics.
pub enum Key {
    /// A command: its id and action.
    Command(String, String),
    /// Scripts: their execution ids.
    Scripts(Vec<String>),
    /// No reply is due.
    None,
}

impl Handler for Execute {
    type In = AuthorizedMessage;
    type Out = Outbound;
    type Key = Key;

    fn name(&self) -> String {
        "execute".to_owned()
    }

    fn key(&self, message: &AuthorizedMessage) -> Key {
        match message {
            AuthorizedMessage::Command(authorization) => {
                let (id, action) = named(authorization);
                Key::Command(id, action)
            }
            AuthorizedMessage::Scripts(authorizations) => Key::Scripts(
                authorizations.iter().map(|authorization| named(authorization).0).collect(),
            ),
            _ => Key::None,
        }
    }

    /// What runs nothing is answered at once, refused scripts of a message before the others. A command that has waited for
    /// its whole time is answered in time, and not when there is a permit for it.
    fn admission(&self, message: AuthorizedMessage) -> Admission<AuthorizedMessage> {
        match message {
            AuthorizedMessage::Command(Authorization::Permitted(permit)) => {
                let deadline = Some(permit.request().ends_by());
                let command = AuthorizedMessage::Command(Authorization::Permitted(permit));
                Admission::queued(command).until(deadline)
            }
            AuthorizedMessage::Scripts(authorizations) if !authorizations.is_empty() => {
                let is_run = |one: &Authorization| matches!(one, Authorization::Permitted(_));
                let (run, refused) = authorizations.into_iter().partition::<Vec<_>, _>(is_run);
                let scripts = |authorizations: Vec<_>| {
                    (!authorizations.is_empty())
                        .then_some(AuthorizedMessage::Scripts(authorizations))
                };
                Admission { urgent: scripts(refused), queued: scripts(run), deadline: None }
            }
            other => Admission::urgent(other),
        }
    }

    fn accepted(&self, message: &AuthorizedMessage) {
        let authorizations = match message {
            AuthorizedMessage::Command(authorization) => std::slice::from_ref(authorization),
            AuthorizedMessage::Scripts(authorizations) => authorizations,
            _ => &[],
        };
        for authorization in authorizations {
            if let Authorization::Permitted(permit) = authorization {
                self.log.accept(permit.request());
            }
        }
    }

    fn handle(self: Arc<Self>, message: AuthorizedMessage) -> BoxStream<'static, Outbound> {
        let received = received(&message);
        let replies = match message {
            AuthorizedMessage::KeepAlive(number) => {
                stream::iter([Outbound::KeepAlive(number)]).boxed()
            }
            AuthorizedMessage::KeepAliveAnswered(_) => stream::empty().boxed(),
            AuthorizedMessage::MetricsNow => {
                let mut line = Vec::new();
                let latest = self.latest.get();
                let replies =
                    latest.and_then(|latest| Format::Infinibay.encode(&latest, &mut line).ok());
                stream::iter(replies.map(|()| Outbound::Metrics(line.into()))).boxed()
            }
            AuthorizedMessage::Command(authorization) => self.command(authorization),
            AuthorizedMessage::Scripts(authorizations) => self.scripts(authorizations),
        };
        match received {
            Some(received) => replies.map(move |reply| reply.received_at(received)).boxed(),
            None => replies,
        }
    }

    fn refuse(&self, message: AuthorizedMessage) -> Vec<Outbound> {
        let write_down = |authorization: &Authorization| {
            if let Some(audit) = &self.audit {
                audit.no_room(authorization, NO_ROOM);
            }
        };
        match message {
            AuthorizedMessage::Command(authorization) => {
                write_down(&authorization);
                let ((id, action), outcome) = (named(&authorization), Outcome::refused(NO_ROOM));
                vec![Outbound::Response { id, action, outcome }]
            }
            AuthorizedMessage::Scripts(authorizations) => {
                authorizations.iter().for_each(write_down);
                let outcome = || Outcome::refused(NO_ROOM);
                authorizations
                    .iter()
                    .map(|authorization| completed(named(authorization).0, outcome()))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// A panic in one script is caught in `scripts`. If a panic loses a whole message, each of its scripts gets a reply; one
    /// that had a reply before gets the same again.
    fn broken(&self, key: Key, panic: &str) -> Vec<Outbound> {
        let outcome = || Outcome::failed(format!("the agent failed at it: {panic}"));
        let mut replies = match key {
            Key::Command(id, action) => vec![Outbound::Response { id, action, outcome: outcome() }],
            Key::Scripts(ids) => ids.into_iter().map(|id| completed(id, outcome())).collect(),
            Key::None => Vec::new(),
        };
        replies.iter_mut().for_each(|reply| self.log.finish(reply));
        replies
    }
}

impl Execute {
    /// Runs one command: its reply, and then the action that follows the reply.
    fn command(self: Arc<Self>, authorization: Authorization) -> BoxStream<'static, Outbound> {
        async_stream::stream! {
            let permit = match authorization {
                Authorization::Malformed(refusal) => {
                    self.unclear(&refusal).await;
                    yield Outbound::from(refusal);
                    return;
                }
                Authorization::Denied(denial) => {
                    self.denied(&denial).await;
                    let action = action_of(&denial.request.kind);
                    let id = denial.request.id.clone();
                    yield Outbound::Response { id, action, outcome: denial.outcome() };
                    return;
                }
                Authorization::Permitted(permit) => permit,
            };
            let (id, action) = (permit.request().id.clone(), action_of(&permit.request().kind));
            match self.log.claim(permit.request()) {
                Claim::New => {}
                Claim::InProgress => {
                    self.not_run(&permit, UNDER_WAY).await;
                    return;
                }
                Claim::Answered(reply) => {
                    self.not_run(&permit, AGAIN).await;
                    yield *reply;
                    return;
                }
                Claim::OtherPayload => {
                    self.not_run(&permit, OTHER_PAYLOAD).await;
                    yield Outbound::Response { id, action, outcome: Outcome::refused(OTHER_PAYLOAD) };
                    return;
                }
            }
            let Some((outcome, afterwards)) = self.carry_out(permit).await else { return };
            yield self.record_outcome(Outbound::Response { id, action, outcome });
            if let Some(afterwards) = afterwards {
                sleep(FLUSHED).await;
                self.executor.afterwards(afterwards).await;
            }
        }
        .boxed()
    }

    /// Runs a request within its deadline. The request log and the audit have its start before it runs, and its end after.
    /// `None`: it goes on while the agent stops, and the next run of the agent replies.
    async fn carry_out(&self, permit: Permit) -> Option<(Outcome, Option<Afterwards>)> {
        if let Some(outcome) = self.expired(&permit).await {
            return Some((outcome, None));
        }
        let permit = match self.current_policy.recheck(permit) {
            Ok(permit) => permit,
            Err(denial) => {
                self.denied(&denial).await;
                return Some((denial.outcome(), None));
            }
        };
        let request = permit.request();
        let (started, ends_by, held) = (Instant::now(), request.ends_by(), request.held.clone());
        let answered_by = match request.kind {
            RequestKind::Script(_) => request.deadline() + GRACE,
            RequestKind::Action(_) | RequestKind::Raw(_) => request.answered_by(),
        };
        if let Err(error) = self.start(&permit).await {
            let why = error.to_string();
            self.not_run(&permit, &why).await;
            return Some((Outcome::refused(why), None));
        }
        let entry = match &self.audit {
            None => None,
            Some(audit) => match audit.begin(&permit).await {
                Ok(entry) => Some(entry),
                Err(error) => {
                    let why = format!("nothing is run that cannot be written down, and {error}");
                    return Some((Outcome::refused(why), None));
                }
            },
        };
        let _listed = self.running.begin(&permit.request().id, action_of(&permit.request().kind));
        let request = permit.into_request();
        let output = ProgramOutput::default();
        let done = self.executor.execute(&request.id, request.kind, ends_by, &output);
        let done = timeout_at(answered_by, done).await;
        let ActionOutcome { mut outcome, afterwards } =
            done.unwrap_or_else(|_| Some(Outcome::late(&output).into()))?;
        outcome.took = started.elapsed();
        drop(held);
        if let Some(entry) = entry {
            entry.end(&outcome).await;
        }
        Some((outcome, afterwards))
    }

    /// Writes the start to the request log. If that fails, a script does not run, nor does another request that changes the
    /// machine if the audit is required.
    async fn start(&self, permit: &Permit) -> Result<(), NotRecorded> {
        let what = &permit.request().kind;
        let kind = if matches!(what, RequestKind::Script(_)) { "script" } else { "command" };
        let started = self.log.start(&permit.request().id, what.changes_machine()).await;
        let is_required = self.audit.as_ref().is_none_or(Audit::is_required);
        match started {
            Err(error) if kind == "script" || is_required => Err(NotRecorded { kind, error }),
            _ => Ok(()),
        }
    }

    /// Writes the outcome to the request log. A refused request is withdrawn from it, so that the host can send it again.
    fn record_outcome(&self, mut reply: Outbound) -> Outbound {
        match reply.answer() {
            Some((id, outcome)) if outcome.refused => self.log.withdraw(id),
            _ => self.log.finish(&mut reply),
        }
        reply
    }

    async fn denied(&self, denial: &Denial) {
        if let Some(audit) = &self.audit {
            audit.denied(denial).await;
        }
    }

    async fn unclear(&self, refusal: &Refusal) {
        if let Some(audit) = &self.audit {
            audit.unclear(refusal).await;
        }
    }

    /// Records in the audit why a permitted request does not run.
    async fn not_run(&self, permit: &Permit, why: &str) {
        if let Some(audit) = &self.audit {
            audit.refused(permit.request(), permit.rule(), true, why).await;
        }
    }

    /// The outcome of a request that timed out before it started, or that the stop of the agent prevents.
    async fn expired(&self, permit: &Permit) -> Option<Outcome> {
        let outcome = if self.executor.is_stopping() {
            Outcome::refused("the agent stops; it was not begun")
        } else if permit.request().ends_by() <= Instant::now() {
            let late = Outcome::refused("its time was over before there was a place for it");
            Outcome { exit_code: Some(EXIT_TIMEOUT), ..late }
        } else {
            return None;
        };
        self.not_run(permit, outcome.error.as_deref().unwrap_or_default()).await;
        Some(outcome)
    }
}

/// A request is not run, because its start could not be written to the request log.
#[derive(Debug, Error)]
#[error("it cannot be written down that the {kind} begins, so it is not run: {error}")]
struct NotRecorded {
    /// `script` or `command`.
    kind: &'static str,
    error: LogError,
}

fn completed(execution_id: String, outcome: Outcome) -> Outbound {
    Outbound::ScriptCompletion { execution_id, outcome }
}

/// When the first request of a message was received.
fn received(message: &AuthorizedMessage) -> Option<Instant> {
    let of = |authorization: &Authorization| match authorization {
        Authorization::Permitted(permit) => Some(permit.request().received),
        Authorization::Denied(denial) => Some(denial.request.received),
        Authorization::Malformed(_) => None,
    };
    match message {
        AuthorizedMessage::Command(authorization) => of(authorization),
        AuthorizedMessage::Scripts(authorizations) => authorizations.iter().find_map(of),
        _ => None,
    }
}

fn named(authorization: &Authorization) -> (String, String) {
    match authorization {
        Authorization::Permitted(permit) => {
            (permit.request().id.clone(), action_of(&permit.request().kind))
        }
        Authorization::Denied(denial) => {
            (denial.request.id.clone(), action_of(&denial.request.kind))
        }
        Authorization::Malformed(Refusal { id, action, .. }) => (id.clone(), action.clone()),
    }
}

fn action_of(what: &RequestKind) -> String {
    what.name().to_owned()
}
