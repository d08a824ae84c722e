//! The one gate that every request goes through, whatever dialect it came in. Runs nothing.
//!
//! What may be run is a [`Permit`], and only this module can make one: whatever runs requests takes
//! permits, so no request can pass beside the policy.

pub mod dry_run;
pub mod effects;
pub mod foresee;
pub mod glob;
pub mod policy;
pub mod rule;

use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::commands::authorize::policy::{Decision, Policy};
use crate::commands::decode::request::Request;
use crate::commands::decode::{self, HostMessage};
use crate::commands::execute::outcome::Outcome;
use crate::pipeline::{EventCount, Output, Transform};
use crate::sync::IgnorePoison;

/// A request that may be run, with its time cut to what the policy grants.
#[derive(Debug, Clone, PartialEq)]
pub struct Permit {
    request: Request,
    rule: String,
}

impl Permit {
    /// What may be run.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The rule that allows it: `FILE:LINE`.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// The same with its time counted from `now`: for a script, whose host waits until all of them have had their
    /// turn. A command's time counts from its receipt.
    pub fn begun(mut self, now: Instant) -> Self {
        self.request.received = now;
        self.request.age = std::time::Duration::ZERO;
        self
    }

    /// What may be run, to be taken apart.
    pub fn into_request(self) -> Request {
        self.request
    }
}

/// A request that may not be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Denial {
    /// What was asked.
    pub request: Request,
    /// The rule that denies it: `FILE:LINE`, or the file.
    pub rule: String,
    /// A sentence for the host.
    pub why: String,
}

impl Denial {
    /// What the host is told.
    pub fn outcome(&self) -> Outcome {
        Outcome { stderr: self.why.clone(), ..Outcome::refused(self.why.clone()) }
    }
}

/// What the policy says of one command or script.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruled {
    /// Run it, and answer.
    Permitted(Permit),
    /// Write it down, and answer with its outcome.
    Denied(Box<Denial>),
    /// It was not understood: answer.
    Unclear(decode::Refusal),
}

/// What the host asked for, once the policy has spoken. One for each [`HostMessage`].
#[derive(Debug, Clone, PartialEq)]
pub enum Enforced {
    /// A command, answered with a response.
    Command(Ruled),
    /// All pending scripts, each answered with a completion; none where nothing is pending.
    Scripts(Vec<Ruled>),
    /// As [`HostMessage::KeepAlive`].
    KeepAlive(u64),
    /// As [`HostMessage::KeepAliveAnswered`].
    KeepAliveAnswered(u64),
    /// As [`HostMessage::MetricsNow`].
    MetricsNow,
}

impl EventCount for Enforced {}

/// The gate. Cheap to clone.
///
/// Keep-alives and the like are no requests: they pass, and nothing in them can be run.
#[derive(Debug, Clone)]
pub struct Enforce(Rules);

#[derive(Debug, Clone)]
enum Rules {
    Policy(Arc<Policy>),
    /// Nothing may run: the file that allowed it, which was called so, was removed.
    DenyAll(Arc<str>),
}

impl Enforce {
    /// A gate with this policy.
    pub fn new(policy: Policy) -> Self {
        Self(Rules::Policy(Arc::new(policy)))
    }

    /// A gate in the place of the file that was called `origin`, which was removed while the agent runs: it denies
    /// every request.
    ///
    /// # Why requests are still answered
    /// The host knows nothing of the files: it waits for each answer until the time of the command is over, and
    /// shows each script as running. And it goes on answering the keep-alives of the port.
    pub fn deny_all(origin: &str) -> Self {
        Self(Rules::DenyAll(origin.into()))
    }

    /// Lets a request through, or does not.
    pub fn pass(&self, request: Request) -> Result<Permit, Box<Denial>> {
        let policy = match &self.0 {
            Rules::Policy(policy) => policy,
            Rules::DenyAll(origin) => {
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

    /// The rule at a place as the file has it: `FILE:LINE: { action = … }`.
    pub fn quote(&self, rule: &str) -> Option<&str> {
        match &self.0 {
            Rules::Policy(policy) => policy.quote(rule),
            Rules::DenyAll(_) => None,
        }
    }

    fn rule(&self, request: &Request) -> Ruled {
        match self.pass(request.clone()) {
            Ok(permit) => Ruled::Permitted(permit),
            Err(denial) => Ruled::Denied(denial),
        }
    }
}

/// The policy in force: that of the command flow which was started last. A copy is the same.
///
/// A request is judged when it comes, and again when its turn has come: what was reloaded while it waited
/// holds for it too.
#[derive(Debug, Clone, Default)]
pub struct InForce(Arc<Mutex<Option<Enforce>>>);

impl InForce {
    /// Requests that have not begun go by `gate` from now on.
    pub fn set(&self, gate: Enforce) {
        *self.0.lock().ignore_poison() = Some(gate);
    }

    /// The rules that what an action comes to is held against; `None` where none were set, or nothing may run.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        match self.0.lock().ignore_poison().as_ref()?.0 {
            Rules::Policy(ref policy) => Some(policy.clone()),
            Rules::DenyAll(_) => None,
        }
    }

    /// Judges a request that was let through once more; lets it through where no policy was set.
    pub fn again(&self, permit: Permit) -> Result<Permit, Box<Denial>> {
        let gate = self.0.lock().ignore_poison().clone();
        match gate {
            Some(gate) => gate.pass(permit.request),
            None => Ok(permit),
        }
    }
}

impl Transform for Enforce {
    type In = HostMessage;
    type Out = Enforced;

    fn apply(&mut self, _now: Instant, input: &HostMessage, out: &mut Output<Enforced>) {
        let one = |script: &Result<Request, decode::Refusal>| match script {
            Ok(request) => self.rule(request),
            Err(refusal) => Ruled::Unclear(refusal.clone()),
        };
        out.push(match input {
            HostMessage::Request(request) => Enforced::Command(self.rule(request)),
            HostMessage::Answer(refusal) => Enforced::Command(Ruled::Unclear(refusal.clone())),
            HostMessage::Scripts(scripts) => Enforced::Scripts(scripts.iter().map(one).collect()),
            HostMessage::KeepAlive(number) => Enforced::KeepAlive(*number),
            HostMessage::KeepAliveAnswered(number) => Enforced::KeepAliveAnswered(*number),
            HostMessage::Understands => return out.drop_items("heard", 1),
            HostMessage::MetricsNow => Enforced::MetricsNow,
        });
    }
}
