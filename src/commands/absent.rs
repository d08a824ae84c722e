//! The place of the policy where the file of the command flow was removed while the agent runs: every request is
//! refused, and answered. Runs nothing.

use tokio::time::Instant;

use super::decode::Asked;
use super::enforce::{Denial, Enforced, Ruling};
use super::request::Request;
use crate::pipeline::{Emit, Transform};

/// Refuses every request, and lets everything else pass.
///
/// # Why somebody answers at all
/// The host that is there knows nothing of the files: it waits for each answer until the time of the command is
/// over, and shows each script as running. And it goes on answering the barriers of the port: if nobody heard, what
/// it has read would be sent once more, and the host taken for another.
#[derive(Debug)]
pub struct Absent {
    origin: String,
}

impl Absent {
    /// In the place of the file that was called `origin`.
    pub fn new(origin: &str) -> Self {
        Self { origin: origin.to_owned() }
    }

    fn denied(&self, request: &Request) -> Ruling {
        let origin = &self.origin;
        let why = format!("no commands pipeline is there ({origin} was removed): it was not done");
        Ruling::Denied(Box::new(Denial { request: request.clone(), rule: origin.clone(), why }))
    }
}

impl Transform for Absent {
    type In = Asked;
    type Out = Enforced;

    fn apply(&mut self, _now: Instant, input: &Asked, out: &mut Emit<Enforced>) {
        out.push(match input {
            Asked::Request(request) => Enforced::Command(self.denied(request)),
            Asked::Answer(refusal) => Enforced::Command(Ruling::Unclear(refusal.clone())),
            Asked::Scripts(scripts) => {
                let one = |script: &Result<Request, _>| match script {
                    Ok(request) => self.denied(request),
                    Err(refusal) => Ruling::Unclear(Clone::clone(refusal)),
                };
                Enforced::Scripts(scripts.iter().map(one).collect())
            }
            Asked::KeepAlive(number) => Enforced::KeepAlive(*number),
            Asked::KeepAliveAnswered(number) => Enforced::KeepAliveAnswered(*number),
            Asked::MetricsNow => Enforced::MetricsNow,
        });
    }
}
