//! From pipeline files to graphs, through the same typed builder that code uses. Starts nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command_flow::command_flow;
use super::ports::Ports;
use crate::config::{self, Enrich, Loaded, PipelineFile, Read, Target};
use crate::metrics::batch::{Batcher, Limits};
use crate::metrics::collect::{
    AgentCollector, Cadence, Collector, CpuCollector, DiskCollector, HostCollector, LoadCollector,
    MemoryCollector, NetworkCollector, PortsCollector, PressureCollector, ProcessesCollector,
    ProcessesOptions,
};
use crate::metrics::enrich::{Changes, Enricher, Identity, Join, Rates, Select, Tags, Top};
use crate::metrics::latest::{Latest, Remember};
use crate::metrics::serialize::Serialize;
use crate::metrics::{Stages, collect, through};
use crate::model::{Frame, Group};
use crate::pipeline::picture::Picture;
use crate::pipeline::{Graph, Health, Pipeline, Ring, Segment, Task};
use crate::sinks;
use crate::wire::Format;

/// Everything that the files ask for, built and not started.
#[derive(Default)]
pub struct Assembly {
    /// What each pipeline looks like, in the order of the files.
    pub pictures: Vec<Picture>,
    /// The tasks of all pipelines, without those of the ports.
    pub tasks: Vec<Box<dyn Task>>,
    /// What the metrics flows have read last.
    pub latest: Latest,
}

/// Builds the pipelines of `loaded`; what they write to ports goes to lanes of `ports`.
pub fn assemble(
    loaded: &Loaded,
    ports: &mut Ports,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Assembly, String> {
    let mut assembly = Assembly::default();
    for pipeline in &loaded.pipelines {
        let vm_id = loaded.agent.identity.vm_id.as_deref();
        let (name, latest) = (&pipeline.name, &assembly.latest);
        let graph = graph(name, &pipeline.file, vm_id, latest, ports, health, stop)?;
        assembly.pictures.push(graph.picture.clone());
        assembly.tasks.extend(graph.into_tasks());
    }
    if let Some(commands) = &loaded.commands {
        let latest = assembly.latest.clone();
        for graph in command_flow(commands, &loaded.agent, &latest, ports, health, stop)? {
            assembly.pictures.push(graph.picture.clone());
            assembly.tasks.extend(graph.into_tasks());
        }
    }
    Ok(assembly)
}

fn graph(
    name: &str,
    file: &PipelineFile,
    vm_id: Option<&str>,
    latest: &Latest,
    ports: &mut Ports,
    health: &Health,
    stop: &CancellationToken,
) -> Result<Graph, String> {
    let mut stages = stages(file, vm_id);
    let troubles = health.node(format!("{name}/troubles"));
    stages.enrichers.insert(0, Box::new(Remember::new(latest.clone(), troubles)));
    let cadences = cadences(file, latest, health);
    let frames = through(collect(name, cadences, health, stop), stages);
    end(frames, &file.write, ports)
}

/// Ends a flow where the file says. A port, and anything that shares a flow, gets the newest frames
/// from a ring; a sink that has the flow for itself gets every one.
fn end<S>(frames: Pipeline<S>, write: &[config::Write], ports: &mut Ports) -> Result<Graph, String>
where
    S: Segment<Out = Frame>,
{
    if let [config::Write { target, keep, .. }] = write {
        let items = keep.items();
        match target {
            Target::Port(_) => {}
            Target::File(file) => return Ok(frames.write(file_sink(file), items)),
            Target::Unix(path) => return Ok(frames.write(sinks::Unix::new(path), items)),
            Target::Stdout => return Ok(frames.write(sinks::Stdout::new(), items)),
            Target::Null => return Ok(frames.write(sinks::Null, items)),
        }
    }
    let keep = write.iter().map(|write| write.keep.items()).max().unwrap_or(1);
    let mut published = frames.publish(&Ring::new(keep));
    for write in write {
        published = match &write.target {
            Target::Port(port) => {
                let target = ports.resolve(port)?;
                let lane = published.lane("port", target.to_string());
                ports.telemetry(target, lane);
                published
            }
            Target::File(file) => published.write(file_sink(file)),
            Target::Unix(path) => published.write(sinks::Unix::new(path)),
            Target::Stdout => published.write(sinks::Stdout::new()),
            Target::Null => published.write(sinks::Null),
        };
    }
    Ok(published.graph())
}

/// The sink of `[write] file = { … }`.
pub fn file_sink(file: &config::FileTarget) -> sinks::File {
    let rotation = sinks::Rotation { max_bytes: file.max_size.bytes(), keep: file.keep.get() };
    sinks::File::new(&file.path, rotation)
}

/// The computing part of a file: everything between the readings and the frames.
pub fn stages(file: &PipelineFile, vm_id: Option<&str>) -> Stages {
    let mut enrichers: Vec<Enricher> =
        file.enrich.iter().map(|enrich| enricher(enrich, vm_id)).collect();
    if file.serialize.format == Format::Infinibay {
        enrichers.push(Box::new(Join::new(file.serialize.format.needs(), lead(file))));
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

fn enricher(enrich: &Enrich, vm_id: Option<&str>) -> Enricher {
    match enrich {
        Enrich::Identity(identify) => {
            let vm_id = identify.vm_id.clone().or_else(|| vm_id.map(str::to_owned));
            Box::new(Identity::new(super::identity::of_this_machine(vm_id)))
        }
        Enrich::Tags(tags) => Box::new(Tags::new(tags.clone())),
        Enrich::Rates(_) => Box::new(Rates::default()),
        Enrich::Top(top) => Box::new(Top::new(top.processes.items(), top.by)),
        Enrich::Select(config::Select::Keep(groups)) => Box::new(Select::keep(groups)),
        Enrich::Select(config::Select::Drop(groups)) => Box::new(Select::drop(groups)),
        Enrich::Changes(changes) => Box::new(Changes::new(changes.full_every.get())),
    }
}

/// The quickest cadence: the one whose readings become lines.
fn lead(file: &PipelineFile) -> Duration {
    file.collect.iter().map(|collect| collect.every.get()).min().unwrap_or(Duration::MAX)
}

fn cadences(file: &PipelineFile, latest: &Latest, health: &Health) -> Vec<Cadence> {
    let lead = lead(file);
    let cadence = |collect: &config::Collect| {
        let every = collect.every.get();
        let collectors = collect.from.iter().map(|read| collector(read, health)).collect();
        let cadence = Cadence::new(every, collectors);
        let addresses = collect.from.iter().any(|read| read.group() == Group::Network);
        if file.serialize.format == Format::Infinibay && (addresses || every == lead) {
            cadence.eager_until_address(latest.clone())
        } else {
            cadence
        }
    };
    file.collect.iter().map(cadence).collect()
}

fn collector(read: &Read, health: &Health) -> Box<dyn Collector> {
    match read {
        Read::Cpu => Box::new(CpuCollector::new()),
        Read::Memory => Box::new(MemoryCollector::new()),
        Read::Load => Box::new(LoadCollector::new()),
        Read::Disk(disk) => Box::new(DiskCollector::new(disk.clone())),
        Read::Network(network) => Box::new(NetworkCollector::new(network.clone())),
        Read::Processes(processes) => Box::new(ProcessesCollector::new(ProcessesOptions {
            keep: processes.keep.items(),
            by: processes.by,
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
