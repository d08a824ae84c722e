//! Builds the graphs of pipeline files, through the same typed builder that code uses.

use std::mem::discriminant;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::agent::command_flow::command_flow;
use crate::agent::port_registry::Ports;
use crate::agent::reload::command_state::CommandState;
use crate::commands::notify::agent_events::AgentEvents;
use crate::config::{self, Delivery, Enrich, Loaded, MemoryLimit, PipelineFile, Read};
use crate::files::StateFolder;
use crate::metrics::batch::{Batcher, Limits};
use crate::metrics::collect::{
    AgentCollector, Collector, CpuCollector, DiskCollector, HostCollector, IntervalSource,
    LoadCollector, MemoryCollector, NetworkCollector, PortsCollector, PressureCollector,
    ProcessesCollector, ProcessesOptions,
};
use crate::metrics::enrich::{Changes, Enricher, Identity, Join, Rates, Select, Tags, Top};
use crate::metrics::latest::{Latest, Remember};
use crate::metrics::serialize::Serialize;
use crate::metrics::{Stages, collect, through};
use crate::model::{Frame, Group};
use crate::pipeline::topology::Topology;
use crate::pipeline::{
    Graph, MemoryBudget, Pipeline, Ring, Segment, StageStats, StateStore, Stateful, StatsRegistry,
    Subscriber, Task,
};
use crate::port::Target;
use crate::sinks;
use crate::spool::DurableSink;
use crate::wire::Format;

/// All flows of the files, built and not started.
#[derive(Default)]
pub struct Assembly {
    /// The topology of each pipeline, in the order of the files.
    pub topologies: Vec<Topology>,
    /// The tasks of all pipelines, without those of the ports.
    pub tasks: Vec<Box<dyn Task>>,
    /// The latest readings of the metrics flows.
    pub latest: Latest,
}

/// Builds the pipelines of `loaded`, which write to the channels of `ports`.
pub fn assemble(
    loaded: &Loaded,
    ports: &mut Ports,
    health: &StatsRegistry,
    stop: &CancellationToken,
) -> Result<Assembly, String> {
    let mut assembly = Assembly::default();
    let latest = assembly.latest.clone();
    let mut add = |built: Built, ports: &mut Ports| {
        for graph in built.start(ports, &MemoryBudget::default()) {
            assembly.topologies.push(graph.picture.clone());
            assembly.tasks.extend(graph.into_tasks());
        }
    };
    for pipeline in &loaded.pipelines {
        let vm_id = loaded.agent.identity.vm_id.as_deref();
        let (state_store, memory_budget) = (&StateStore::default(), &MemoryBudget::default());
        let mut site = Site {
            vm_id,
            latest: &latest,
            ports,
            health,
            stop,
            state_store,
            memory_budget,
            limit: None,
        };
        let built = metrics_flow(pipeline, &mut site)?;
        add(built, ports);
    }
    if let Some(commands) = &loaded.commands {
        let secret = commands.file.secret()?;
        let runs = secret.is_some() && !ports.is_drawing();
        let state = StateFolder::at(&loaded.agent.state.folder);
        let command_state = CommandState::begin(&commands.file, &state, runs, stop)?;
        let (_, events) = AgentEvents::new(health);
        let vm_id = loaded.agent.identity.vm_id.as_deref();
        let (state_store, memory_budget) = (&StateStore::default(), &MemoryBudget::default());
        let mut site = Site {
            vm_id,
            latest: &latest,
            ports,
            health,
            stop,
            state_store,
            memory_budget,
            limit: None,
        };
        let built = command_flow(commands, secret, &command_state, events, &mut site)?;
        add(built, ports);
    }
    Ok(assembly)
}

/// The surroundings that a flow is built in.
pub(super) struct Site<'a> {
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
    /// The memory limit of the process.
    pub limit: Option<&'a MemoryLimit>,
}

/// A flow that is built and not started. Nothing else refers to it yet.
pub(super) struct Built {
    /// Its graphs.
    pub graphs: Vec<Graph>,
    /// The ports that it uses.
    pub targets: Vec<Target>,
    /// The feeds for ports.
    plugs: Vec<Plug>,
}

struct Plug {
    target: Target,
    feed: String,
    subscriber: Subscriber<Frame>,
    keep: usize,
    node: Arc<StageStats>,
}

impl Built {
    /// A flow without metrics.
    pub(super) fn of(graphs: Vec<Graph>, target: Target) -> Self {
        Self { graphs, targets: vec![target], plugs: Vec::new() }
    }

    /// The names of its feeds, by port.
    pub(super) fn feeds(&self) -> Vec<(Target, String)> {
        self.plugs.iter().map(|plug| (plug.target.clone(), plug.feed.clone())).collect()
    }

    /// Connects its feeds to the ports. The flow that it replaces has ended.
    pub(super) fn start(self, ports: &mut Ports, memory_budget: &MemoryBudget) -> Vec<Graph> {
        for Plug { target, feed, subscriber, keep, node } in self.plugs {
            ports.at(&target).telemetry.plug(&feed, subscriber, keep, node, memory_budget);
        }
        self.graphs
    }
}

/// Builds the metrics flow of `pipeline`.
///
/// # Errors
/// A port name is invalid, or is not a port.
pub(super) fn metrics_flow(
    pipeline: &config::Pipeline,
    site: &mut Site<'_>,
) -> Result<Built, String> {
    let (name, file) = (&pipeline.name, &pipeline.file);
    let mut stages = restored_stages(file, site.vm_id, site.state_store);
    let troubles = site.health.node(format!("{name}/troubles"));
    let remember = Remember::new(site.latest.clone(), troubles);
    stages.enrichers.insert(0, Box::new(Stateful::new(remember, site.state_store, "remember")));
    stages.serialize = stages.serialize.charging(site.memory_budget);
    let cadences = cadences(file, site);
    let frames = through(collect(name, cadences, site.health, site.stop), stages);
    end(name, frames, &file.write, site)
}

/// Adds the sinks of the file. A port, or a sink beside others, gets the newest frames from a ring; a sink that is alone
/// gets every frame.
fn end<S>(
    name: &str,
    frames: Pipeline<S>,
    write: &[config::Write],
    site: &mut Site<'_>,
) -> Result<Built, String>
where
    S: Segment<Out = Frame>,
{
    let alone = |graph| Built { graphs: vec![graph], targets: Vec::new(), plugs: Vec::new() };
    if let [config::Write { target, keep, delivery }] = write {
        let items = keep.items();
        match target {
            config::Target::Port(port) if *delivery == Delivery::Durable => {
                let target = site.ports.resolve(port)?;
                let kept =
                    DurableSink::new(target.to_string(), site.ports.at(&target).durable.clone());
                let graphs = vec![frames.write(kept, items)];
                return Ok(Built { graphs, targets: vec![target], plugs: Vec::new() });
            }
            config::Target::Port(_) => {}
            config::Target::File(file) => return Ok(alone(frames.write(file_sink(file), items))),
            config::Target::Unix(path) => {
                return Ok(alone(frames.write(sinks::Unix::new(path), items)));
            }
            config::Target::Stdout => return Ok(alone(frames.write(sinks::Stdout::new(), items))),
            config::Target::Null => return Ok(alone(frames.write(sinks::Null, items))),
        }
    }
    let keep = write.iter().map(|write| write.keep.items()).max().unwrap_or(1);
    let mut published = frames.publish(&Ring::new(keep).within(site.memory_budget));
    let (mut targets, mut plugs) = (Vec::new(), Vec::new());
    for write in write {
        published = match &write.target {
            config::Target::Port(port) if write.delivery == Delivery::Durable => {
                let target = site.ports.resolve(port)?;
                let kept =
                    DurableSink::new(target.to_string(), site.ports.at(&target).durable.clone());
                targets.push(target);
                published.write(kept)
            }
            config::Target::Port(port) => {
                let target = site.ports.resolve(port)?;
                site.ports.at(&target);
                let (subscriber, node) = published.tail("port", target.to_string());
                targets.push(target.clone());
                // `--port` may stand for several ports of the file, so the name is made unique.
                let feed = format!("{name}/{}", plugs.len());
                plugs.push(Plug { target, feed, subscriber, keep, node });
                published
            }
            config::Target::File(file) => published.write(file_sink(file)),
            config::Target::Unix(path) => published.write(sinks::Unix::new(path)),
            config::Target::Stdout => published.write(sinks::Stdout::new()),
            config::Target::Null => published.write(sinks::Null),
        };
    }
    Ok(Built { graphs: vec![published.graph()], targets, plugs })
}

/// The sink of `[write] file = { … }`.
pub fn file_sink(file: &config::FileTarget) -> sinks::File {
    let rotation = sinks::Rotation { max_bytes: file.max_size.bytes(), keep: file.keep.get() };
    sinks::File::new(&file.path, rotation)
}

/// The transforms of a file: everything between the readings and the frames.
pub fn stages(file: &PipelineFile, vm_id: Option<&str>) -> Stages {
    restored_stages(file, vm_id, &StateStore::default())
}

/// As [`stages`], with the state from `state_store`.
fn restored_stages(file: &PipelineFile, vm_id: Option<&str>, state_store: &StateStore) -> Stages {
    let enrich = |(index, enrich): (usize, &Enrich)| {
        // State is matched by position among its kind: the second `rates` of a file continues the second one.
        let same = |other: &&Enrich| discriminant(*other) == discriminant(enrich);
        let nth = file.enrich.iter().take(index).filter(same).count();
        enricher(nth, enrich, vm_id, state_store)
    };
    let mut enrichers: Vec<Enricher> = file.enrich.iter().enumerate().map(enrich).collect();
    if file.serialize.format == Format::Infinibay {
        let read = file.collect.iter().flat_map(|collect| &collect.from).map(Read::group).collect();
        let join = Join::new(file.serialize.format.needs(), lead(file)).of(read);
        enrichers.push(Box::new(Stateful::new(join, state_store, "join")));
    }
    let limits = Limits {
        max_items: file.batch.max_items.items(),
        max_bytes: usize::try_from(file.batch.max_bytes.bytes()).unwrap_or(usize::MAX),
        max_delay: file.batch.max_delay.get(),
    };
    Stages {
        enrichers,
        batcher: Batcher::new(limits),
        serialize: Serialize::new(file.serialize.format),
    }
}

fn enricher(
    nth: usize,
    enrich: &Enrich,
    vm_id: Option<&str>,
    state_store: &StateStore,
) -> Enricher {
    match enrich {
        Enrich::Identity(identify) => {
            let vm_id = identify.vm_id.clone().or_else(|| vm_id.map(str::to_owned));
            Box::new(Identity::new(crate::agent::identity::of_this_machine(vm_id)))
        }
        Enrich::Tags(tags) => Box::new(Tags::new(tags.clone())),
        Enrich::Rates(_) => {
            Box::new(Stateful::new(Rates::default(), state_store, format!("rates/{nth}")))
        }
        Enrich::Top(top) => Box::new(Top::new(top.processes.items(), top.by)),
        Enrich::Select(config::Select::Keep(groups)) => Box::new(Select::keep(groups)),
        Enrich::Select(config::Select::Drop(groups)) => Box::new(Select::drop(groups)),
        Enrich::Changes(changes) => {
            let changes = Changes::new(changes.full_every.get());
            Box::new(Stateful::new(changes, state_store, format!("changes/{nth}")))
        }
    }
}

/// The shortest interval: its readings become lines.
fn lead(file: &PipelineFile) -> Duration {
    file.collect.iter().map(|collect| collect.every.get()).min().unwrap_or(Duration::MAX)
}

fn cadences(file: &PipelineFile, site: &Site<'_>) -> Vec<IntervalSource> {
    let lead = lead(file);
    let cadence = |collect: &config::Collect| {
        let every = collect.every.get();
        let collectors = collect.from.iter().map(|read| collector(read, site.health)).collect();
        let collected = collect.from.iter().map(|read| format!("{read:?}")).collect();
        let cadence = IntervalSource::new(every, collectors).kept_on(site.state_store, collected);
        let addresses = collect.from.iter().any(|read| read.group() == Group::Network);
        if file.serialize.format == Format::Infinibay && (addresses || every == lead) {
            cadence.eager_until_address(site.latest.clone())
        } else {
            cadence
        }
    };
    file.collect.iter().map(cadence).collect()
}

fn collector(read: &Read, health: &StatsRegistry) -> Box<dyn Collector> {
    match read {
        Read::Cpu => Box::new(CpuCollector::new()),
        Read::Memory => Box::new(MemoryCollector::new()),
        Read::Load => Box::new(LoadCollector::new()),
        Read::Disk(disk) => Box::new(DiskCollector::new(disk.clone())),
        Read::Network(network) => Box::new(NetworkCollector::new(network.clone())),
        Read::Processes(processes) => Box::new(ProcessesCollector::new(ProcessesOptions {
            keep: processes.keep.items(),
            by: processes.by,
            command_line: processes.command_line,
        })),
        Read::Ports => Box::new(PortsCollector::new()),
        Read::Host => Box::new(HostCollector::new()),
        Read::Pressure => Box::new(PressureCollector::new()),
        Read::Agent => {
            let health = health.clone();
            Box::new(AgentCollector::new(Box::new(move || health.counts())))
        }
    }
}
