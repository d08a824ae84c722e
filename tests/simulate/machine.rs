//! A made-up machine: carries out what the request itself says, in its time. Writes nothing down.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use infiniservice::internals::commands::actions::{ActionOutcome, Afterwards};
use infiniservice::internals::commands::execute::executor::Executor;
use infiniservice::internals::commands::outcome::Outcome;
use infiniservice::internals::commands::process::ProgramOutput;
use infiniservice::internals::commands::request::RequestKind;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::known::Shared;

/// The text of the panic of a simulated action.
pub const PANIC: &str = "simulated";

/// How a command behaves: said by the host in its text, so that nothing else decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Its number.
    pub number: u64,
    /// How long it takes.
    pub takes_ms: u64,
    /// How much it says.
    pub says: usize,
    /// How much longer than it must be its text is.
    pub pads: usize,
    /// It panics then.
    pub panics: bool,
    /// It goes on after its time is over.
    pub is_stubborn: bool,
}

impl Behaviour {
    /// One that says little and is done at once.
    pub fn quick(number: &mut u64) -> Self {
        *number += 1;
        Self { number: *number, takes_ms: 5, says: 50, pads: 0, panics: false, is_stubborn: false }
    }

    /// As the text of a command.
    pub fn text(self) -> String {
        let Self { number, takes_ms, says, pads, panics, is_stubborn } = self;
        let (panics, is_stubborn) = (u8::from(panics), u8::from(is_stubborn));
        format!("{number} {takes_ms} {says} {panics} {is_stubborn} {:pads$}", "")
    }

    fn of(text: &str) -> Option<Self> {
        let mut words = text.split(' ').map(str::parse::<u64>);
        let mut next = || words.next()?.ok();
        Some(Self {
            number: next()?,
            takes_ms: next()?,
            says: next()? as usize,
            pads: 0,
            panics: next()? == 1,
            is_stubborn: next()? == 1,
        })
    }
}

/// The machine of one life of the agent.
pub struct Machine(pub Shared);

impl Executor for Machine {
    fn execute<'a>(
        &'a self,
        _: &'a str,
        request: RequestKind,
        deadline: Instant,
        _: &'a ProgramOutput,
    ) -> BoxFuture<'a, Option<ActionOutcome>> {
        let known = Arc::clone(&self.0);
        let done = async move {
            let (text, is_script) = match request {
                RequestKind::Raw(raw) => (raw.command, false),
                RequestKind::Script(script) => (script.content, true),
                RequestKind::Action(_) => {
                    let outcome = Outcome::data(json!({"simulated": true}));
                    return ActionOutcome { outcome, afterwards: None };
                }
            };
            let Some(behaviour) = Behaviour::of(&text) else {
                let outcome = Outcome::failed("it says nothing that is understood here");
                return ActionOutcome { outcome, afterwards: None };
            };
            known.lock().began(behaviour.number, is_script);
            let ends = Instant::now() + Duration::from_millis(behaviour.takes_ms);
            if ends > deadline && !behaviour.is_stubborn {
                sleep_until(deadline).await;
                let outcome = Outcome::failed("its time was over");
                return ActionOutcome { outcome, afterwards: None };
            }
            sleep(Duration::from_millis(behaviour.takes_ms)).await;
            assert!(!behaviour.panics, "{PANIC}");
            let outcome = Outcome::text("x".repeat(behaviour.says));
            ActionOutcome { outcome, afterwards: None }
        };
        done.map(Some).boxed()
    }

    fn afterwards(&self, _: Afterwards) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
