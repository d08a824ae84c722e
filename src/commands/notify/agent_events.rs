//! What any part of the agent wants a person at the host to know: one short channel, many tellers.
//! Does not decide what is worth telling.

use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::pipeline::{StageStats, StatsRegistry};
use crate::wire::outbound::{AgentEvent, Severity};

/// Events that wait for the flow that takes them to the host; more are lost and counted.
pub const EVENTS_WAITING: usize = 32;

/// A teller. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct AgentEvents {
    sender: Sender<AgentEvent>,
    node: Arc<StageStats>,
}

/// Where the news come out. A copy is the same end: one listens at a time.
#[derive(Debug, Clone)]
pub struct EventReceiver {
    receiver: Arc<Mutex<Receiver<AgentEvent>>>,
    node: Arc<StageStats>,
}

/// The right to listen, until it is dropped.
pub type Listening = OwnedMutexGuard<Receiver<AgentEvent>>;

impl AgentEvents {
    /// A channel, with its books in a node `news`.
    pub fn new(health: &StatsRegistry) -> (Self, EventReceiver) {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        let node = health.node("news".to_owned());
        let receiver = Arc::new(Mutex::new(receiver));
        (Self { sender, node: Arc::clone(&node) }, EventReceiver { receiver, node })
    }

    /// Tells the host, when there is one and a flow to tell it with. Where too much waits already the
    /// event is lost, as `full`: the oldest tell best how it began.
    pub fn tell(&self, event: AgentEvent) {
        self.node.received(1);
        match self.sender.try_send(event) {
            Ok(()) => self.node.sent(1),
            Err(_) => self.node.dropped("full", 1),
        }
    }
}

impl EventReceiver {
    /// An event that was taken out goes to nobody: the host that is there does not understand it. The log has it.
    pub(super) fn not_understood(&self, event: &AgentEvent) {
        self.node.received(1); // it was given, and is not
        self.node.dropped("not_understood", 1);
        let AgentEvent { source, message, .. } = event;
        match event.severity {
            Severity::Warn | Severity::Error => {
                tracing::warn!(source, event = %message, "not sent: the host does not take agent events");
            }
            _ => {
                tracing::info!(source, event = %message, "not sent: the host does not take agent events")
            }
        }
    }

    /// Listens, once nobody else does.
    pub async fn listen(&self) -> Listening {
        Arc::clone(&self.receiver).lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_to_tell_and_what_is_too_much_is_counted() {
        let health = StatsRegistry::default();
        let (news, heard) = AgentEvents::new(&health);
        for number in 0..EVENTS_WAITING + 3 {
            news.clone().tell(AgentEvent {
                severity: Severity::Info,
                source: "test",
                message: number.to_string(),
                execution_id: None,
                context: None,
            });
        }
        assert_eq!(health.counts()[0].dropped, [("full", 3)]);
        let mut listening = heard.listen().await;
        assert_eq!(listening.recv().await.unwrap().message, "0");
    }
}
