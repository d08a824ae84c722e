//! Measures a pipeline: the one `run` would build, over made-up readings, as fast as it goes, checked
//! against a plain loop that does the same work. It changes nothing in the pipeline but its source.

mod meter;
mod plain;
mod report;
mod usage;

use std::time::Duration;

use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::config::{self, PipelineFile, Target};
use crate::daemon::{Ports, file_sink, stages};
use crate::metrics::generate::Generator;
use crate::metrics::{collect, through};
use crate::model::Frame;
use crate::pipeline::{self, Graph, Health, Pipeline, Restart, Segment, Sink, Task};
use crate::port::Port;
use crate::sinks;

use meter::{Measured, Meter};
pub use report::{Latency, Report, Speed};
use usage::Usage;

/// How long the pipeline may take to hand over what it holds when the time is over.
const DRAIN: Duration = Duration::from_secs(10);

/// What is going to be measured.
pub struct Plan {
    name: String,
    file: PipelineFile,
    write: config::Write,
    generator: Generator,
}

impl Plan {
    /// Measures `pipeline`: its `[generate]`, or made-up readings of the groups that it collects.
    pub fn new(pipeline: &config::Pipeline) -> Result<Self, String> {
        let file = pipeline.file.clone();
        let [write] = &file.write[..] else {
            return Err("bench measures one way out; leave one [write] in the file".to_owned());
        };
        let groups: Vec<_> = file.reads().map(config::Read::group).collect();
        let (processes, seed) = match &file.generate {
            Some(generate) => (generate.processes.items(), generate.seed),
            None => (20, 1),
        };
        let generator = Generator::new(&groups, processes, seed);
        Ok(Self { name: pipeline.name.clone(), write: write.clone(), file, generator })
    }

    /// Makes readings for `time`, waits until all of them are written, then does the same work again
    /// in a plain loop and compares.
    pub async fn run(self, time: Duration) -> Result<Report, String> {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let source = collect(&self.name, vec![self.generator.clone()], &health, &stop);
        let frames = through(source, stages(&self.file, None));
        let meter = Meter::default();
        let tasks = self.end(frames, &meter, &health, &stop)?;

        let before = Usage::now();
        let timer = tokio::spawn({
            let stop = stop.clone();
            async move {
                tokio::time::sleep(time).await;
                stop.cancel();
            }
        });
        let outcome = pipeline::run(tasks, &Restart::default(), &stop, DRAIN).await;
        let used = Usage::now().since(&before);
        timer.abort();

        let nodes = health.counts();
        let made =
            nodes.iter().find(|node| node.node.ends_with("/generate")).map_or(0, |node| node.given);
        let plain = plain::run(&self.file, self.generator, made);
        Ok(Report::new(&self.name, made, outcome, used, meter.take(), plain, nodes))
    }

    /// Ends the flow where the file says, with the meter behind it. Every frame must arrive, also at
    /// a port, or there would be nothing to check.
    fn end<S>(
        &self,
        frames: Pipeline<S>,
        meter: &Meter,
        health: &Health,
        stop: &CancellationToken,
    ) -> Result<Vec<Box<dyn Task>>, String>
    where
        S: Segment<Out = Frame>,
    {
        let items = self.write.keep.items();
        let graph: Graph = match &self.write.target {
            Target::File(file) => measured(frames, file_sink(file), meter, items),
            Target::Unix(path) => measured(frames, sinks::Unix::new(path), meter, items),
            Target::Stdout => measured(frames, sinks::Stdout::new(), meter, items),
            Target::Null => measured(frames, sinks::Null, meter, items),
            Target::Port(name) => {
                let target = Ports::new(None, health, stop).resolve(name)?;
                let (graph, lane) = frames.hand_to("port", target.to_string(), items);
                let node = health.node(format!("port {target}"));
                let mut port = Port::new(target, node, stop.clone());
                port.telemetry(ReceiverStream::new(lane));
                let meter = meter.clone();
                port.on_written(move |frame, now| meter.written(frame, now));
                let mut tasks = graph.into_tasks();
                tasks.push(Box::new(port));
                return Ok(tasks);
            }
        };
        Ok(graph.into_tasks())
    }
}

fn measured<S: Segment<Out = Frame>, K: Sink<In = Frame>>(
    frames: Pipeline<S>,
    sink: K,
    meter: &Meter,
    items: usize,
) -> Graph {
    frames.write(Measured::new(sink, meter.clone()), items)
}
