//! The flows that run, and the change from one set of them to the next. Reads no file, and hears no signal.
//!
//! # How one flow takes the place of another
//! 1. Everything that is new is built beside what runs, or nothing is: what cannot be built changes nothing.
//!    A flow whose file says the same as before is left alone.
//! 2. The sources of what is replaced or removed are stopped.
//! 3. A metrics flow begins when the one before it has handed on what it held and ended, within the
//!    shutdown deadline, after which it is aborted. So no reading comes twice and none out of order, no file has two writers, and
//!    what the old one knew (counters, rates, numbers, last values, when it read) is there for the new one. The
//!    readings themselves do not wait for a place, so this takes milliseconds: less than any cadence.
//! 4. A command flow begins at once: it has the port's lane as soon as what the one before it has read is
//!    cut into lines. What was taken is answered by the flow that took it, however long it takes, up to its own
//!    deadline; nobody waits for that.
//! 5. Ports stay open. One that only the new files name is opened; one that is named no more ends when what is
//!    under way there is written.
//!
//! # Why flows are replaced one by one, and not all as one generation
//! What did not change has nothing to gain from being stopped, and a change of the policy should not cost the
//! metrics a tick. And why not change a running flow in place: each setting would need a way
//! into its stage, and the flow that runs would be one that no file describes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::agent::assemble::{Built, Site, metrics_flow};
use crate::agent::command_flow::{absent_flow, command_flow, gate, news_flow};
use crate::agent::port_registry::Ports;
use crate::agent::reload::command_state::{CommandState, places};
use crate::agent::reload::plan::{Key, Plan, Unheard, Wanted};
use crate::agent::reload::report::Report;
use crate::commands::authorize::Enforce;
use crate::commands::notify::agent_events::EventReceiver;
use crate::commands::notify::drop_report::DropReport;
use crate::commands::notify::spool_status::{SpoolEvents, SpoolReport};
use crate::commands::request_log::RequestLog;
use crate::config::{AgentSettings, MemoryLimit, Read};
use crate::metrics::latest::Latest;
use crate::model::Group;
use crate::pipeline::{
    ExitStatus, Graph, MemoryBudget, Outcome, Restart, StateStore, StatsRegistry, Task, run_until,
};
use crate::port;
use crate::spool::Machine;
use crate::wire::outbound::AgentEvent;

/// What runs.
pub(in crate::agent) struct FlowManager {
    /// The settings that the agent was started with; what of them can change while it runs, as it is now.
    pub agent: AgentSettings,
    /// What a command flow leaves for the next.
    pub carried: Option<CommandState>,
    /// What was asked for.
    log: Option<RequestLog>,
    /// Where what is queued is charged.
    pub ledger: MemoryBudget,
    /// The ceiling that was told last, where it is not that of the files.
    limited: Option<(u64, MemoryLimit)>,
    losses: DropReport,
    spools: SpoolEvents,
    health: StatsRegistry,
    stop: CancellationToken,
    heard: EventReceiver,
    latest: Latest,
    ports: Ports,
    flows: BTreeMap<Key, Flow>,
    running: JoinSet<(Outcome, bool)>,
    /// Milliseconds that a flow has, once it is stopped, to hand on what it holds.
    drain_ms: Arc<AtomicU64>,
    outcome: Outcome,
}

/// One flow that runs.
struct Flow {
    wanted: Wanted,
    targets: Vec<port::Target>,
    feeds: Vec<(port::Target, String)>,
    stop: CancellationToken,
    /// Called when every task of it is gone.
    ended: CancellationToken,
    shelf: StateStore,
}

/// One that is built.
struct New {
    key: Key,
    wanted: Wanted,
    built: Option<Built>,
    tasks: Vec<Box<dyn Task>>,
    stop: CancellationToken,
    shelf: StateStore,
}

impl FlowManager {
    pub(in crate::agent) fn new(
        agent: AgentSettings,
        port: Option<port::Target>,
        health: &StatsRegistry,
        heard: EventReceiver,
        stop: &CancellationToken,
    ) -> Self {
        let ports = Ports::new(port, health, stop).for_hosts(agent.host);
        Self {
            agent,
            carried: None,
            log: None,
            ledger: MemoryBudget::default(),
            limited: None,
            losses: DropReport::default(),
            spools: SpoolEvents::default(),
            ports,
            health: health.clone(),
            stop: stop.clone(),
            heard,
            latest: Latest::default(),
            flows: BTreeMap::new(),
            running: JoinSet::new(),
            drain_ms: Arc::default(),
            outcome: Outcome { end: ExitStatus::Done, drained: true },
        }
    }

    /// Runs what `plan` says from now on, and tells what changed.
    ///
    /// # Errors
    /// Something cannot be built: nothing has changed.
    pub(in crate::agent) async fn change(&mut self, plan: Plan) -> Result<Report, String> {
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
            let carried = plan.carried.as_ref().or(self.carried.as_ref()).cloned();
            match self.build(key, wanted, carried.as_ref(), limit) {
                Ok(built) => new.push(built),
                Err(why) => {
                    self.ports.drop_unstarted();
                    return Err(why);
                }
            }
        }
        // From here on nothing fails.
        let restart = self.agent.differs_for_good(&plan.agent);
        report.restart.extend(restart.into_iter().map(str::to_owned));
        report.restart.extend(plan.late);
        let applied = self.agent.differs_at_once(&plan.agent);
        report.applied.extend(applied.into_iter().map(str::to_owned));
        self.agent.shutdown = plan.agent.shutdown;
        self.agent.restart = plan.agent.restart;
        self.agent.reload = plan.agent.reload;
        self.agent.memory = plan.agent.memory;
        self.set_ceiling(plan.limit.clone());
        let drain = self.agent.shutdown.deadline.get();
        self.drain_ms.store(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX), Relaxed);
        if let Some(carried) = plan.carried {
            self.log = Some(carried.log.clone());
            self.carried = Some(carried);
        }
        self.replace(new, &kept, &mut report).await;
        Ok(report)
    }

    /// Sets the ceiling of the settings, or less where `limit` allows less; tells which where that changed.
    fn set_ceiling(&mut self, limit: Option<MemoryLimit>) {
        let configured = self.agent.memory.ceiling.bytes();
        let ceiling = limit.as_ref().map_or(configured, |limit| limit.ceiling(configured));
        self.ledger.set_ceiling(usize::try_from(ceiling).unwrap_or(usize::MAX));
        let limited = limit.filter(|_| ceiling < configured).map(|limit| (ceiling, limit));
        if limited == self.limited {
            return;
        }
        match &limited {
            Some((ceiling, limit)) => tracing::warn!(
                ceiling,
                configured,
                %limit,
                "the memory limit is small: less is queued than the settings allow"
            ),
            None => tracing::info!(
                ceiling,
                "the memory budget is as configured again: no limit is smaller"
            ),
        }
        self.limited = limited;
    }

    /// Stops what is not among `kept`, and starts what is new.
    async fn replace(&mut self, new: Vec<New>, kept: &[Key], report: &mut Report) {
        for (tasks, closing) in self.ports.start() {
            // Each by itself: a port that is over ends the agent, whether or not its keeper has ended.
            for task in tasks {
                self.spawn(vec![task], Restart::default(), closing.clone(), true);
            }
        }
        let mut before: BTreeMap<Key, Flow> = BTreeMap::new();
        let flows = std::mem::take(&mut self.flows);
        for (key, flow) in flows {
            if kept.contains(&key) {
                self.flows.insert(key, flow);
            } else {
                if let (Wanted::Commands { commands, .. }, Some(carried)) =
                    (&flow.wanted, &self.carried)
                    && !new.iter().any(|new| new.key == key)
                {
                    carried.in_force.set(Enforce::deny_all(&commands.origin));
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
                if let Key::Metrics(_) = new.key {
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
            if let Key::Metrics(_) = key {
                flow.ended.cancelled().await;
            }
            self.retire(&flow.feeds);
        }
        self.latest.keep(&self.groups());
        let used: Vec<_> = self.flows.values().flat_map(|flow| &flow.targets).collect();
        self.ports.keep(&used);
    }

    /// What is read.
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
        carried: Option<&CommandState>,
        limit: Option<&MemoryLimit>,
    ) -> Result<New, String> {
        let stop = self.stop.child_token();
        let shelf = self.flows.get(&key).map(|flow| flow.shelf.clone()).unwrap_or_default();
        let mut site = Site {
            vm_id: self.agent.identity.vm_id.as_deref(),
            latest: &self.latest,
            ports: &mut self.ports,
            health: &self.health.anew(),
            stop: &stop,
            shelf: &shelf,
            ledger: &self.ledger,
            limit,
        };
        let mut tasks = Vec::new();
        let built = match (&wanted, carried) {
            (Wanted::Metrics { pipeline, .. }, _) => Some(metrics_flow(pipeline, &mut site)?),
            (Wanted::Commands { commands, secret, .. }, Some(carried)) => {
                let heard = self.heard.clone();
                Some(command_flow(commands, secret.clone(), carried, heard, &mut site)?)
            }
            (Wanted::Commands { .. }, None) => None, // a plan with the one has the other
            (Wanted::Unheard(Unheard { before: Some(before), .. }), Some(carried)) => {
                let ((commands, secret), heard) = (before.clone(), self.heard.clone());
                Some(absent_flow(&commands, secret, carried, heard, &mut site)?)
            }
            (Wanted::Unheard(Unheard { target, tells, .. }), _) => {
                tasks.push(site.ports.at(target).unheard(&stop));
                tells.then(|| news_flow(target, self.heard.clone(), &mut site))
            }
        };
        Ok(New { key, wanted, built, tasks, stop, shelf })
    }

    /// Starts a flow in the place of one that had `before` in the lanes of ports.
    fn start(&mut self, new: New, before: &[(port::Target, String)]) {
        let New { key, wanted, built, mut tasks, stop, shelf } = new;
        let (mut targets, mut feeds) = (Vec::new(), Vec::new());
        if let Some(built) = built {
            (targets, feeds) = (built.targets.clone(), built.feeds());
            tasks.extend(
                built.start(&mut self.ports, &self.ledger).into_iter().flat_map(Graph::into_tasks),
            );
        }
        let gone: Vec<_> = before.iter().filter(|feed| !feeds.contains(feed)).cloned().collect();
        self.retire(&gone);
        let restart = match &wanted {
            Wanted::Metrics { restart, pipeline } => {
                tracing::info!(pipeline = pipeline.name, from = pipeline.origin, "pipeline runs");
                restart.clone()
            }
            Wanted::Commands { restart, commands, .. } => {
                let lock = commands.file.lock(&|name| std::env::var(name).ok());
                let from = &commands.origin;
                match lock.strip_prefix("locked: ") {
                    Some(reason) => tracing::info!(
                        from,
                        reason,
                        "command flow runs, and is locked: what the host asks for is refused"
                    ),
                    None => tracing::info!(
                        from,
                        secret = lock.trim_start_matches("secret from "),
                        "command flow runs"
                    ),
                }
                if let Some(carried) = &self.carried {
                    carried.room.resize(places(&commands.file));
                    carried.in_force.set(gate(commands));
                }
                restart.clone()
            }
            Wanted::Unheard(unheard) => {
                targets.push(unheard.target.clone());
                Restart::default()
            }
        };
        let hears = match &wanted {
            Wanted::Metrics { .. } => true,
            Wanted::Commands { secret, .. } => secret.is_some(),
            Wanted::Unheard(unheard) => unheard.before.is_some(),
        };
        for target in targets.iter().filter(|_| !hears) {
            self.ports.at(target).answers.deaf();
        }
        let is_patient = !matches!(key, Key::Metrics(_));
        let ended = self.spawn(tasks, restart, stop.clone(), is_patient);
        self.flows.insert(key, Flow { wanted, targets, feeds, stop, ended, shelf });
    }

    fn retire(&mut self, feeds: &[(port::Target, String)]) {
        for (target, feed) in feeds {
            self.ports.at(target).relay.retire(feed);
        }
    }

    /// Runs `tasks` until they have ended. After `stop` they have the shutdown deadline to do so; patient ones
    /// have it when the whole agent stops.
    fn spawn(
        &mut self,
        tasks: Vec<Box<dyn Task>>,
        restart: Restart,
        stop: CancellationToken,
        is_patient: bool,
    ) -> CancellationToken {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let (all, drain_ms) = (self.stop.clone(), Arc::clone(&self.drain_ms));
        let begins = if is_patient { all.clone() } else { stop.clone() };
        let deadline = async move {
            begins.cancelled().await;
            sleep(Duration::from_millis(drain_ms.load(Relaxed))).await;
        };
        self.running.spawn(async move {
            let _guard = guard;
            let outcome = run_until(tasks, &restart, &stop, deadline).await;
            (outcome, all.is_cancelled())
        });
        ended
    }

    /// Waits until one more flow has ended, and books how. `false` when none is left.
    pub(in crate::agent) async fn ended(&mut self) -> bool {
        let Some(joined) = self.running.join_next().await else { return false };
        self.book(joined);
        true
    }

    fn book(&mut self, joined: Result<(Outcome, bool), JoinError>) {
        let (outcome, at_the_end) = joined.unwrap_or_else(|error| {
            tracing::error!(%error, "a flow has failed");
            (Outcome { end: ExitStatus::Spent, drained: true }, true)
        });
        if outcome.end != ExitStatus::Done {
            self.stop.cancel();
        }
        self.outcome.end = self.outcome.end.max(outcome.end);
        if at_the_end {
            self.outcome.drained &= outcome.drained;
        } else if !outcome.drained {
            tracing::warn!(
                "a pipeline did not end within the shutdown deadline; what it held is lost"
            );
        }
    }

    /// The machine has become another one: what waits for its host was said by that one.
    pub(in crate::agent) fn became(&self, machine: &Machine) {
        self.ports.became(machine);
    }

    /// What was lost since this was asked last, where there is a host to tell.
    pub(in crate::agent) fn losses(&mut self) -> Option<AgentEvent> {
        self.losses.news(Instant::now(), self.ports.connects(), &self.health.counts())
    }

    /// What waits at each port.
    pub(in crate::agent) fn spools(&self) -> SpoolReport {
        self.ports.spools()
    }

    /// How the spools do, where that is new and there is a host to tell.
    pub(in crate::agent) fn spool_news(&mut self) -> Vec<AgentEvent> {
        self.spools.news(Instant::now(), self.ports.connects(), &self.ports.spools().held())
    }

    /// The ports that are open.
    pub(in crate::agent) fn open(&self) -> Vec<(port::Target, bool)> {
        self.ports.targets()
    }

    /// No flow comes any more: what runs ends, and the ports with it.
    pub(in crate::agent) fn close(&mut self) {
        self.flows.clear();
        self.carried = None;
        self.ports.close();
    }

    /// Every flow has ended: says so in the request log.
    pub(in crate::agent) async fn ended_all(&mut self) {
        if let Some(log) = self.log.take()
            && let Err(error) = spawn_blocking(move || log.close()).await
        {
            tracing::error!(%error, "the request log was not closed");
        }
    }

    /// How it all ended.
    pub(in crate::agent) fn outcome(&self) -> Outcome {
        self.outcome
    }
}
