//! What a flow is built in, and what is built: nothing of it is connected or started.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::agent::port_registry::Ports;
use crate::agent::status::StatusReport;
use crate::commands::notify::agent_events::AgentEvents;
use crate::config::{self, MemoryLimit};
use crate::files::StateFolder;
use crate::metrics::latest::Latest;
use crate::model::Frame;
use crate::pipeline::{
    BoxSink, Context, Graph, MemoryBudget, StageStats, StateStore, StatsRegistry, Subscriber,
};
use crate::port::Target;

/// What a flow is built with.
pub(super) struct FlowContext<'a> {
    /// The machine's name at its manager.
    pub vm_id: Option<&'a str>,
    /// The latest readings of the metrics flows.
    pub latest: &'a Latest,
    /// The ports it may write to.
    pub ports: &'a mut Ports,
    /// Counts what its stages do.
    pub health: &'a StatsRegistry,
    /// Ends its sources.
    pub stop: &'a CancellationToken,
    /// The state of the flow that it replaces.
    pub state_store: &'a StateStore,
    /// Bounds the bytes in its queues.
    pub memory_budget: &'a MemoryBudget,
    /// Keeps the positions of its sources.
    pub state: Option<&'a StateFolder>,
    /// The memory limit of the process.
    pub limit: Option<&'a MemoryLimit>,
    /// Takes the events of its stages, if a host may get them.
    pub events: Option<&'a AgentEvents>,
    /// Set where the flow runs for a look only.
    pub trial: Option<&'a Trial<'a>>,
    /// What the agent tells of itself.
    pub status: &'a StatusReport,
}

impl FlowContext<'_> {
    /// The context of the pipeline `name` here.
    pub(super) fn context(&self, name: &str) -> Context {
        Context::new(name, self.health, self.stop)
    }
}

/// A flow that is built and not started. Nothing else refers to it yet.
pub(super) struct Built {
    /// Its graphs.
    pub graphs: Vec<Graph>,
    /// The ports that it uses.
    pub targets: Vec<Target>,
    /// The feeds for ports.
    pub feeds: Vec<Feed>,
}

/// What a flow writes to a port: the newest of its frames.
pub(super) struct Feed {
    /// The port.
    pub target: Target,
    /// The name of the feed, which is the same after a reload.
    pub name: String,
    /// Its frames.
    pub subscriber: Subscriber<Frame>,
    /// How many frames are kept while the port does not take them.
    pub keep: usize,
    /// Counts them.
    pub node: Arc<StageStats>,
}

impl Built {
    /// A flow without metrics.
    pub(super) fn of(graphs: Vec<Graph>, target: Target) -> Self {
        Self { graphs, targets: vec![target], feeds: Vec::new() }
    }

    /// The names of its feeds, by port.
    pub(super) fn feed_names(&self) -> Vec<(Target, String)> {
        self.feeds.iter().map(|feed| (feed.target.clone(), feed.name.clone())).collect()
    }

    /// Connects its feeds to the ports. The flow that it replaces has ended.
    pub(super) fn start(self, ports: &mut Ports, memory_budget: &MemoryBudget) -> Vec<Graph> {
        for Feed { target, name, subscriber, keep, node } in self.feeds {
            ports.at(&target).telemetry.plug(&name, subscriber, keep, node, memory_budget);
        }
        self.graphs
    }
}

/// What is different where a flow runs for a look only.
pub(crate) struct Trial<'a> {
    /// Each cadence ends after so many readings.
    pub readings: u32,
    /// Makes what stands in for an output.
    pub sink: &'a dyn Fn(&config::Target) -> BoxSink<Frame>,
}
