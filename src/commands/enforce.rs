//! The one gate that every request goes through, whatever dialect it came in. Runs nothing.
//!
//! What may be run is a [`Permit`], and only this module can make one: whatever runs requests takes
//! permits, so no request can pass beside the policy.

use std::fmt;
use std::sync::Arc;

use super::outcome::Outcome;
use super::policy::{Decision, Policy};
use super::request::Request;

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

    /// What may be run, to be taken apart.
    pub fn into_request(self) -> Request {
        self.request
    }
}

/// A request that may not be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What was asked.
    pub request: Request,
    /// The rule that denies it: `FILE:LINE`, or the file.
    pub rule: String,
    /// A sentence for the host.
    pub why: String,
}

impl Refusal {
    /// What the host is told.
    pub fn outcome(&self) -> Outcome {
        Outcome { stderr: self.why.clone(), ..Outcome::failed(self.why.clone()) }
    }
}

/// The gate. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Enforce {
    policy: Arc<Policy>,
}

impl Enforce {
    /// A gate with this policy.
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy) }
    }

    /// Lets a request through, or does not.
    pub fn pass(&self, request: Request) -> Result<Permit, Box<Refusal>> {
        match self.policy.decide(&request) {
            Decision::Allowed { rule } => {
                let timeout = self.policy.time_for(&request);
                Ok(Permit { request: Request { timeout, ..request }, rule })
            }
            Decision::Denied { rule, why } => Err(Box::new(Refusal { request, rule, why })),
        }
    }

    /// What it goes by.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
