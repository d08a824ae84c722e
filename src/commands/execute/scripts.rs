//! Pushed scripts: one after the other, each once, whatever becomes of the others and of the agent. Does not know how
//! one is run.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_stream::stream;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{AGAIN, Execute, UNDER_WAY, completed};
use crate::commands::authorize::Ruled;
use crate::commands::execute::outcome::Outcome;
use crate::commands::reply::Outbound;
use crate::commands::request_log::Known;
use crate::pipeline::panic_text;

impl Execute {
    /// Each script of a message: its completion.
    pub(super) fn scripts(self: Arc<Self>, rulings: Vec<Ruled>) -> BoxStream<'static, Outbound> {
        stream! {
            for ruling in rulings {
                if let Some(told) = self.script(ruling).await {
                    yield told;
                }
            }
        }
        .boxed()
    }

    /// One script: its completion. Its time counts from here, where its turn has come.
    async fn script(&self, ruling: Ruled) -> Option<Outbound> {
        let permit = match ruling {
            Ruled::Unclear(refusal) => {
                self.unclear(&refusal).await;
                return Some(Outbound::from(refusal));
            }
            Ruled::Denied(denial) => {
                self.denied(&denial).await;
                return Some(completed(denial.request.id.clone(), denial.outcome()));
            }
            Ruled::Permitted(permit) => permit.begun(Instant::now()),
        };
        let id = permit.request().id.clone();
        match self.log.claim(permit.request()) {
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
        Some(self.ended(completed(id, outcome)))
    }
}
