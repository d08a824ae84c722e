//! What an ended agent left untold: the host is told by the next one, once. Runs nothing.

use async_stream::stream;
use futures::Stream;
use tokio::sync::watch;

use super::RequestLog;
use super::audit::Audit;
use super::state::Phase;
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
    /// First what was cut or done, then what was not run, each the oldest first. Nothing the second time, where one flow
    /// takes the place of another.
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
            let is_copy = log.is_copy();
            let [not_run, cut, done] = [Phase::Accepted, Phase::Started, Phase::Finished]
                .map(|of| open.iter().filter(|(_, phase)| *phase == of).count());
            tracing::warn!(
                not_run,
                cut,
                done,
                "an earlier agent ended before its host knew of these; {}",
                match is_copy {
                    true => "it was that of another machine, of which this one is a copy: nobody is told",
                    false => "the host is told",
                }
            );
            if let Some(hosts) = &mut hosts {
                let _ = hosts.wait_for(|hosts| *hosts > 0).await; // the end of the port is the end of all
            }
            for (number, phase) in open {
                let open = {
                    let live = log.0.live();
                    // It may have been asked for again meanwhile, and have another number.
                    let mut open = live.state.open();
                    open.find(|(open, _)| *open == number).map(|(_, e)| (e.asked.clone(), e.told(number)))
                };
                let Some((asked, mut told)) = open else { continue };
                if let (Some(audit), Some((_, outcome))) = (&audit, told.answer())
                    && phase < Phase::Finished
                {
                    let why = outcome.error.as_deref().unwrap_or_default();
                    audit.cut(&asked.id, &asked.action, phase == Phase::Started, why);
                }
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
