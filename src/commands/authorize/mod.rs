//! Authorization: every request, whatever message it came in, is decided by the policy here.
//!
//! A request that may run becomes a [`Permit`]. Only this module can make one, and the executor takes nothing else, so
//! no request can bypass the policy. A request is decided when it arrives, again when it starts ([`CurrentPolicy`]),
//! and its [side effects](crate::commands::actions::Action::side_effects) on this machine just before it runs.

pub(crate) mod effects;
pub(crate) mod policy;
pub(crate) mod rule;
pub(crate) mod dry_run;

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::commands::authorize::policy::{Decision, Policy};
use crate::commands::outcome::Outcome;
use crate::commands::request::{HostMessage, Refusal, Request};
use crate::pipeline::{EventCount, Output, Transform};
use crate::sync::IgnorePoison;

/// A request that may run. Its timeout is at most what the policy grants.
#[derive(Debug, Clone, PartialEq)]
pub struct Permit {
    request: Request,
    rule: String,
}

impl Permit {
    /// The request that may run.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The rule that allows it: `FILE:LINE`.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Restarts the timeout at `now`. For scripts, which run one after the other: the host expects each to have its
    /// whole timeout. A command's timeout counts from its receipt.
    pub fn begun(mut self, now: Instant) -> Self {
        self.request.received = now;
        self.request.age = std::time::Duration::ZERO;
        self
    }

    /// The request that may run, by value.
    pub fn into_request(self) -> Request {
        self.request
    }
}

/// A request that may not run.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// The request.
    pub request: Request,
    /// The rule that denies it: `FILE:LINE`, or the file.
    pub rule: String,
    /// The reason, as a sentence for the host.
    pub why: String,
}

impl Denial {
    /// The outcome that the host gets.
    pub fn outcome(&self) -> Outcome {
        Outcome { stderr: self.why.clone(), ..Outcome::refused(self.why.clone()) }
    }
}

/// The decision on one command or script.
#[derive(Debug, Clone, PartialEq)]
pub enum Authorization {
    /// It runs, and its outcome is the reply.
    Permitted(Permit),
    /// It does not run; the audit records the denial, and the reply says why.
    Denied(Box<Denial>),
    /// It could not be decoded; the reply says why.
    Malformed(Refusal),
}

/// A [`HostMessage`] after the decision on each request in it.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthorizedMessage {
    /// A command; its reply is a response.
    Command(Authorization),
    /// All pending scripts; the reply to each is a completion. Empty if nothing is pending.
    Scripts(Vec<Authorization>),
    /// As [`HostMessage::KeepAlive`].
    KeepAlive(u64),
    /// As [`HostMessage::KeepAliveAnswered`].
    KeepAliveAnswered(u64),
    /// As [`HostMessage::MetricsNow`].
    MetricsNow,
}

impl EventCount for AuthorizedMessage {}

/// The stage that applies the policy. Cheap to clone.
///
/// Keep-alives and requests for metrics pass: they run nothing.
#[derive(Debug, Clone)]
pub struct Authorize(Basis);

#[derive(Debug, Clone)]
enum Basis {
    Policy(Arc<Policy>),
    /// Nothing may run: the file of this name, which held the policy, was removed.
    DenyAll(Arc<str>),
}

impl Authorize {
    /// Applies `policy`.
    pub fn new(policy: Policy) -> Self {
        Self(Basis::Policy(Arc::new(policy)))
    }

    /// Denies every request, because the file `origin` was removed while the agent runs.
    ///
    /// # Why requests still get replies
    /// The host does not see the removal: without replies it waits until each command times out, shows each script as
    /// running, and goes on answering the keep-alives of the port.
    pub fn deny_all(origin: &str) -> Self {
        Self(Basis::DenyAll(origin.into()))
    }

    /// Decides on a request.
    pub fn decide(&self, request: Request) -> Result<Permit, Box<Denial>> {
        let policy = match &self.0 {
            Basis::Policy(policy) => policy,
            Basis::DenyAll(origin) => {
                let why = format!(
                    "no commands pipeline is there ({origin} was removed): it was not done"
                );
                return Err(Box::new(Denial { request, rule: origin.to_string(), why }));
            }
        };
        match policy.decide(&request) {
            Decision::Allowed { rule } => {
                let timeout = policy.time_for(&request);
                Ok(Permit { request: Request { timeout, ..request }, rule })
            }
            Decision::Denied { rule, why } => Err(Box::new(Denial { request, rule, why })),
        }
    }

    /// The text of the rule at `FILE:LINE`, as the file has it: `{ action = … }`.
    pub fn quote(&self, rule: &str) -> Option<&str> {
        match &self.0 {
            Basis::Policy(policy) => policy.quote(rule),
            Basis::DenyAll(_) => None,
        }
    }

    fn authorization(&self, request: &Request) -> Authorization {
        match self.decide(request.clone()) {
            Ok(permit) => Authorization::Permitted(permit),
            Err(denial) => Authorization::Denied(denial),
        }
    }
}

/// The policy of the command flow that was started last. Clones share it.
///
/// A request is decided when it arrives and again when it starts, so a policy that was reloaded while it waited applies
/// to it too.
#[derive(Debug, Clone, Default)]
pub struct CurrentPolicy(Arc<Mutex<Option<Authorize>>>);

impl CurrentPolicy {
    /// Replaces the policy for all requests that have not started.
    pub fn set(&self, stage: Authorize) {
        *self.0.lock().ignore_poison() = Some(stage);
    }

    /// The rules for the side effects of an action; `None` if none were set, or if everything is denied.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        match self.0.lock().ignore_poison().as_ref()?.0 {
            Basis::Policy(ref policy) => Some(policy.clone()),
            Basis::DenyAll(_) => None,
        }
    }

    /// Decides once more on a permitted request; permits it if no policy was set.
    pub fn recheck(&self, permit: Permit) -> Result<Permit, Box<Denial>> {
        let stage = self.0.lock().ignore_poison().clone();
        match stage {
            Some(stage) => stage.decide(permit.request),
            None => Ok(permit),
        }
    }
}

impl Transform for Authorize {
    type In = HostMessage;
    type Out = AuthorizedMessage;

    fn apply(&mut self, _now: Instant, input: &HostMessage, out: &mut Output<AuthorizedMessage>) {
        let one = |script: &Result<Request, Refusal>| match script {
            Ok(request) => self.authorization(request),
            Err(refusal) => Authorization::Malformed(refusal.clone()),
        };
        out.push(match input {
            HostMessage::Request(request) => {
                AuthorizedMessage::Command(self.authorization(request))
            }
            HostMessage::Refused(refusal) => {
                AuthorizedMessage::Command(Authorization::Malformed(refusal.clone()))
            }
            HostMessage::Scripts(scripts) => {
                AuthorizedMessage::Scripts(scripts.iter().map(one).collect())
            }
            HostMessage::KeepAlive(number) => AuthorizedMessage::KeepAlive(*number),
            HostMessage::KeepAliveAnswered(answer) => {
                AuthorizedMessage::KeepAliveAnswered(answer.number)
            }
            HostMessage::Understands => return out.discard_items("heard", 1),
            HostMessage::MetricsNow => AuthorizedMessage::MetricsNow,
        });
    }
}
