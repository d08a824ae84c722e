//! What the agent tells the host of itself: the queue of events, and the reports that are made of counters.

use tokio::time::Instant;

use crate::commands::notify::agent_events::{AgentEvents, EventReceiver};
use crate::commands::notify::drop_report::DropReport;
use crate::commands::notify::spool_status::{SpoolContents, SpoolEvents};
use crate::pipeline::StatsRegistry;
use crate::wire::outbound::AgentEvent;

/// The events of the agent.
pub(in crate::agent) struct HostEvents {
    sender: AgentEvents,
    receiver: EventReceiver,
    drops: DropReport,
    spools: SpoolEvents,
    stats: StatsRegistry,
}

impl HostEvents {
    /// No events. Drops are read from `stats`.
    pub(super) fn new(stats: &StatsRegistry) -> Self {
        let (sender, receiver) = AgentEvents::new(stats);
        Self {
            sender,
            receiver,
            drops: DropReport::default(),
            spools: SpoolEvents::default(),
            stats: stats.clone(),
        }
    }

    /// Sends one; it is dropped if too many wait.
    pub(in crate::agent) fn send(&self, event: AgentEvent) {
        self.sender.send(event);
    }

    /// Sends what was dropped and how the status of `spools` has changed since the last report, if a host is connected.
    pub(super) fn report(&mut self, hosts: u64, spools: &[SpoolContents]) {
        let now = Instant::now();
        let drops = self.drops.event(now, hosts, &self.stats.counts());
        let spools = self.spools.events(now, hosts, spools);
        drops.into_iter().chain(spools).for_each(|event| self.sender.send(event));
    }

    /// The end that sends, for a flow.
    pub(super) fn sender(&self) -> &AgentEvents {
        &self.sender
    }

    /// The end that receives, for the flow that writes to the host.
    pub(super) fn receiver(&self) -> EventReceiver {
        self.receiver.clone()
    }
}
