//! Pushed scripts: one after the other, each once, whatever becomes of the others and of the agent. Does not know how
//! one is run.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_stream::stream;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::{AGAIN, Dispatch, UNDER_WAY, completed};
use crate::commands::answered::Known;
use crate::commands::enforce::{Permit, Ruling};
use crate::commands::interrupted::{INTERRUPTED, KEPT_WITHIN, before};
use crate::commands::journal::{self, Before, Journal};
use crate::commands::outcome::Outcome;
use crate::commands::reply::Told;
use crate::pipeline::panic_text;

/// Exit code of a script that came to none of its own, in the journal.
const EXIT_NONE: i32 = -1;
/// What the audit says of one that an agent before this one had.
const BEFORE: &str = "it ran before, and is not run again";

impl Dispatch {
    /// Each script of a message: its completion.
    pub(super) fn scripts(self: Arc<Self>, rulings: Vec<Ruling>) -> BoxStream<'static, Told> {
        stream! {
            let mut told = Vec::new();
            for ruling in rulings {
                let Some(completion) = self.script(ruling).await else { continue };
                let id = match &completion {
                    Told::Completed { execution_id, outcome } if !outcome.refused => {
                        Some(execution_id.clone())
                    }
                    _ => None,
                };
                yield completion;
                told.extend(id.map(|id| (Instant::now() + KEPT_WITHIN, id)));
                self.told(&mut told).await;
            }
            if let Some((last, _)) = told.last() {
                sleep_until(*last).await;
                self.told(&mut told).await;
            }
        }
        .boxed()
    }

    /// Writes down that the host was told of those whose completion is on the disk by now. No script waits for
    /// that. Should the agent end before, the next one tells it once more: with the same exit code, and without what
    /// it said.
    async fn told(&self, told: &mut Vec<(Instant, String)>) {
        let now = Instant::now();
        let kept = told.iter().take_while(|(kept, _)| *kept <= now).count();
        if kept == 0 {
            return;
        }
        let ids: Vec<_> = told.drain(..kept).map(|(_, id)| id).collect();
        let note = move |journal: &mut Journal| ids.iter().try_for_each(|id| journal.told(id));
        if let Err(error) = self.on_journal(note).await {
            tracing::error!(%error, "the end of a script will be told once more");
        }
    }

    /// One script: its completion. Its time counts from here, where its turn has come.
    ///
    /// One that is refused, of which nothing was done, is remembered nowhere: it may be offered again.
    async fn script(&self, ruling: Ruling) -> Option<Told> {
        let permit = match ruling {
            Ruling::Unclear(refusal) => {
                self.unclear(&refusal).await;
                return Some(Told::from(refusal));
            }
            Ruling::Denied(denial) => {
                self.denied(&denial).await;
                return Some(completed(denial.request.id.clone(), denial.outcome()));
            }
            Ruling::Permitted(permit) => permit.begun(Instant::now()),
        };
        let id = permit.request().id.clone();
        let known = self.known().take(&id);
        match known {
            Known::New => {}
            Known::UnderWay => {
                self.not_run(&permit, UNDER_WAY).await;
                return None;
            }
            Known::Answered(told) => {
                self.not_run(&permit, AGAIN).await;
                return Some(*told);
            }
        }
        let outcome = self.once(&id, permit).await;
        let is_refused = outcome.refused;
        let told = completed(id.clone(), outcome);
        match is_refused {
            true => self.known().forget(&id),
            false => self.known().answer(&id, &told),
        }
        Some(told)
    }

    /// Runs it, unless it has begun before.
    async fn once(&self, id: &str, permit: Permit) -> Outcome {
        if let Some(outcome) = self.too_late(&permit).await {
            return outcome;
        }
        match self.begin(id).await {
            Ok(Before::Never) => {
                // What panics is that script's own affair: the others have their turn.
                let done = AssertUnwindSafe(self.carry_out(permit)).catch_unwind().await;
                let outcome = done.map_or_else(
                    |panic| {
                        let why = panic_text(&*panic);
                        tracing::error!(why, "a script has made the agent fail");
                        Outcome::failed(format!("the agent failed at it: {why}"))
                    },
                    |(outcome, _)| outcome,
                );
                self.end(id, &outcome).await;
                outcome
            }
            Ok(Before::Begun) => {
                self.not_run(&permit, INTERRUPTED).await;
                before(None)
            }
            Ok(Before::Ended(code)) => {
                self.not_run(&permit, BEFORE).await;
                before(Some(code))
            }
            Err(why) => {
                self.not_run(&permit, &why).await;
                Outcome::refused(why)
            }
        }
    }

    async fn begin(&self, id: &str) -> Result<Before, String> {
        let id = id.to_owned();
        let why = "it cannot be written down that the script begins, so it is not run";
        self.on_journal(move |journal| journal.begin(&id))
            .await
            .map_err(|error| format!("{why}: {error}"))
    }

    async fn end(&self, id: &str, outcome: &Outcome) {
        let (id, refused) = (id.to_owned(), outcome.refused);
        let code = outcome.exit_code.unwrap_or(EXIT_NONE);
        let end = move |journal: &mut Journal| match refused {
            true => journal.forget(&id),
            false => journal.end(&id, code),
        };
        if let Err(error) = self.on_journal(end).await {
            tracing::error!(%error, "it could not be written down that a script has ended");
        }
    }

    async fn on_journal<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Journal) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        journal::on(self.journal.as_ref().ok_or("the state folder cannot be written")?, act).await
    }
}
