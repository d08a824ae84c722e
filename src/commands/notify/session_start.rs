//! What is said to a host that did not ask: when it has come, a question for pending scripts; the news of
//! the agent, where it understands them; and what an earlier agent left unanswered. The port says itself who speaks. Does not know when metrics go.

use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt, stream};
use tokio::sync::watch;

use crate::commands::notify::agent_events::{EventReceiver, Listening};
use crate::commands::reply::Outbound;
use crate::commands::request_log::Recovery;
use crate::pipeline::{Source, StageError};
use crate::port::AckTracker;
use crate::sync::IgnorePoison;

/// Asks each host once for pending scripts, and tells it the news if it understands them.
///
/// # Why a question comes first
/// It has a time as a text in it: from that today's host learns this machine's clock, by which it stamps what it signs.
/// And in its answer a host can say what it understands; today's does not, and each event would cost it a warning.
pub struct SessionStart {
    vm_id: Option<String>,
    /// Counts the hosts that have come; none where nobody is greeted.
    hosts: Option<watch::Receiver<u64>>,
    greeted: Greeted,
    heard: EventReceiver,
    answers: AckTracker,
    listening: Option<Listening>,
    recovery: Option<Recovery>,
}

/// Who was greeted at one port, which outlives the flows that greet: nobody is greeted twice. A copy is the same.
#[derive(Debug, Clone, Default)]
pub struct Greeted(Arc<Mutex<Begun>>);

#[derive(Debug, Default)]
struct Begun {
    hosts: u64,
    /// What is left to say to the host that has come, last first.
    next: Vec<Outbound>,
}

impl SessionStart {
    /// Tells the news of `heard` at the port of `answers`, and nothing else.
    pub fn new(heard: EventReceiver, answers: AckTracker) -> Self {
        let (vm_id, hosts, greeted, listening, recovery) = Default::default();
        Self { vm_id, hosts, greeted, heard, answers, listening, recovery }
    }

    /// Tells, too, what an earlier agent left untold.
    pub fn telling(self, recovery: Recovery) -> Self {
        Self { recovery: Some(recovery), ..self }
    }

    /// Greets, too, whenever `hosts` has counted another that is not known in `greeted`.
    pub fn greeting(
        mut self,
        vm_id: Option<String>,
        hosts: watch::Receiver<u64>,
        greeted: Greeted,
    ) -> Self {
        (self.vm_id, self.hosts, self.greeted) = (vm_id, Some(hosts), greeted);
        self
    }

    async fn say(&mut self) -> Option<Outbound> {
        let listening = match &mut self.listening {
            Some(listening) => listening,
            none => none.insert(self.heard.listen().await),
        };
        loop {
            let before = {
                let mut begun = self.greeted.begun();
                if let Some(told) = begun.next.pop() {
                    return Some(told);
                }
                begun.hosts
            };
            let come = async {
                match &mut self.hosts {
                    // The end of the port is the end of the greetings.
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
                    let next = vec![Outbound::ScriptsPlease { vm_id }];
                    *self.greeted.begun() = Begun { hosts: hosts?, next };
                }
                event = listening.recv() => {
                    let event = event?;
                    if self.answers.events_understood() {
                        return Some(Outbound::Event(event));
                    }
                    self.heard.not_understood(&event);
                }
            }
        }
    }
}

impl Greeted {
    fn begun(&self) -> std::sync::MutexGuard<'_, Begun> {
        self.0.lock().ignore_poison()
    }
}

impl Source for SessionStart {
    type Out = Outbound;

    fn detail(&self) -> String {
        match self.hosts {
            Some(_) => "a question for pending scripts, and news",
            None => "news",
        }
        .to_owned()
    }

    fn open(&mut self) -> impl Stream<Item = Result<Outbound, StageError>> + Send + '_ {
        let recovered = self.recovery.take().map(Recovery::told);
        let said =
            stream::unfold(self, |this| async move { this.say().await.map(|told| (told, this)) });
        stream::select(stream::iter(recovered).flatten(), said).map(Ok)
    }
}
