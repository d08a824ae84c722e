//! Builds the graphs of pipeline files, through the same typed builder that code uses.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::agent::command_flow::command_flow;
use crate::agent::command_state::CommandState;
use crate::agent::error::AgentError;
use crate::agent::flow::{Built, Feed, FlowContext, Trial};
use crate::agent::port_registry::Ports;
use crate::agent::status::StatusReport;
use crate::commands::notify::agent_events::AgentEvents;
use crate::config::{self, Delivery, Loaded, PipelineFile, Read, RecordsFile};
use crate::files::StateFolder;
use crate::files::identity::of_this_machine;
use crate::metrics::batch::{Batcher, Limits};
use crate::metrics::collect::{CollectorContext, IntervalSource};
use crate::metrics::enrich::{self, Enricher, Join, Notify};
use crate::metrics::latest::{Latest, Remember};
use crate::metrics::serialize::Serialize;
use crate::metrics::{READINGS_WAITING, Stages, collect, through};
use crate::model::{Frame, Group};
use crate::pipeline::topology::Topology;
use crate::pipeline::{
    BoxSink, Graph, MemoryBudget, Pipeline, Published, Ring, Segment, StateStore, Stateful,
    StatsRegistry, Task,
};
use crate::port::Target;
use crate::records;
use crate::sinks::Options;
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
) -> Result<Assembly, AgentError> {
    let mut assembly = Assembly::default();
    let latest = assembly.latest.clone();
    let is_drawing = ports.is_drawing();
    let mut add = |build: Build<'_>| -> Result<(), AgentError> {
        let mut cx = FlowContext {
            vm_id: loaded.agent.identity.vm_id.as_deref(),
            latest: &latest,
            ports,
            health,
            stop,
            state_store: &StateStore::default(),
            memory_budget: &MemoryBudget::default(),
            state: Some(&StateFolder::at(&loaded.agent.state.folder)),
            limit: None,
            events: None,
            trial: None,
            status: &StatusReport::default(),
        };
        let built = build(&mut cx)?;
        for graph in built.start(ports, &MemoryBudget::default()) {
            assembly.topologies.push(graph.topology.clone());
            assembly.tasks.extend(graph.into_tasks());
        }
        Ok(())
    };
    for pipeline in &loaded.pipelines {
        add(Box::new(|cx| metrics_flow(pipeline, cx)))?;
    }
    for pipeline in &loaded.records {
        add(Box::new(|cx| records_flow(pipeline, cx)))?;
    }
    if let Some(commands) = &loaded.commands {
        let secret = commands.file.secret()?;
        let runs = secret.is_some() && !is_drawing;
        let state = StateFolder::at(&loaded.agent.state.folder);
        let command_state = CommandState::begin(&commands.file, &state, runs, stop)?;
        let (_, events) = AgentEvents::new(health);
        add(Box::new(|cx| command_flow(commands, secret, &command_state, events, cx)))?;
    }
    Ok(assembly)
}

/// Builds `pipeline` as the agent would, but for `trial`: nothing is opened, and it ends by itself.
///
/// # Errors
/// As of [`assemble`].
pub(crate) fn assemble_trial(
    pipeline: &config::Pipeline,
    vm_id: Option<&str>,
    trial: &Trial<'_>,
    health: &StatsRegistry,
    stop: &CancellationToken,
) -> Result<Vec<Box<dyn Task>>, AgentError> {
    let mut cx = FlowContext {
        vm_id,
        latest: &Latest::default(),
        ports: &mut Ports::new(None, health, stop).unchecked(),
        health,
        stop,
        state_store: &StateStore::default(),
        memory_budget: &MemoryBudget::default(),
        state: None,
        limit: None,
        events: None,
        trial: Some(trial),
        status: &StatusReport::default(),
    };
    let built = metrics_flow(pipeline, &mut cx)?;
    Ok(built.graphs.into_iter().flat_map(Graph::into_tasks).collect())
}

/// Builds one flow.
type Build<'a> = Box<dyn FnOnce(&mut FlowContext<'_>) -> Result<Built, AgentError> + 'a>;

/// Builds the metrics flow of `pipeline`.
///
/// # Errors
/// A port name is invalid, or is not a port.
pub(super) fn metrics_flow(
    pipeline: &config::Pipeline,
    cx: &mut FlowContext<'_>,
) -> Result<Built, AgentError> {
    let (name, file) = (&pipeline.name, &pipeline.file);
    let troubles = cx.health.node(format!("{name}/troubles"));
    let remember = Remember::new(cx.latest.clone(), troubles);
    let mut enrichers: Vec<Enricher> =
        vec![Box::new(Stateful::new(remember, cx.state_store, "remember"))];
    let FlowContext { vm_id, events, state_store, .. } = *cx;
    enrichers.extend(Enrichers { pipeline: name, vm_id, events, state_store }.of(file));
    let readings = collect(&cx.context(name), cadences(file, cx));
    let mut outputs = Outputs::of(name);
    let graph = if let [format] = file.formats()[..] {
        let stages = format_stages(file, format, enrichers, cx.state_store);
        let frames = through(readings, stages.charging(cx.memory_budget));
        outputs.end(frames, file.write.iter().collect(), cx)?
    } else {
        // Each format has stages of its own, behind a ring of readings.
        let mut published = readings.then_each(enrichers).publish(&Ring::new(READINGS_WAITING));
        for format in file.formats() {
            let writes = file.write.iter().filter(|write| file.format_of(write) == format);
            published = published.branch(format.name(), |readings| {
                let stages = format_stages(file, format, Vec::new(), cx.state_store);
                let frames = through(readings, stages.charging(cx.memory_budget));
                outputs.all(frames, writes.collect(), cx)
            })?;
        }
        published.graph()
    };
    Ok(outputs.built(graph))
}

/// Builds the records flow of `pipeline`.
///
/// # Errors
/// A port name is invalid, or is not a port; or a transform cannot be built.
pub(super) fn records_flow(
    pipeline: &config::Pipeline<RecordsFile>,
    cx: &mut FlowContext<'_>,
) -> Result<Built, AgentError> {
    let (name, file) = (&pipeline.name, &pipeline.file);
    let buffers = records::buffers::Buffers::new(cx.memory_budget);
    let source = |(number, read): (usize, &records::read::Read)| {
        read.source(number, name, cx.state, &buffers)
    };
    let sources = file.read.iter().enumerate().map(source).collect();
    let (mut rings, mut graphs) = (Vec::new(), Vec::new());
    for read in &file.read {
        rings.push(read.side_file().map(|options| {
            let ring = Ring::new(records::SIDE_FRAMES_WAITING).within(cx.memory_budget);
            let context = cx.context(&format!("{name}/invalid"));
            let published = Published::of(&context, &ring).with_sink(options.build());
            graphs.push(published.graph());
            ring
        }));
    }
    let mut stages = record_stages(file, cx.memory_budget)?;
    stages.transform = stages
        .transform
        .tapped(&file.transform, |stage| cx.health.tap(format!("{name}/{stage}")))
        .with_side_files(rings, cx.memory_budget);
    let lines = records::read(&cx.context(name), sources);
    let mut outputs = Outputs { waiting_max: records::FRAMES_WAITING, ..Outputs::of(name) };
    let graph = if let [_] = file.formats()[..] {
        let frames = records::through(lines, stages);
        outputs.end(frames, file.write.iter().collect(), cx)?
    } else {
        // Each format is written from a ring of batches, so that none waits for another.
        let keep = file.write.iter().map(|write| write.keep.items()).max().unwrap_or(1);
        let ring = Ring::new(keep).within(cx.memory_budget);
        let mut published = lines.then(stages.transform).publish(&ring);
        for format in file.formats() {
            let writes = file.write.iter().filter(|write| file.format_of(write) == format);
            let serialize = serialize_records(file, format, cx.memory_budget);
            published = published.branch(format.name(), |records| {
                outputs.end(records.then(serialize), writes.collect(), cx)
            })?;
        }
        published.graph()
    };
    let mut built = outputs.built(graph);
    built.graphs.extend(graphs);
    Ok(built)
}

/// The computing part of a records file, for the format of its first output.
///
/// # Errors
/// A transform cannot be built, which a file that was checked has none of.
pub fn record_stages(
    file: &RecordsFile,
    memory_budget: &MemoryBudget,
) -> Result<records::Stages, AgentError> {
    let transform = records::transform::Pass::new(&file.transform, file.batch, memory_budget)
        .map_err(|(index, problem)| AgentError::Transform(index + 1, problem))?;
    let format = file.formats().first().copied().unwrap_or(file.serialize.format);
    Ok(records::Stages { transform, serialize: serialize_records(file, format, memory_budget) })
}

/// Writes records in `format`, in frames that all outputs of this format take.
fn serialize_records(
    file: &RecordsFile,
    format: records::serialize::Format,
    memory_budget: &MemoryBudget,
) -> records::serialize::Serialize {
    let serialize = records::serialize::Serialize::new(format).charging(memory_budget);
    let mut writes = file.write.iter().filter(|write| file.format_of(write) == format);
    match writes.any(|write| matches!(write.target, config::Target::Port(_))) {
        true => serialize.for_ports(),
        false => serialize,
    }
}

/// The outputs of a flow, as they are added.
struct Outputs<'a> {
    /// The flow's name.
    name: &'a str,
    /// The ports that it uses.
    targets: Vec<Target>,
    /// The feeds for ports.
    feeds: Vec<Feed>,
    /// The most frames that wait for an only output, whatever its `keep`.
    waiting_max: usize,
}

impl<'a> Outputs<'a> {
    /// None yet.
    fn of(name: &'a str) -> Self {
        Self { name, targets: Vec::new(), feeds: Vec::new(), waiting_max: usize::MAX }
    }

    /// The flow whose outputs all are in `graph`.
    fn built(self, graph: Graph) -> Built {
        Built { graphs: vec![graph], targets: self.targets, feeds: self.feeds }
    }

    /// Adds the outputs of a flow. The only one, if it is no port, gets every frame.
    fn end<S, F>(
        &mut self,
        frames: Pipeline<S>,
        writes: Vec<&config::Write<F>>,
        cx: &mut FlowContext<'_>,
    ) -> Result<Graph, AgentError>
    where
        S: Segment<Out = Frame>,
    {
        if let [write] = writes[..]
            && let Some(sink) = self.sink(write, cx)?
        {
            return Ok(frames.write(sink, write.keep.items().min(self.waiting_max)));
        }
        self.all(frames, writes, cx)
    }

    /// Adds several: each gets the newest frames from a ring, and none slows another.
    fn all<S, F>(
        &mut self,
        frames: Pipeline<S>,
        writes: Vec<&config::Write<F>>,
        cx: &mut FlowContext<'_>,
    ) -> Result<Graph, AgentError>
    where
        S: Segment<Out = Frame>,
    {
        let keep = writes.iter().map(|write| write.keep.items()).max().unwrap_or(1);
        let mut published = frames.publish(&Ring::new(keep).within(cx.memory_budget));
        for write in writes {
            if let Some(sink) = self.sink(write, cx)? {
                published = published.with_sink(sink);
            } else if let config::Target::Port(port) = &write.target {
                let target = cx.ports.resolve(port)?;
                cx.ports.at(&target);
                let (subscriber, node) = published.subscribe_with_stats("port", target.to_string());
                self.targets.push(target.clone());
                // `--port` may stand for several ports of the file, so the name is made unique.
                let name = format!("{}/{}", self.name, self.feeds.len());
                self.feeds.push(Feed { target, name, subscriber, keep, node });
            }
        }
        Ok(published.graph())
    }

    /// The sink of `write`; a port that gets the newest frames has none.
    fn sink<F>(
        &mut self,
        write: &config::Write<F>,
        cx: &mut FlowContext<'_>,
    ) -> Result<Option<BoxSink<Frame>>, AgentError> {
        if let Some(trial) = cx.trial {
            return Ok(Some((trial.sink)(&write.target)));
        }
        match &write.target {
            config::Target::Port(port) if write.delivery == Delivery::Durable => {
                let target = cx.ports.resolve(port)?;
                let durable = cx.ports.at(&target).durable_sink(cx.stop);
                self.targets.push(target);
                Ok(Some(BoxSink::new(durable)))
            }
            target => Ok(target.sink().map(Options::build)),
        }
    }
}

/// The transforms of a file: everything between the readings and the frames of its first output. Events go to the log
/// only.
pub fn stages(file: &PipelineFile, vm_id: Option<&str>) -> Stages {
    let state_store = StateStore::default();
    let (pipeline, events) = ("", None);
    let enrichers = Enrichers { pipeline, vm_id, events, state_store: &state_store }.of(file);
    let format = file.formats().first().copied().unwrap_or(file.serialize.format);
    format_stages(file, format, enrichers, &state_store)
}

/// What the enrichers of a file are built with.
struct Enrichers<'a> {
    /// The pipeline's name.
    pipeline: &'a str,
    /// The machine's name at its manager.
    vm_id: Option<&'a str>,
    /// Takes their events.
    events: Option<&'a AgentEvents>,
    /// Has their state.
    state_store: &'a StateStore,
}

impl Enrichers<'_> {
    /// Those of `file`, in order.
    fn of(&self, file: &PipelineFile) -> Vec<Enricher> {
        let built = file.enrich.iter().enumerate().map(|(index, enrich)| {
            let before = file.enrich[..index].iter();
            let enricher_context = enrich::EnricherContext {
                pipeline: self.pipeline,
                nth: before.filter(|other| other.name() == enrich.name()).count(),
                state_store: self.state_store,
                identity: &|vm_id| of_this_machine(vm_id.or_else(|| self.vm_id.map(str::to_owned))),
                notify: &|| self.notify(),
            };
            enrich.options().build(&enricher_context)
        });
        built.collect()
    }

    /// Passes events on, where they are taken.
    fn notify(&self) -> Notify {
        let events = self.events.cloned();
        Box::new(move |event| {
            if let Some(events) = &events {
                events.send(event);
            }
        })
    }
}

/// The stages of one format, behind `enrichers`.
fn format_stages(
    file: &PipelineFile,
    format: Format,
    mut enrichers: Vec<Enricher>,
    state_store: &StateStore,
) -> Stages {
    if format.joins() {
        let read = file.collect.iter().flat_map(|collect| &collect.from).map(Read::group).collect();
        let join = Join::new(format.needs(), lead(file)).of(read);
        let name = match format {
            Format::Infinibay => "join".to_owned(),
            format => format!("join/{}", format.name()),
        };
        enrichers.push(Box::new(Stateful::new(join, state_store, name)));
    }
    let limits = Limits {
        max_items: file.batch.max_items.items(),
        max_bytes: usize::try_from(file.batch.max_bytes.bytes()).unwrap_or(usize::MAX),
        max_delay: file.batch.max_delay.get(),
    };
    Stages { enrichers, batcher: Batcher::new(limits), serialize: Serialize::new(format) }
}

/// The shortest interval: its readings become lines.
fn lead(file: &PipelineFile) -> Duration {
    file.collect.iter().map(|collect| collect.every.get()).min().unwrap_or(Duration::MAX)
}

fn cadences(file: &PipelineFile, cx: &FlowContext<'_>) -> Vec<IntervalSource> {
    let lead = lead(file);
    let collector_context = CollectorContext { stats: cx.health };
    let cadence = |collect: &config::Collect| {
        let every = collect.every.get();
        let collectors = collect.from.iter().map(|read| read.build(&collector_context)).collect();
        let collected = collect.from.iter().map(|read| format!("{read:?}")).collect();
        let cadence = IntervalSource::new(every, collectors).kept_on(cx.state_store, collected);
        if let Some(trial) = cx.trial {
            return cadence.ending_after(trial.readings);
        }
        let addresses = collect.from.iter().any(|read| read.group() == Group::Network);
        if file.formats().contains(&Format::Infinibay) && (addresses || every == lead) {
            cadence.eager_until_address(cx.latest.clone())
        } else {
            cadence
        }
    };
    file.collect.iter().map(cadence).collect()
}
