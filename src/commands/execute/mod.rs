//! Does what was let through, answers each request once, and writes both down. Decides nothing about
//! who may ask, and knows no wire. Scripts are in `scripts`.

pub mod executor;
pub mod outcome;

mod scripts;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep, timeout_at};

use crate::commands::actions::{Afterwards, Done};
use crate::commands::authorize::policy;
use crate::commands::authorize::{Denial, Enforced, InForce, Permit, Ruled};
use crate::commands::decode::Refusal;
use crate::commands::decode::request::What;
use crate::commands::execute::executor::Executor;
use crate::commands::execute::outcome::{EXIT_TIMEOUT, Outcome};
use crate::commands::reply::Outbound;
use crate::commands::request_log::audit::Audit;
use crate::commands::request_log::{Known, RequestLog};
use crate::metrics::latest::Latest;
use crate::pipeline::Handler;
use crate::wire::Format;

/// How long after its deadline a script may still take to say that its time was over. Its host waits.
const GRACE: Duration = Duration::from_secs(5);

/// Between an answer and what must come after it: time for the host to read it.
const FLUSHED: Duration = Duration::from_secs(3);

const NO_ROOM: &str = "too many commands wait already; ask again when some are answered";
/// What the audit says of an id that came twice.
const AGAIN: &str = "its id came before: answered from the record, and not run again";
const UNDER_WAY: &str = "its id came before and is under way: both get one answer";

/// Everything that is needed to do what is asked.
pub struct Execute {
    /// Does it.
    pub perform: Box<dyn Executor>,
    /// Where it is written down; nowhere in a simulation.
    pub audit: Option<Audit>,
    /// What the metrics flow has read last.
    pub latest: Latest,
    /// What was asked for, and how far it is.
    pub log: RequestLog,
    /// What may run, now that its turn has come.
    pub in_force: InForce,
}

/// What is needed to answer a request whose handling panicked.
pub enum Key {
    /// A command: its id and action.
    Command(String, String),
    /// Scripts: their execution ids.
    Scripts(Vec<String>),
    /// Nothing that is answered.
    None,
}

impl Handler for Execute {
    type In = Enforced;
    type Out = Outbound;
    type Key = Key;

    fn name(&self) -> String {
        "execute".to_owned()
    }

    fn key(&self, asked: &Enforced) -> Key {
        match asked {
            Enforced::Command(ruling) => {
                let (id, action) = named(ruling);
                Key::Command(id, action)
            }
            Enforced::Scripts(rulings) => {
                Key::Scripts(rulings.iter().map(|ruling| named(ruling).0).collect())
            }
            _ => Key::None,
        }
    }

    fn urgent(&self, asked: &Enforced) -> bool {
        !matches!(asked, Enforced::Command(Ruled::Permitted(_)) | Enforced::Scripts(_))
    }

    /// The scripts that are not run.
    fn at_once(&self, asked: &mut Enforced) -> Option<Enforced> {
        let Enforced::Scripts(rulings) = asked else { return None };
        let is_run = |ruling: &Ruled| matches!(ruling, Ruled::Permitted(_));
        let (run, refused) = std::mem::take(rulings).into_iter().partition::<Vec<_>, _>(is_run);
        *rulings = run;
        (!refused.is_empty()).then_some(Enforced::Scripts(refused))
    }

    fn admitted(&self, asked: &Enforced) {
        let rulings = match asked {
            Enforced::Command(ruling) => std::slice::from_ref(ruling),
            Enforced::Scripts(rulings) => rulings,
            _ => &[],
        };
        for ruling in rulings {
            if let Ruled::Permitted(permit) = ruling {
                self.log.accept(permit.request());
            }
        }
    }

    fn handle(self: Arc<Self>, asked: Enforced) -> BoxStream<'static, Outbound> {
        let received = received(&asked);
        let told = match asked {
            Enforced::KeepAlive(number) => stream::iter([Outbound::KeepAlive(number)]).boxed(),
            Enforced::KeepAliveAnswered(_) => stream::empty().boxed(),
            Enforced::MetricsNow => {
                let mut line = Vec::new();
                let latest = self.latest.get();
                let told =
                    latest.and_then(|latest| Format::Infinibay.encode(&latest, &mut line).ok());
                stream::iter(told.map(|()| Outbound::Metrics(line.into()))).boxed()
            }
            Enforced::Command(ruling) => self.command(ruling),
            Enforced::Scripts(rulings) => self.scripts(rulings),
        };
        match received {
            Some(received) => told.map(move |told| told.asked_at(received)).boxed(),
            None => told,
        }
    }

    fn refuse(&self, asked: Enforced) -> Vec<Outbound> {
        let write_down = |ruling: &Ruled| {
            if let Some(audit) = &self.audit {
                audit.no_room(ruling, NO_ROOM);
            }
        };
        match asked {
            Enforced::Command(ruling) => {
                write_down(&ruling);
                let ((id, action), outcome) = (named(&ruling), Outcome::refused(NO_ROOM));
                vec![Outbound::Response { id, action, outcome }]
            }
            Enforced::Scripts(rulings) => {
                rulings.iter().for_each(write_down);
                let outcome = || Outcome::refused(NO_ROOM);
                rulings.iter().map(|ruling| completed(named(ruling).0, outcome())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A script that panics is answered where it is run. Should more of them be lost with it, those that were answered
    /// have the same completion told again by their host.
    fn broken(&self, key: Key, panic: &str) -> Vec<Outbound> {
        let outcome = || Outcome::failed(format!("the agent failed at it: {panic}"));
        let mut told = match key {
            Key::Command(id, action) => vec![Outbound::Response { id, action, outcome: outcome() }],
            Key::Scripts(ids) => ids.into_iter().map(|id| completed(id, outcome())).collect(),
            Key::None => Vec::new(),
        };
        told.iter_mut().for_each(|told| self.log.finish(told));
        told
    }
}

impl Execute {
    /// One command: its answer, and then what must come after it.
    fn command(self: Arc<Self>, ruling: Ruled) -> BoxStream<'static, Outbound> {
        async_stream::stream! {
            let permit = match ruling {
                Ruled::Unclear(refusal) => {
                    self.unclear(&refusal).await;
                    yield Outbound::from(refusal);
                    return;
                }
                Ruled::Denied(denial) => {
                    self.denied(&denial).await;
                    let action = action_of(&denial.request.what);
                    let id = denial.request.id.clone();
                    yield Outbound::Response { id, action, outcome: denial.outcome() };
                    return;
                }
                Ruled::Permitted(permit) => permit,
            };
            let (id, action) = (permit.request().id.clone(), action_of(&permit.request().what));
            match self.log.claim(permit.request()) {
                Known::New => {}
                Known::UnderWay => {
                    self.not_run(&permit, UNDER_WAY).await;
                    return;
                }
                Known::Answered(told) => {
                    self.not_run(&permit, AGAIN).await;
                    yield *told;
                    return;
                }
            }
            let (outcome, afterwards) = self.carry_out(permit).await;
            yield self.ended(Outbound::Response { id, action, outcome });
            if let Some(afterwards) = afterwards {
                sleep(FLUSHED).await;
                self.perform.afterwards(afterwards).await;
            }
        }
        .boxed()
    }

    /// Does it within its time, once it is written down that it starts, and writes down what came of it.
    async fn carry_out(&self, permit: Permit) -> (Outcome, Option<Afterwards>) {
        if let Some(outcome) = self.too_late(&permit).await {
            return (outcome, None);
        }
        let permit = match self.in_force.again(permit) {
            Ok(permit) => permit,
            Err(denial) => {
                self.denied(&denial).await;
                return (denial.outcome(), None);
            }
        };
        let request = permit.request();
        let (started, ends_by, held) = (Instant::now(), request.ends_by(), request.held.clone());
        let answered_by = match request.what {
            What::Script(_) => request.deadline() + GRACE,
            What::Action(_) | What::Raw(_) => request.answered_by(),
        };
        if let Err(why) = self.start(&permit).await {
            self.not_run(&permit, &why).await;
            return (Outcome::refused(why), None);
        }
        let entry = match &self.audit {
            None => None,
            Some(audit) => match audit.begin(&permit).await {
                Ok(entry) => Some(entry),
                Err(why) => return (Outcome::refused(why), None),
            },
        };
        let done = self.perform.perform(permit.into_request().what, ends_by);
        let Done { mut outcome, afterwards } =
            timeout_at(answered_by, done).await.unwrap_or_else(|_| {
                let late = Outcome::failed("its time was over");
                let outcome = Outcome { exit_code: Some(EXIT_TIMEOUT), ..late };
                Done { outcome, afterwards: None }
            });
        outcome.took = started.elapsed();
        drop(held);
        if let Some(entry) = entry {
            entry.end(&outcome).await;
        }
        (outcome, afterwards)
    }

    /// Writes to the request log that it starts. Where that cannot be, a script does not; of what else changes the
    /// machine, what must be written down does not.
    async fn start(&self, permit: &Permit) -> Result<(), String> {
        let what = &permit.request().what;
        let kind = if matches!(what, What::Script(_)) { "script" } else { "command" };
        let started = self.log.start(&permit.request().id, what.changes_machine()).await;
        let is_required = self.audit.as_ref().is_none_or(Audit::is_required);
        match started {
            Err(why) if kind == "script" || is_required => Err(format!(
                "it cannot be written down that the {kind} begins, so it is not run: {why}"
            )),
            _ => Ok(()),
        }
    }

    /// What is told of it, once the request log knows. One that is refused, of which nothing was done, is remembered
    /// nowhere: it may be asked for again.
    fn ended(&self, mut told: Outbound) -> Outbound {
        match told.answer() {
            Some((id, outcome)) if outcome.refused => self.log.withdraw(id),
            _ => self.log.finish(&mut told),
        }
        told
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

    /// Writes down why what is permitted is not run.
    async fn not_run(&self, permit: &Permit, why: &str) {
        if let Some(audit) = &self.audit {
            audit.refused(permit.request(), permit.rule(), true, why).await;
        }
    }

    /// What is said where its time was over before its turn came, or the agent stops.
    async fn too_late(&self, permit: &Permit) -> Option<Outcome> {
        let outcome = if self.perform.is_stopping() {
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

fn completed(execution_id: String, outcome: Outcome) -> Outbound {
    Outbound::Completed { execution_id, outcome }
}

/// When the host asked.
fn received(asked: &Enforced) -> Option<Instant> {
    let of = |ruling: &Ruled| match ruling {
        Ruled::Permitted(permit) => Some(permit.request().received),
        Ruled::Denied(denial) => Some(denial.request.received),
        Ruled::Unclear(_) => None,
    };
    match asked {
        Enforced::Command(ruling) => of(ruling),
        Enforced::Scripts(rulings) => rulings.iter().find_map(of),
        _ => None,
    }
}

fn named(ruling: &Ruled) -> (String, String) {
    match ruling {
        Ruled::Permitted(permit) => {
            (permit.request().id.clone(), action_of(&permit.request().what))
        }
        Ruled::Denied(denial) => (denial.request.id.clone(), action_of(&denial.request.what)),
        Ruled::Unclear(Refusal { id, action, .. }) => (id.clone(), action.clone()),
    }
}

fn action_of(what: &What) -> String {
    policy::name(what).to_owned()
}
