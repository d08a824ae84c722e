//! Crash recovery: the replies to requests that an earlier agent left open, sent once.

use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::sync::watch;
use tokio::time::sleep;

use super::state::Phase;
use super::{Continued, EarlierRun, RequestLog, now_ms};
use crate::commands::actions::ActionOutcome;
use crate::commands::audit::Audit;
use crate::commands::process::EXIT_TIMEOUT;
use crate::commands::reply::Outbound;
use crate::sort;
use crate::tasks::spawn_blocking;

/// The error of a request that had not started, and for which its host no longer waits.
pub const LATE: &str = "the agent ended before it began, and its time was over when the next one started; it was not run";

/// Between two looks at requests that go on.
const LOOK: Duration = Duration::from_millis(500);
/// Of a request after whose reply the agent would have restarted the machine or switched it off.
const AFTERWARDS: &str = "the agent was restarted meanwhile, so it neither restarts the machine nor switches it off; ask for that";

/// The open requests of earlier agents, and where their end is recorded.
pub struct Recovery {
    /// The request log.
    pub log: RequestLog,
    /// The audit, which records that the end is unknown.
    pub audit: Option<Audit>,
    /// Requests whose replies wait in the spool, and need no other.
    pub waiting: Vec<u32>,
    /// Counts connects, if replies are best-effort and need a connected host.
    pub hosts: Option<watch::Receiver<u64>>,
}

impl Recovery {
    /// Replies to interrupted and finished requests first, then to those that did not run; each oldest first. Then to those
    /// that went on while the agent was away, as they end. Empty on the second call in a run, when one flow replaces another,
    /// but for these.
    pub fn replies(mut self) -> impl Stream<Item = Outbound> + Send {
        let mut live = self.log.0.live();
        let is_first = !std::mem::replace(&mut live.is_recovered, true);
        let (mut open, mut going) = (Vec::new(), Vec::new());
        for (number, entry) in live.state.open() {
            match entry.goes_on {
                _ if self.waiting.contains(&number) => {}
                true => going.push((number, Continued::key(&entry.accepted.id))),
                false if is_first => open.push((number, entry.phase)),
                false => {}
            }
        }
        drop(live);
        sort::by_key(&mut open, |(_, phase)| *phase == Phase::Accepted);
        stream! {
            if open.is_empty() && going.is_empty() {
                return;
            }
            let [not_run, cut, done] = [Phase::Accepted, Phase::Started, Phase::Finished]
                .map(|of| open.iter().filter(|(_, phase)| *phase == of).count());
            tracing::warn!(
                not_run,
                cut,
                done,
                went_on = going.len(),
                "an earlier run ended before it had answered these requests; {}",
                match self.log.is_copy() {
                    true => "that machine was copied to make this one, so the host is not told",
                    false => "the host is told",
                }
            );
            if let Some(hosts) = &mut self.hosts {
                let _ = hosts.wait_for(|hosts| *hosts > 0).await; // the end of the port is the end of all
            }
            for (number, _) in open {
                if let Some(reply) = self.reply(number, None) {
                    yield reply;
                }
            }
            while !going.is_empty() {
                for (number, key) in std::mem::take(&mut going) {
                    let done = match self.end(key.clone()).await {
                        EarlierRun::Runs => {
                            going.push((number, key));
                            continue;
                        }
                        EarlierRun::Nothing => None,
                        EarlierRun::Ended(done) => Some(*done),
                    };
                    if let Some(reply) = self.reply(number, done) {
                        yield reply;
                    }
                    // Not before: an agent that ends now leaves it to the next one.
                    self.forget(key).await;
                }
                if !going.is_empty() {
                    sleep(LOOK).await;
                }
            }
        }
    }

    /// Looks for the end of a request.
    async fn end(&self, key: String) -> EarlierRun {
        let Some(continued) = self.log.0.continued.clone() else { return EarlierRun::Nothing };
        spawn_blocking(move || continued.look(&key)).await.unwrap_or(EarlierRun::Runs)
    }

    /// Removes the file with the end of a request, unless that runs again.
    async fn forget(&self, key: String) {
        if let Some(continued) = self.log.0.continued.clone() {
            let remove = move || match continued.look(&key) {
                EarlierRun::Runs => {}
                _ => continued.remove(&key),
            };
            let _ = spawn_blocking(remove).await; // what is left is removed at the next start
        }
    }

    /// The reply to an open request, which has ended without the agent if there is a `done`. Records its end.
    fn reply(&self, number: u32, done: Option<ActionOutcome>) -> Option<Outbound> {
        let (accepted, phase, mut reply) = {
            let mut live = self.log.0.live();
            live.state.ended(number);
            // The host may have sent it again meanwhile, under another number.
            let (accepted, phase) = {
                let open = live.state.open();
                let entry = open.get(&number)?;
                (entry.accepted.clone(), entry.phase)
            };
            (accepted, phase, live.state.reply(number)?)
        };
        if let Some(ActionOutcome { mut outcome, afterwards }) = done {
            outcome.note(afterwards.map(|_| AFTERWARDS.to_owned()));
            if let Some(audit) = &self.audit {
                audit.ended_without_agent(&accepted.id, &accepted.action, &outcome);
            }
            let is_refused = outcome.refused;
            reply = accepted.reply(outcome);
            match is_refused {
                true => self.log.withdraw(&accepted.id),
                false => self.log.finish(&mut reply),
            }
        } else if let Some((_, outcome)) = reply.answer().filter(|_| phase < Phase::Finished) {
            let is_late = accepted.deadline_ms.is_some_and(|deadline| deadline <= now_ms());
            if is_late && phase == Phase::Accepted {
                (outcome.error, outcome.exit_code) = (Some(LATE.to_owned()), Some(EXIT_TIMEOUT));
            }
            if let Some(audit) = &self.audit {
                let why = outcome.error.as_deref().unwrap_or_default();
                audit.cut(&accepted.id, &accepted.action, phase == Phase::Started, why);
            }
        }
        let is_copy = self.log.is_copy();
        if is_copy || self.hosts.is_some() {
            self.log.acknowledge(&[number]);
        }
        (!is_copy).then_some(reply)
    }
}
