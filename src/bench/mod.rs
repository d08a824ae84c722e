//! Measures a pipeline: the one `run` would build, over made-up readings or lines, as fast as it goes, checked
//! against a plain loop that does the same work. It changes nothing in the pipeline but its source, and its output
//! unless that is asked for: made-up readings belong in no real file, socket, port or terminal.

mod against;
mod comparison;
mod error;
mod lines;
mod load;
mod meter;
mod output;
mod plot;
mod processors;
mod baseline;
mod report;
mod usage;

use std::path::Path;
use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::agent::Ports;
use crate::agent::{record_stages, stages};
use crate::config::{self, Destination, PipelineFile, RecordsFile, Target};
use crate::metrics::synthetic::Generator;
use crate::metrics::{collect, through};
use crate::model::Frame;
use crate::pipeline::{
    self, Context, MemoryBudget, Outcome, Pipeline, Restart, Segment, StageCounts, StatsRegistry,
    Task,
};
use crate::port::Port;
use crate::records;
use crate::records::batch::Decode;
use crate::sinks::Options;
use crate::tasks::spawn;

pub(crate) use comparison::Comparison;
pub(crate) use error::BenchError;
pub(crate) use lines::Input;
use lines::Replay;
use load::paced;
pub(crate) use load::{Curve, Load, Point, Row, Scaling};
use meter::{Delivered, Meter, Metered};
pub(crate) use output::Output;
use output::StandIn;
pub(crate) use processors::Pinned;
pub(crate) use report::Report;
use usage::{Usage, Used};

/// How long the pipeline may take to hand over what it holds when the time is over.
const DRAIN: Duration = Duration::from_secs(10);

/// How often the progress is reported.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What is going to be measured. What stands in for its output goes when this is dropped: after the runtime, whose
/// threads may still write.
pub(crate) struct Plan {
    name: String,
    keep: usize,
    /// The output of each pipeline that has run.
    outlets: Vec<StandIn>,
    output: Output,
    real: Target,
    work: Work,
}

/// What was counted in one measurement.
struct Measured {
    /// Events that all sources have handed on.
    made: u64,
    outcome: Outcome,
    used: Used,
    delivered: Delivered,
    /// The counters of all stages.
    nodes: Vec<StageCounts>,
}

/// What flows.
enum Work {
    Readings { file: Box<PipelineFile>, generator: Generator },
    Records { file: Box<RecordsFile>, input: Input, against: bool },
}

/// How far a measurement is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// How long it runs.
    pub elapsed: Duration,
    /// Readings or records that were written.
    pub delivered: u64,
}

impl Plan {
    /// Measures `pipeline`: its `[generate]`, or made-up readings of the groups that it collects, written to
    /// `output`, which stands for all that the file writes to.
    ///
    /// # Errors
    /// The file has several real outputs, or what stands in for its output cannot be made.
    pub(crate) fn new(pipeline: &config::Pipeline, output: Output) -> Result<Self, BenchError> {
        let file = Box::new(pipeline.file.clone());
        let groups: Vec<_> = file.reads().map(config::Read::group).collect();
        let (processes, seed) = match &file.generate {
            Some(generate) => (generate.processes.items(), generate.seed),
            None => (20, 1),
        };
        let generator = Generator::new(&groups, processes, seed);
        Self::of(&pipeline.name, &pipeline.file.write, output, Work::Readings { file, generator })
    }

    /// Measures `pipeline` with the lines of `input`, or made-up ones, in the place of what it reads; and, for `against`,
    /// plain loops over the same lines.
    ///
    /// # Errors
    /// The file has several real outputs, or the input or what stands in for the output cannot be made.
    pub(crate) fn of_records(
        pipeline: &config::Pipeline<RecordsFile>,
        output: Output,
        input: Option<&Path>,
        against: bool,
    ) -> Result<Self, BenchError> {
        let file = Box::new(pipeline.file.clone());
        let input = Input::new(input, decode(&file).parse_as)?;
        let work = Work::Records { file, input, against };
        Self::of(&pipeline.name, &pipeline.file.write, output, work)
    }

    fn of<F>(
        name: &str,
        writes: &[config::Write<F>],
        output: Output,
        work: Work,
    ) -> Result<Self, BenchError> {
        let is_file =
            |write: &&config::Write<F>| matches!(write.target, Target::Sink(Destination::File(_)));
        let write = match (writes, output) {
            ([write], _) => write,
            ([_, _, ..], Output::Real) => {
                return Err(BenchError::SeveralOutputs);
            }
            // What stands in for a file is rotated as that is.
            (writes @ [first, ..], _) => writes.iter().find(is_file).unwrap_or(first),
            ([], _) => return Err(BenchError::NoOutput),
        };
        let outlets = vec![StandIn::new(output, &write.target)?];
        let keep = writes.iter().map(|write| write.keep.items()).max().unwrap_or(1);
        let keep = match work {
            Work::Readings { .. } => keep,
            Work::Records { .. } => keep.min(records::FRAMES_WAITING),
        };
        let (name, real) = (name.to_owned(), write.target.clone());
        Ok(Self { name, keep, outlets, output, real, work })
    }

    /// Makes readings for `time`, waits until all of them are written, then does the same work again
    /// in a plain loop and compares. Calls `tell` twice a second until all is written.
    ///
    /// # Errors
    /// The output cannot be used.
    pub(crate) async fn run(
        &mut self,
        time: Duration,
        tell: impl FnMut(Progress),
    ) -> Result<Report, BenchError> {
        let Measured { made, outcome, used, delivered, nodes } =
            self.measure(Load::FLAT_OUT, time, tell).await?;
        let plain = match &self.work {
            Work::Readings { file, generator } => baseline::run(file, generator.clone(), made),
            Work::Records { file, input, .. } => baseline::records(file, input, made)?,
        };
        let mut report = Report::new(&self.name, made, outcome, used, delivered, plain, nodes);
        if let Work::Records { input, against: true, .. } = &self.work {
            let is_null = |one: &StandIn| matches!(one.target, Target::Sink(Destination::Null(_)));
            let writes = !self.outlets.iter().any(is_null);
            let per_cpu_second = report.speed.events_per_cpu_second;
            report.against = against::run(input, writes, time, per_cpu_second)?;
        }
        Ok(report)
    }

    /// Makes what `load` says for `time`, waits until all of it is written, and says what that took. Nothing is compared.
    ///
    /// # Errors
    /// An output cannot be used.
    pub(crate) async fn run_under(
        &mut self,
        load: Load,
        time: Duration,
        tell: impl FnMut(Progress),
    ) -> Result<Point, BenchError> {
        let measured = self.measure(load, time, tell).await?;
        Ok(Point::new(load, &measured))
    }

    async fn measure(
        &mut self,
        load: Load,
        time: Duration,
        mut tell: impl FnMut(Progress),
    ) -> Result<Measured, BenchError> {
        while self.outlets.len() < load.pipelines {
            self.outlets.push(StandIn::new(self.output, &self.real)?);
        }
        self.outlets.iter_mut().try_for_each(StandIn::read)?;
        let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
        let meter = Meter::default();
        let mut tasks = Vec::new();
        for (number, outlet) in self.outlets.iter().enumerate().take(load.pipelines) {
            let name = match number {
                0 => self.name.clone(),
                number => format!("{}-{}", self.name, number + 1),
            };
            let context = Context::new(name, &health, &stop);
            let per_second = load.per_second.map(|all| all / load.pipelines as f64);
            tasks.extend(self.flow(&context, per_second, outlet, &meter)?);
        }

        let before = Usage::now();
        let timer = spawn({
            let stop = stop.clone();
            async move {
                tokio::time::sleep(time).await;
                stop.cancel();
            }
        });
        let restart = Restart::default();
        let mut running = std::pin::pin!(pipeline::run(tasks, &restart, &stop, DRAIN));
        let outcome = loop {
            match tokio::time::timeout(PROGRESS_EVERY, &mut running).await {
                Ok(outcome) => break outcome,
                Err(_) => {
                    let elapsed = Usage::now().since(&before).wall;
                    tell(Progress { elapsed, delivered: meter.readings() });
                }
            }
        };
        let used = Usage::now().since(&before);
        timer.abort();

        let nodes = health.counts();
        let source = match &self.work {
            Work::Readings { .. } => "/generate",
            Work::Records { .. } => "/replay",
        };
        let sources = nodes.iter().filter(|node| node.node.ends_with(source));
        let made = sources.map(|node| node.sent).sum();
        Ok(Measured { made, outcome, used, delivered: meter.take(), nodes })
    }

    /// The tasks of one pipeline, which gets `per_second` events, or as many as it takes.
    fn flow(
        &self,
        context: &Context,
        per_second: Option<f64>,
        outlet: &StandIn,
        meter: &Meter,
    ) -> Result<Vec<Box<dyn Task>>, BenchError> {
        match &self.work {
            Work::Readings { file, generator } => {
                let source = paced(generator.clone(), per_second);
                let frames = through(collect(context, vec![source]), stages(file, None));
                self.end(frames, context, outlet, meter)
            }
            Work::Records { file, input, .. } => {
                let budget = MemoryBudget::default();
                let source = Replay::new(&input.path, decode(file), max_line(file), &budget);
                let source = paced(source, per_second);
                let source = records::read(context, vec![source]);
                let frames = records::through(source, record_stages(file, &budget)?);
                self.end(frames, context, outlet, meter)
            }
        }
    }

    /// Ends the flow at the output, with the meter behind it. Every frame must arrive, also at
    /// a port, or there would be nothing to check.
    fn end<S>(
        &self,
        frames: Pipeline<S>,
        context: &Context,
        outlet: &StandIn,
        meter: &Meter,
    ) -> Result<Vec<Box<dyn Task>>, BenchError>
    where
        S: Segment<Out = Frame>,
    {
        let items = self.keep;
        let Context { stats: health, stop, .. } = context;
        if let Some(sink) = outlet.target.sink().map(Options::build) {
            return Ok(frames.write(Metered::new(sink, meter.clone()), items).into_tasks());
        }
        let Target::Port(name) = &outlet.target else { return Ok(Vec::new()) };
        let target = Ports::new(None, health, stop).resolve(name)?;
        let (graph, lane) = frames.hand_to("port", target.to_string(), items);
        let node = health.node(format!("port {target}"));
        let mut port = Port::new(target, node, stop.clone());
        port.telemetry(ReceiverStream::new(lane));
        let meter = meter.clone();
        port.on_written(move |frame, now| meter.written(frame, now));
        let mut tasks = graph.into_tasks();
        tasks.push(Box::new(port));
        Ok(tasks)
    }
}

/// How the lines of a records file are read: as its first source reads them.
fn decode(file: &RecordsFile) -> Decode {
    file.read.first().map(|read| read.decode(0)).unwrap_or_default()
}

fn max_line(file: &RecordsFile) -> usize {
    let bytes = file.read.first().map_or(1 << 20, |read| read.max_line.bytes());
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
