//! The source of messages without a request: it requests pending scripts from each host that connects, sends the events
//! of the agent to hosts that understand them, and sends the replies that an earlier agent left open.

use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;

use crate::commands::notify::agent_events::{EventLease, EventReceiver};
use crate::commands::reply::Outbound;
use crate::commands::request_log::Recovery;
use crate::pipeline::{Source, StageError};
use crate::port::AckTracker;
use crate::sync::IgnorePoison;

/// Requests pending scripts once from each host, and sends it events if it understands them.
///
/// # Why the request comes first
/// It contains the time as text: the host learns this machine's clock from it, and stamps signed messages by that clock.
/// In its reply a host can say that it understands events; one that does not would log a warning for each.
pub struct SessionStart {
    vm_id: Option<String>,
    /// Counts connects; `None` if no scripts are requested.
    hosts: Option<watch::Receiver<u64>>,
    greeted: SessionStarts,
    events: EventReceiver,
    answers: AckTracker,
    listening: Option<EventLease>,
    recovery: Option<Recovery>,
}

/// The connects at one port that the session start has handled. Outlives the flows, so that no host is handled twice.
/// Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SessionStarts(Arc<Mutex<Handled>>);

#[derive(Debug, Default)]
struct Handled {
    hosts: u64,
    /// Messages for the latest host that are still to be sent, last first.
    next: Vec<Outbound>,
}

impl SessionStart {
    /// Sends the events of `events` to the port of `answers`, and nothing else.
    pub fn new(events: EventReceiver, answers: AckTracker) -> Self {
        let (vm_id, hosts, greeted, listening, recovery) = Default::default();
        Self { vm_id, hosts, greeted, events, answers, listening, recovery }
    }

    /// Also sends the replies that an earlier agent left open.
    pub fn recovering(self, recovery: Recovery) -> Self {
        Self { recovery: Some(recovery), ..self }
    }

    /// Also requests pending scripts whenever `hosts` counts a connect that `greeted` does not have.
    pub fn requesting_scripts(
        mut self,
        vm_id: Option<String>,
        hosts: watch::Receiver<u64>,
        greeted: SessionStarts,
    ) -> Self {
        (self.vm_id, self.hosts, self.greeted) = (vm_id, Some(hosts), greeted);
        self
    }

    async fn next_message(&mut self) -> Option<Outbound> {
        let listening = match &mut self.listening {
            Some(listening) => listening,
            none => none.insert(self.events.lease().await),
        };
        loop {
            let before = {
                let mut begun = self.greeted.begun();
                if let Some(message) = begun.next.pop() {
                    return Some(message);
                }
                begun.hosts
            };
            let come = async {
                match &mut self.hosts {
                    // The end of the port ends this source.
                    Some(hosts) => {
                        hosts.wait_for(|hosts| *hosts != before).await.map(|hosts| *hosts).ok()
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                hosts = come => {
                    let vm_id = self.vm_id.clone().unwrap_or_default();
                    let next = vec![Outbound::RequestPendingScripts { vm_id }];
                    *self.greeted.begun() = Handled { hosts: hosts?, next };
                }
                event = listening.recv() => {
                    let event = event?;
                    if self.answers.events_understood() {
                        return Some(Outbound::Event(event));
                    }
                    self.events.not_understood(&event);
                }
            }
        }
    }
}

impl SessionStarts {
    fn begun(&self) -> std::sync::MutexGuard<'_, Handled> {
        self.0.lock().ignore_poison()
    }
}

impl Source for SessionStart {
    type Out = Outbound;

    fn detail(&self) -> String {
        match self.hosts {
            Some(_) => "a question for pending scripts, and events",
            None => "events",
        }
        .to_owned()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Outbound, StageError>> + Send + '_ {
        let recovered = self.recovery.take().map(Recovery::replies);
        let messages = stream::unfold(self, |this| async move {
            this.next_message().await.map(|message| (message, this))
        });
        stream::select(stream::iter(recovered).flatten(), messages).map(Ok)
    }
}
