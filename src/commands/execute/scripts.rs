//! Pending scripts: they run one after the other, each at most once, also over restarts of the agent. The failure of one
//! does not affect the others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_stream::stream;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{AGAIN, Execute, OTHER_PAYLOAD, UNDER_WAY, completed};
use crate::commands::authorize::Authorization;
use crate::commands::outcome::Outcome;
use crate::commands::reply::Outbound;
use crate::commands::request_log::Claim;
use crate::pipeline::panic_text;

impl Execute {
    /// The completions of the scripts of a message.
    pub(super) fn scripts(
        self: Arc<Self>,
        authorizations: Vec<Authorization>,
    ) -> BoxStream<'static, Outbound> {
        stream! {
            for authorization in authorizations {
                if let Some(reply) = self.script(authorization).await {
                    yield reply;
                }
            }
        }
        .boxed()
    }

    /// The completion of one script, whose timeout starts here. `None` if it is in progress already, or goes on
    /// while the agent stops.
    async fn script(&self, authorization: Authorization) -> Option<Outbound> {
        let permit = match authorization {
            Authorization::Malformed(refusal) => {
                self.unclear(&refusal).await;
                return Some(Outbound::from(refusal));
            }
            Authorization::Denied(denial) => {
                self.denied(&denial).await;
                return Some(completed(denial.request.id.clone(), denial.outcome()));
            }
            Authorization::Permitted(permit) => permit.begun(Instant::now()),
        };
        let id = permit.request().id.clone();
        match self.log.claim(permit.request()) {
            Claim::New => {}
            Claim::InProgress => {
                self.not_run(&permit, UNDER_WAY).await;
                return None;
            }
            Claim::Answered(reply) => {
                self.not_run(&permit, AGAIN).await;
                return Some(*reply);
            }
            Claim::OtherPayload => {
                self.not_run(&permit, OTHER_PAYLOAD).await;
                return Some(completed(id, Outcome::refused(OTHER_PAYLOAD)));
            }
        }
        // A panic ends this script only.
        let done = AssertUnwindSafe(self.carry_out(permit)).catch_unwind().await;
        let outcome = match done {
            Ok(done) => done?.0,
            Err(panic) => {
                let why = panic_text(&*panic);
                tracing::error!(why, "a script has made the agent fail");
                Outcome::failed(format!("the agent failed at it: {why}"))
            }
        };
        Some(self.record_outcome(completed(id, outcome)))
    }
}
