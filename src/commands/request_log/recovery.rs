//! What an ended agent left untold: the host is told by the next one, once. Runs nothing.

use async_stream::stream;
use futures::Stream;
use tokio::sync::watch;

use super::audit::Audit;
use super::state::Phase;
use super::{CUT, NOT_RUN, RequestLog};
use crate::commands::reply::Outbound;

/// What is to be told, and where it is written down.
pub struct Recovery {
    /// What was asked for.
    pub log: RequestLog,
    /// Where it is written down that the end is not known.
    pub audit: Option<Audit>,
    /// Requests whose replies wait in the spool: a host will read them there.
    pub waiting: Vec<u32>,
    /// Counts the hosts that have come, where what is said is for one that is there.
    pub hosts: Option<watch::Receiver<u64>>,
}

impl Recovery {
    /// First what was cut, then what was not run, each the oldest first. Nothing the second time, where one flow takes
    /// the place of another.
    pub fn told(self) -> impl Stream<Item = Outbound> + Send {
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
            let not_run = open.iter().filter(|(_, phase)| *phase == Phase::Accepted).count();
            let cut = open.len() - not_run;
            match log.is_copy() {
                true => tracing::warn!(
                    cut,
                    not_run,
                    "what was running was another machine's, of which this one is a copy: not told"
                ),
                false => tracing::warn!(
                    cut,
                    not_run,
                    "the agent was ended while these ran; the host is told"
                ),
            }
            if let Some(hosts) = &mut hosts {
                let _ = hosts.wait_for(|hosts| *hosts > 0).await; // the end of the port is the end of all
            }
            for (number, phase) in open {
                let told = {
                    let live = log.0.live();
                    // It may have been asked for again meanwhile, and have another number.
                    live.state.open().find(|(open, _)| *open == number).map(|(_, entry)| entry.told(number))
                };
                let Some(told) = told else { continue };
                if let (Some(audit), Outbound::Response { id, action, .. }) = (&audit, &told) {
                    audit.ended(id, action, phase == Phase::Started).await;
                } else if let (Some(audit), Outbound::Completed { execution_id, .. }) = (&audit, &told) {
                    audit.ended(execution_id, crate::commands::decode::SCRIPT, phase == Phase::Started).await;
                }
                let is_copy = log.is_copy();
                if is_copy || hosts.is_some() {
                    log.acknowledge(&[number]);
                }
                if !is_copy {
                    yield told;
                }
            }
        }
    }
}

/// What the audit says of it.
pub(super) fn why(started: bool) -> &'static str {
    if started { CUT } else { NOT_RUN }
}
