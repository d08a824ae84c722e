//! Crash recovery: the replies to requests that an earlier agent left open, sent once.

use async_stream::stream;
use futures::Stream;
use tokio::sync::watch;

use super::state::Phase;
use super::{RequestLog, now_ms};
use crate::commands::audit::Audit;
use crate::commands::execute::outcome::EXIT_TIMEOUT;
use crate::commands::reply::Outbound;

/// The error of a request that had not started, and for which its host no longer waits.
pub const LATE: &str = "the agent ended before it began, and its time was over when the next one started; it was not run";

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
    /// Replies to interrupted and finished requests first, then to those that did not run; each oldest first. Empty on the
    /// second call in a run, when one flow replaces another.
    pub fn replies(self) -> impl Stream<Item = Outbound> + Send {
        let Self { log, audit, waiting, mut hosts } = self;
        let mut open: Vec<(u32, Phase)> = {
            let mut live = log.0.live();
            let is_first = !std::mem::replace(&mut live.is_recovered, true);
            let open = live.state.open().map(|(number, entry)| (number, entry.phase));
            open.filter(|(number, _)| is_first && !waiting.contains(number)).collect()
        };
        open.sort_by_key(|(_, phase)| *phase == Phase::Accepted);
        stream! {
            if open.is_empty() {
                return;
            }
            let is_copy = log.is_copy();
            let [not_run, cut, done] = [Phase::Accepted, Phase::Started, Phase::Finished]
                .map(|of| open.iter().filter(|(_, phase)| *phase == of).count());
            tracing::warn!(
                not_run,
                cut,
                done,
                "an earlier run ended before it had answered these requests; {}",
                match is_copy {
                    true => "that machine was copied to make this one, so the host is not told",
                    false => "the host is told",
                }
            );
            if let Some(hosts) = &mut hosts {
                let _ = hosts.wait_for(|hosts| *hosts > 0).await; // the end of the port is the end of all
            }
            for (number, phase) in open {
                let open = {
                    let live = log.0.live();
                    // The host may have sent it again meanwhile, under another number.
                    let mut open = live.state.open();
                    open.find(|(open, _)| *open == number).map(|(_, e)| (e.accepted.clone(), e.reply(number)))
                };
                let Some((accepted, mut reply)) = open else { continue };
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
                if !is_copy {
                    yield reply;
                }
            }
        }
    }
}
