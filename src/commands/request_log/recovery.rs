//! Crash recovery: the replies to requests that an earlier agent left open, sent once.

use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::event::Accepted;
use super::state::Phase;
use super::{Continued, Found, RequestLog, now_ms};
use crate::commands::actions::Done;
use crate::commands::audit::Audit;
use crate::commands::execute::outcome::EXIT_TIMEOUT;
use crate::commands::reply::Outbound;

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
    pub fn replies(self) -> impl Stream<Item = Outbound> + Send {
        let Self { log, audit, waiting, mut hosts } = self;
        let mut open: Vec<(u32, Phase)> = Vec::new();
        let mut going: Vec<(u32, Accepted)> = Vec::new();
        {
            let mut live = log.0.live();
            let is_first = !std::mem::replace(&mut live.is_recovered, true);
            for (number, entry) in live.state.open().filter(|(number, _)| !waiting.contains(number))
            {
                match entry.goes_on {
                    true => going.push((number, entry.accepted.clone())),
                    false if is_first => open.push((number, entry.phase)),
                    false => {}
                }
            }
        }
        open.sort_by_key(|(_, phase)| *phase == Phase::Accepted);
        stream! {
            if open.is_empty() && going.is_empty() {
                return;
            }
            let is_copy = log.is_copy();
            let [not_run, cut, done] = [Phase::Accepted, Phase::Started, Phase::Finished]
                .map(|of| open.iter().filter(|(_, phase)| *phase == of).count());
            tracing::warn!(
                not_run,
                cut,
                done,
                went_on = going.len(),
                "an earlier run ended before it had answered these requests; {}",
                match is_copy {
                    true => "that machine was copied to make this one, so the host is not told",
                    false => "the host is told",
                }
            );
            if let Some(hosts) = &mut hosts {
                let _ = hosts.wait_for(|hosts| *hosts > 0).await; // the end of the port is the end of all
            }
            let tell = |number, phase| {
                let open = {
                    let live = log.0.live();
                    // The host may have sent it again meanwhile, under another number.
                    let mut open = live.state.open();
                    open.find(|(open, _)| *open == number).map(|(_, e)| (e.accepted.clone(), e.reply(number)))
                };
                let (accepted, mut reply) = open?;
                let is_late = accepted.deadline_ms.is_some_and(|deadline| deadline <= now_ms());
                if let Some((_, outcome)) = reply.answer().filter(|_| is_late && phase == Phase::Accepted) {
                    (outcome.error, outcome.exit_code) = (Some(LATE.to_owned()), Some(EXIT_TIMEOUT));
                }
                if let (Some(audit), Some((_, outcome))) = (&audit, reply.answer())
                    && phase < Phase::Finished
                {
                    let why = outcome.error.as_deref().unwrap_or_default();
                    audit.cut(&accepted.id, &accepted.action, phase == Phase::Started, why);
                }
                if is_copy || hosts.is_some() {
                    log.acknowledge(&[number]);
                }
                (!is_copy).then_some(reply)
            };
            for (number, phase) in open {
                if let Some(reply) = tell(number, phase) {
                    yield reply;
                }
            }
            while !going.is_empty() {
                for (number, accepted) in std::mem::take(&mut going) {
                    match ended(&log, &accepted.id).await {
                        Found::Runs => going.push((number, accepted)),
                        Found::Nothing => {
                            log.0.live().state.ended(number);
                            if let Some(reply) = tell(number, Phase::Started) {
                                yield reply;
                            }
                        }
                        Found::Ended(done) => {
                            log.0.live().state.ended(number);
                            if let Some(reply) = tell_end(&log, &audit, number, &accepted, *done) {
                                yield reply;
                            }
                        }
                    }
                }
                if !going.is_empty() {
                    sleep(LOOK).await;
                }
            }
        }
    }
}

/// The reply to a request that ended without the agent, once it is recorded.
fn tell_end(
    log: &RequestLog,
    audit: &Option<Audit>,
    number: u32,
    accepted: &Accepted,
    done: Done,
) -> Option<Outbound> {
    let Done { mut outcome, afterwards } = done;
    outcome.note(afterwards.map(|_| AFTERWARDS.to_owned()));
    if let Some(audit) = audit {
        audit.ended_without_agent(&accepted.id, &accepted.action, &outcome);
    }
    let is_refused = outcome.refused;
    let mut reply = accepted.reply(outcome);
    match is_refused {
        true => log.withdraw(&accepted.id),
        false => log.finish(&mut reply),
    }
    if log.is_copy() {
        log.acknowledge(&[number]);
        return None;
    }
    Some(reply)
}

/// Looks for the end of a request. The file is removed with it.
async fn ended(log: &RequestLog, id: &str) -> Found {
    let Some(continued) = log.0.continued.clone() else { return Found::Nothing };
    let key = Continued::key(id);
    let looked = spawn_blocking(move || {
        let found = continued.look(&key);
        if !matches!(found, Found::Runs) {
            continued.remove(&key);
        }
        found
    });
    looked.await.unwrap_or(Found::Runs)
}
