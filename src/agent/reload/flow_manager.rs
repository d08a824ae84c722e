//! The running flows, and the change from one set of them to the next.
//!
//! # How a flow replaces another
//! 1. All new flows are built beside the running ones. If one cannot be built, nothing changes. An unchanged flow is left
//!    alone.
//! 2. The sources of replaced and removed flows are stopped.
//! 3. A metrics flow starts when its predecessor has drained and ended, or was aborted at the shutdown deadline. So no
//!    reading is repeated or out of order, no file has two writers, and the state (counters, rates, sequence numbers,
//!    latest values, time of the last reading) is complete when the new flow takes it. A drain takes milliseconds.
//! 4. A command flow starts at once: it reads the port as soon as the input of its predecessor is cut into lines. The
//!    predecessor replies to the requests that it has read, each within its own deadline, and nothing waits for that.
//! 5. Ports stay open. A new one is opened; one that no file names any more closes once its frames in flight are written.
//!
//! # Why flow by flow
//! A new generation of all flows would stop what did not change: a change of policy would cost a tick of metrics.
//! Changing a running flow in place would need a way into every stage for every setting, and would leave a flow that no
//! file describes.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::agent::assemble::{metrics_flow, records_flow};
use crate::agent::command_flow::{command_flow, deny_all_flow, events_flow, policy_stage};
use crate::agent::command_state::{CommandState, limits};
use crate::agent::error::AgentError;
use crate::agent::flow::{Built, FlowContext};
use crate::agent::port_registry::Ports;
use crate::agent::reload::flow_tasks::FlowTasks;
use crate::agent::reload::host_events::HostEvents;
use crate::agent::reload::memory_ceiling::MemoryCeiling;
use crate::agent::reload::plan::{Key, Plan, UnreadPort, Wanted};
use crate::agent::reload::report::Report;
use crate::agent::status::StatusReport;
use crate::commands::authorize::Authorize;
use crate::commands::execute::running::Running;
use crate::commands::request_log::RequestLog;
use crate::config::{AgentSettings, MemoryLimit, Read};
use crate::files::StateFolder;
use crate::metrics::latest::Latest;
use crate::model::Group;
use crate::pipeline::{Graph, Outcome, Restart, StateStore, StatsRegistry, Task};
use crate::port;
use crate::spool::Machine;
use crate::tasks::spawn_blocking;

/// The running flows, their ports, and the state that they share.
pub(in crate::agent) struct FlowManager {
    /// The settings of the start, with the sections that a reload has applied since.
    pub agent: AgentSettings,
    /// The state that the next command flow takes over.
    pub command_state: Option<CommandState>,
    /// The request log, to be closed at the end.
    log: Option<RequestLog>,
    /// Bounds the bytes in all queues.
    memory: MemoryCeiling,
    health: StatsRegistry,
    stop: CancellationToken,
    /// Sends events to the host.
    pub events: HostEvents,
    latest: Latest,
    ports: Ports,
    flows: BTreeMap<Key, Flow>,
    tasks: FlowTasks,
    running_commands: Running,
}

/// A running flow.
struct Flow {
    wanted: Wanted,
    targets: Vec<port::Target>,
    feeds: Vec<(port::Target, String)>,
    stop: CancellationToken,
    /// Cancelled when all its tasks have ended.
    ended: CancellationToken,
    state_store: StateStore,
}

/// A flow that is built and not started.
struct New {
    key: Key,
    wanted: Wanted,
    built: Option<Built>,
    tasks: Vec<Box<dyn Task>>,
    stop: CancellationToken,
    state_store: StateStore,
}

impl FlowManager {
    pub(in crate::agent) fn new(
        agent: AgentSettings,
        port: Option<port::Target>,
        health: &StatsRegistry,
        stop: &CancellationToken,
    ) -> Self {
        let ports = Ports::new(port, health, stop).for_hosts(agent.host);
        Self {
            agent,
            command_state: None,
            log: None,
            memory: MemoryCeiling::default(),
            ports,
            health: health.clone(),
            stop: stop.clone(),
            events: HostEvents::new(health),
            latest: Latest::default(),
            flows: BTreeMap::new(),
            tasks: FlowTasks::new(stop),
            running_commands: Running::default(),
        }
    }

    /// Changes to the flows of `plan`, and reports the differences.
    ///
    /// # Errors
    /// A flow cannot be built: nothing has changed.
    pub(in crate::agent) async fn change(&mut self, plan: Plan) -> Result<Report, AgentError> {
        let mut report = Report::default();
        for opening in plan.openings {
            self.ports.open(opening);
        }
        let (mut new, mut kept) = (Vec::new(), Vec::new());
        let limit = plan.limit.as_ref();
        for wanted in plan.wanted {
            let key = wanted.key();
            let shown = key.shown().map(str::to_owned);
            let list = match self.flows.get(&key) {
                Some(flow) if flow.wanted == wanted => {
                    kept.push(key);
                    report.unchanged.extend(shown);
                    continue;
                }
                Some(_) => &mut report.changed,
                None => &mut report.added,
            };
            list.extend(shown);
            let command_state =
                plan.command_state.as_ref().or(self.command_state.as_ref()).cloned();
            match self.build(key, wanted, command_state.as_ref(), limit) {
                Ok(built) => new.push(built),
                Err(why) => {
                    self.ports.drop_unstarted();
                    return Err(why);
                }
            }
        }
        // Nothing fails from here on.
        let restart = self.agent.differs_for_good(&plan.agent);
        report.restart.extend(restart.into_iter().map(str::to_owned));
        report.restart.extend(plan.at_restart);
        let applied = self.agent.differs_at_once(&plan.agent);
        report.applied.extend(applied.into_iter().map(str::to_owned));
        self.agent.shutdown = plan.agent.shutdown;
        self.agent.restart = plan.agent.restart;
        self.agent.reload = plan.agent.reload;
        self.agent.memory = plan.agent.memory;
        self.memory.set(self.agent.memory.ceiling.bytes(), plan.limit.clone());
        self.tasks.set_drain(self.agent.shutdown.deadline.get());
        if let Some(command_state) = plan.command_state {
            self.log = Some(command_state.log.clone());
            self.command_state = Some(command_state);
        }
        self.replace(new, &kept, &mut report).await;
        Ok(report)
    }

    /// Stops the flows that are not in `kept`, and starts the new ones.
    async fn replace(&mut self, new: Vec<New>, kept: &[Key], report: &mut Report) {
        for (tasks, closing) in self.ports.start() {
            // One group each: a port that has ended stops the agent, whether or not its spool task has ended.
            for task in tasks {
                self.tasks.spawn(vec![task], Restart::default(), closing.clone(), true);
            }
        }
        let mut before: BTreeMap<Key, Flow> = BTreeMap::new();
        let flows = std::mem::take(&mut self.flows);
        for (key, flow) in flows {
            if kept.contains(&key) {
                self.flows.insert(key, flow);
            } else {
                if let (Wanted::Commands { commands, .. }, Some(command_state)) =
                    (&flow.wanted, &self.command_state)
                    && !new.iter().any(|new| new.key == key)
                {
                    command_state.current_policy.set(Authorize::deny_all(&commands.origin));
                }
                flow.stop.cancel();
                before.insert(key, flow);
            }
        }
        let mut next = FuturesUnordered::new();
        for new in new {
            let before = before.remove(&new.key);
            next.push(async move {
                let Some(before) = before else { return (new, Vec::new()) };
                if let Key::Pipeline(_) = new.key {
                    before.ended.cancelled().await;
                }
                (new, before.feeds)
            });
        }
        while let Some((new, feeds)) = next.next().await {
            self.start(new, &feeds);
        }
        for (key, flow) in before {
            report.removed.extend(key.shown().map(str::to_owned));
            if let Key::Pipeline(_) = key {
                flow.ended.cancelled().await;
            }
            self.retire(&flow.feeds);
        }
        self.latest.keep(&self.groups());
        let used: Vec<_> = self.flows.values().flat_map(|flow| &flow.targets).collect();
        self.ports.keep(&used);
    }

    /// The groups that some pipeline collects.
    fn groups(&self) -> Vec<Group> {
        let files = self.flows.values().filter_map(|flow| match &flow.wanted {
            Wanted::Metrics { pipeline, .. } => Some(&pipeline.file),
            _ => None,
        });
        let reads = files.flat_map(|file| &file.collect).flat_map(|collect| &collect.from);
        reads.map(Read::group).collect()
    }

    fn build(
        &mut self,
        key: Key,
        wanted: Wanted,
        command_state: Option<&CommandState>,
        limit: Option<&MemoryLimit>,
    ) -> Result<New, AgentError> {
        let stop = self.stop.child_token();
        let state_store =
            self.flows.get(&key).map(|flow| flow.state_store.clone()).unwrap_or_default();
        let status = self.status();
        let mut cx = FlowContext {
            vm_id: self.agent.identity.vm_id.as_deref(),
            latest: &self.latest,
            ports: &mut self.ports,
            health: &self.health.replacement(),
            stop: &stop,
            state_store: &state_store,
            memory_budget: self.memory.budget(),
            state: Some(&StateFolder::at(&self.agent.state.folder)),
            limit,
            events: Some(self.events.sender()),
            trial: None,
            status: &status,
        };
        let mut tasks = Vec::new();
        let built = match (&wanted, command_state) {
            (Wanted::Metrics { pipeline, .. }, _) => Some(metrics_flow(pipeline, &mut cx)?),
            (Wanted::Records { pipeline, .. }, _) => Some(records_flow(pipeline, &mut cx)?),
            (Wanted::Commands { commands, secret, .. }, Some(command_state)) => {
                let events = self.events.receiver();
                Some(command_flow(commands, secret.clone(), command_state, events, &mut cx)?)
            }
            (Wanted::Commands { .. }, None) => None, // a plan with the one has the other
            (Wanted::UnreadPort(UnreadPort { before: Some(before), .. }), Some(command_state)) => {
                let ((commands, secret), events) = (before.clone(), self.events.receiver());
                Some(deny_all_flow(&commands, secret, command_state, events, &mut cx)?)
            }
            (Wanted::UnreadPort(UnreadPort { target, sends_events, .. }), _) => {
                tasks.push(cx.ports.at(target).discard_input(&stop));
                sends_events.then(|| events_flow(target, self.events.receiver(), &mut cx))
            }
        };
        Ok(New { key, wanted, built, tasks, stop, state_store })
    }

    /// Starts a flow in place of one whose feeds were `before`.
    fn start(&mut self, new: New, before: &[(port::Target, String)]) {
        let New { key, wanted, built, mut tasks, stop, state_store } = new;
        let (mut targets, mut feeds) = (Vec::new(), Vec::new());
        if let Some(built) = built {
            (targets, feeds) = (built.targets.clone(), built.feed_names());
            tasks.extend(
                built
                    .start(&mut self.ports, self.memory.budget())
                    .into_iter()
                    .flat_map(Graph::into_tasks),
            );
        }
        let gone: Vec<_> = before.iter().filter(|feed| !feeds.contains(feed)).cloned().collect();
        self.retire(&gone);
        let restart = match &wanted {
            Wanted::Metrics { restart, pipeline } => {
                tracing::info!(
                    pipeline = pipeline.name,
                    from = pipeline.origin,
                    "pipeline started"
                );
                restart.clone()
            }
            Wanted::Records { restart, pipeline } => {
                tracing::info!(
                    pipeline = pipeline.name,
                    from = pipeline.origin,
                    "pipeline started"
                );
                restart.clone()
            }
            Wanted::Commands { restart, commands, .. } => {
                let lock = commands.file.lock(&|name| std::env::var(name).ok());
                let from = &commands.origin;
                match lock.strip_prefix("locked: ") {
                    Some(reason) => tracing::info!(
                        from,
                        reason,
                        "command flow started without a secret: what the host asks for is refused"
                    ),
                    None => tracing::info!(
                        from,
                        secret = lock.trim_start_matches("secret from "),
                        "command flow started"
                    ),
                }
                if let Some(command_state) = &self.command_state {
                    command_state.limit.resize(limits(&commands.file));
                    command_state.current_policy.set(policy_stage(commands));
                }
                restart.clone()
            }
            Wanted::UnreadPort(unread_port) => {
                targets.push(unread_port.target.clone());
                Restart::default()
            }
        };
        let reads_replies = match &wanted {
            Wanted::Metrics { .. } | Wanted::Records { .. } => true,
            Wanted::Commands { secret, .. } => secret.is_some(),
            Wanted::UnreadPort(unread_port) => unread_port.before.is_some(),
        };
        for target in targets.iter().filter(|_| !reads_replies) {
            self.ports.at(target).ack_tracker.stop_listening();
        }
        let is_patient = !matches!(key, Key::Pipeline(_));
        let ended = self.tasks.spawn(tasks, restart, stop.clone(), is_patient);
        self.flows.insert(key, Flow { wanted, targets, feeds, stop, ended, state_store });
    }

    fn retire(&mut self, feeds: &[(port::Target, String)]) {
        for (target, feed) in feeds {
            self.ports.at(target).telemetry.retire(feed);
        }
    }

    /// Waits until one more flow or port has ended. `false` when none is left.
    pub(in crate::agent) async fn ended(&mut self) -> bool {
        self.tasks.ended().await
    }

    /// The machine was restored or cloned: the spools drop the messages of the old one.
    pub(in crate::agent) fn machine_changed(&self, machine: &Machine) {
        self.ports.machine_changed(machine);
    }

    /// Reports drops, and changes in the status of the spools, since the last report, if a host is connected.
    pub(in crate::agent) fn report_to_host(&mut self) {
        self.events.report(self.ports.connects(), &self.ports.spools().contents());
    }

    /// What the agent reports of itself, now and after later changes.
    pub(in crate::agent) fn status(&self) -> StatusReport {
        StatusReport {
            registry: self.health.clone(),
            memory_budget: self.memory.budget().clone(),
            spools: self.ports.spools(),
            ports: self.ports.report(),
            running: self.running_commands.clone(),
        }
    }

    /// The open ports, and whether each has its spool on disk.
    pub(in crate::agent) fn open(&self) -> Vec<(port::Target, bool)> {
        self.ports.targets()
    }

    /// Starts no more flows: the running ones end, and the ports after them.
    pub(in crate::agent) fn close(&mut self) {
        self.flows.clear();
        self.command_state = None;
        self.ports.close();
    }

    /// Marks the request log as closed in order, once every flow has ended.
    pub(in crate::agent) async fn close_request_log(&mut self) {
        if let Some(log) = self.log.take()
            && let Err(error) = spawn_blocking(move || log.close()).await
        {
            tracing::error!(%error, "the request log was not closed");
        }
    }

    /// The outcome of the run.
    pub(in crate::agent) fn outcome(&self) -> Outcome {
        self.tasks.outcome()
    }
}
