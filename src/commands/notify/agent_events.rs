//! Events for the operator at the host: one short channel with many senders.

use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::pipeline::{StageStats, StatsRegistry};
use crate::wire::outbound::{AgentEvent, Severity};

/// Events that wait for the flow to the host; more are dropped and counted.
pub(crate) const EVENTS_WAITING: usize = 32;

/// A sender. Cheap to clone; never waits.
#[derive(Debug, Clone)]
pub struct AgentEvents {
    sender: Sender<AgentEvent>,
    node: Arc<StageStats>,
}

/// The receiver. Clones share it; one reads at a time.
#[derive(Debug, Clone)]
pub struct EventReceiver {
    receiver: Arc<Mutex<Receiver<AgentEvent>>>,
    node: Arc<StageStats>,
}

/// The right to receive, until it is dropped.
pub(crate) type EventLease = OwnedMutexGuard<Receiver<AgentEvent>>;

impl AgentEvents {
    /// A channel, with its counters in the node `news`.
    pub fn new(health: &StatsRegistry) -> (Self, EventReceiver) {
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        let node = health.node("events".to_owned());
        let receiver = Arc::new(Mutex::new(receiver));
        (Self { sender, node: Arc::clone(&node) }, EventReceiver { receiver, node })
    }

    /// Sends an event to the host. If [`EVENTS_WAITING`] wait, the event is dropped as `full`: the oldest events say best
    /// how a problem began.
    pub fn send(&self, event: AgentEvent) {
        self.node.received(1);
        match self.sender.try_send(event) {
            Ok(()) => self.node.sent(1),
            Err(_) => self.node.dropped("full", 1),
        }
    }
}

impl EventReceiver {
    /// Logs and counts a received event that the connected host does not understand.
    pub(super) fn not_understood(&self, event: &AgentEvent) {
        self.node.received(1); // it was given, and is not
        self.node.discarded("not_understood", 1);
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

    /// Waits for the right to receive.
    pub async fn lease(&self) -> EventLease {
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
            news.clone().send(AgentEvent {
                severity: Severity::Info,
                source: "test",
                message: number.to_string(),
                execution_id: None,
                context: None,
            });
        }
        assert_eq!(health.counts()[0].dropped, [("full", 3)]);
        let mut listening = heard.lease().await;
        assert_eq!(listening.recv().await.unwrap().message, "0");
    }
}
