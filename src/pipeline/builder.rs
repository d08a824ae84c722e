//! The typed builder: a pipeline is one expression, and wrong wiring does not compile.
//!
//! It makes channels and tasks; it runs none of them (that is [`mod@super::run`]).

use std::sync::Arc;

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::chain::{Chain, Identity, Segment, Series, StageRunner};
use super::concurrency::{ConcurrencyLimit, ConcurrencyLimits};
use super::handler::{Handler, HandlerTask};
use super::ring::{Ring, Subscriber};
use super::run::Graph;
use super::stage::{EventCount, Sink, Source, Transform};
use super::stats::{StageStats, StatsRegistry};
use super::task::{Downstream, Input, SegmentTask, SinkTask, SourceTask, Upstream};
use super::topology::{Edge, Topology};

/// What all stages of a pipeline share.
#[derive(Debug, Clone)]
pub struct Context {
    /// The name of the pipeline.
    pub name: String,
    /// Where its stages count.
    pub stats: StatsRegistry,
    /// Ends its sources, and with them everything behind.
    pub stop: CancellationToken,
}

impl Context {
    /// The context of the pipeline `name`.
    pub fn new(name: impl Into<String>, stats: &StatsRegistry, stop: &CancellationToken) -> Self {
        Self { name: name.into(), stats: stats.clone(), stop: stop.clone() }
    }
}

/// A pipeline that still has an open end of type `S::Out`.
///
/// # Examples
/// An enricher takes readings and a batcher gives batches, so they fit in one order:
/// ```
/// # use infiniservice::metrics::{batch::Batcher, enrich::Tags};
/// # use infiniservice::model::SystemMetrics;
/// # use infiniservice::pipeline::{Identity, Pipeline};
/// fn right(readings: Pipeline<Identity<SystemMetrics>>, tags: Tags, batch: Batcher) {
///     let batches = readings.then(tags).then(batch);
/// }
/// ```
/// The other order does not compile:
/// ```compile_fail,E0271
/// # use infiniservice::metrics::{batch::Batcher, enrich::Tags};
/// # use infiniservice::model::SystemMetrics;
/// # use infiniservice::pipeline::{Identity, Pipeline};
/// fn wrong(readings: Pipeline<Identity<SystemMetrics>>, tags: Tags, batch: Batcher) {
///     let batches = readings.then(batch).then(tags);
/// }
/// ```
#[must_use = "a pipeline does nothing until it is ended with `write` or `publish` and run"]
pub struct Pipeline<S: Segment> {
    graph: Graph,
    stats: StatsRegistry,
    inbox: Upstream<S::In>,
    segment: S,
    /// The counters of the last stage of the segment.
    last: Option<Arc<StageStats>>,
    /// Stages of the topology that feed the next one, and how.
    ends: Vec<usize>,
    edge: Edge,
}

impl<T: EventCount + Send + 'static> Pipeline<Identity<T>> {
    /// Starts a pipeline with any number of sources of one type, a task for each, all into one
    /// mpsc channel of `items`.
    pub fn from_sources<S: Source<Out = T>>(
        context: &Context,
        sources: impl IntoIterator<Item = S>,
        items: usize,
    ) -> Self {
        let Context { name, stats, stop } = context;
        let (sender, inbox) = mpsc::channel(items);
        let mut graph = Graph::empty(name);
        let mut ends = Vec::new();
        for source in sources {
            let (name, detail) = (source.name(), source.detail());
            let counters = stats.node(format!("{}/{name}", graph.topology.name));
            show::<T>(&counters);
            ends.push(graph.topology.stage(name, detail, &[], &Edge::Fused));
            let (outlet, stop) = (Some(sender.clone()), stop.clone());
            graph.add(SourceTask { source, outlet, item: None, stop, stats: counters });
        }
        Self::start(graph, stats.clone(), Upstream::Queue(inbox), ends, Edge::Queue(items))
    }

    /// A segment without stages, behind the stages `ends` of `graph`.
    fn start(
        graph: Graph,
        stats: StatsRegistry,
        inbox: Upstream<T>,
        ends: Vec<usize>,
        edge: Edge,
    ) -> Self {
        Self { graph, stats, inbox, segment: Identity::default(), last: None, ends, edge }
    }
}

impl<S: Segment> Pipeline<S> {
    /// Adds a transform to the segment: no channel, no task.
    pub fn then<T: Transform<In = S::Out>>(
        mut self,
        stage: T,
    ) -> Pipeline<Chain<S, StageRunner<T>>> {
        let runner = self.runner(stage);
        self.chain(runner)
    }

    /// Adds a list of transforms of one type, in its order; an empty list changes nothing.
    pub fn then_each<T>(mut self, stages: Vec<T>) -> Pipeline<Chain<S, Series<T>>>
    where
        T: Transform<In = S::Out, Out = S::Out>,
    {
        let runners = stages.into_iter().map(|stage| self.runner(stage)).collect();
        self.chain(Series::new(runners))
    }

    /// Ends the segment with an mpsc channel of `items` and a handler that acts on what comes out of it; what follows
    /// gets its replies, over a channel of as many. Handlers may share one `limit`: before, after or beside each other.
    pub fn handle<H: Handler<In = S::Out>>(
        self,
        handler: H,
        limit: &ConcurrencyLimit,
        items: usize,
    ) -> Pipeline<Identity<H::Out>> {
        let (sender, requests) = mpsc::channel(items);
        let (replies, inbox) = mpsc::channel(items);
        let (stats, ends) = (self.stats.clone(), self.ends.clone());
        let mut graph = self.close(Downstream::Queue(sender));
        let (name, ConcurrencyLimits { parallel, waiting }) = (handler.name(), limit.size());
        let counters = stats.node(format!("{}/{name}", graph.topology.name));
        let detail = format!("{parallel} at once, {waiting} may wait");
        let ends = vec![graph.topology.stage(name, detail, &ends, &Edge::Queue(items))];
        graph.add(HandlerTask::new(handler, limit.clone(), requests, replies, counters));
        Pipeline::start(graph, stats, Upstream::Queue(inbox), ends, Edge::Queue(items))
    }

    /// The end where every item must arrive: an mpsc channel of `items`, then the sink in its task.
    pub fn write<K: Sink<In = S::Out>>(self, sink: K, items: usize) -> Graph {
        let (sender, inbox) = mpsc::channel(items);
        let (stats, ends) = (self.stats.clone(), self.ends.clone());
        let mut graph = self.close(Downstream::Queue(sender));
        let node = draw(&mut graph.topology, &stats, &sink, &ends, &Edge::Queue(items));
        graph.add(SinkTask::new(sink, Upstream::Queue(inbox), node));
        graph
    }

    /// The end where every item must arrive, for something that is no sink of this graph (a port):
    /// an mpsc channel of `items`, drawn as `name`.
    pub fn hand_to(
        self,
        name: &str,
        detail: String,
        items: usize,
    ) -> (Graph, mpsc::Receiver<S::Out>) {
        let (sender, receiver) = mpsc::channel(items);
        let ends = self.ends.clone();
        let mut graph = self.close(Downstream::Queue(sender));
        graph.topology.stage(name.to_owned(), detail, &ends, &Edge::Queue(items));
        (graph, receiver)
    }

    /// The end where the newest matters: the subscribers of `ring` get it.
    pub fn publish(self, ring: &Ring<S::Out>) -> Published<S::Out> {
        let (stats, ends) = (self.stats.clone(), self.ends.clone());
        let graph = self.close(Downstream::Ring(ring.clone()));
        Published { graph, stats, ends, ring: ring.clone() }
    }

    /// Adds counters for something beside the stages of this pipeline, by its name.
    pub fn node(&self, name: &str) -> Arc<StageStats> {
        self.stats.node(format!("{}/{name}", self.graph.topology.name))
    }

    fn runner<T: Transform>(&mut self, stage: T) -> StageRunner<T> {
        let (name, detail) = (stage.name(), stage.detail());
        let topology = &mut self.graph.topology;
        let stats = self.stats.node(format!("{}/{name}", topology.name));
        show::<T::Out>(&stats);
        self.ends = vec![topology.stage(name, detail, &self.ends, &self.edge)];
        self.edge = Edge::Fused;
        let upstream = self.last.replace(Arc::clone(&stats));
        StageRunner::new(stage, stats, upstream)
    }

    fn chain<B: Segment<In = S::Out>>(self, next: B) -> Pipeline<Chain<S, B>> {
        let Self { graph, stats, inbox, segment, last, ends, edge } = self;
        Pipeline { graph, stats, inbox, segment: Chain::new(segment, next), last, ends, edge }
    }

    fn close(self, outlet: Downstream<S::Out>) -> Graph {
        let Self { mut graph, inbox, segment, last, .. } = self;
        graph.add(SegmentTask { inbox, segment: Some(segment), outlet, input: Input::Open, last });
        graph
    }
}

/// A pipeline that publishes to a ring; subscribers can be added.
#[must_use = "a graph does nothing until it is run"]
pub struct Published<T> {
    graph: Graph,
    stats: StatsRegistry,
    ends: Vec<usize>,
    ring: Ring<T>,
}

impl<T: Clone + EventCount + Send + Sync + 'static> Published<T> {
    /// What a stage of another pipeline publishes to `ring`. It ends when that stage has ended.
    pub fn of(context: &Context, ring: &Ring<T>) -> Self {
        let graph = Graph::empty(&context.name);
        Self { graph, stats: context.stats.clone(), ends: Vec::new(), ring: ring.clone() }
    }

    /// Adds a sink that gets the newest items, in a task of its own.
    pub fn with_sink<K: Sink<In = T>>(mut self, sink: K) -> Self {
        let edge = Edge::Ring(self.ring.keep());
        let node = draw(&mut self.graph.topology, &self.stats, &sink, &self.ends, &edge);
        let tail = self.ring.subscribe(Arc::clone(&node));
        self.graph.add(SinkTask::new(sink, Upstream::Subscriber(tail.boxed()), node));
        self
    }

    /// Adds more stages that get the newest items, in tasks of their own; `build` puts them together and ends them.
    /// The start of the branch is drawn as `name`.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn branch<E>(
        mut self,
        name: &str,
        build: impl FnOnce(Pipeline<Identity<T>>) -> Result<Graph, E>,
    ) -> Result<Self, E> {
        let inbox = Upstream::Subscriber(self.subscribe(name, String::new()).boxed());
        let ends = vec![self.graph.topology.stages.len() - 1];
        let stats = self.stats.clone();
        self.graph = build(Pipeline::start(self.graph, stats, inbox, ends, Edge::Fused))?;
        Ok(self)
    }

    /// Adds a subscriber for something that several graphs share (a port). It is drawn as `name`, and
    /// its counters tell what was overwritten while it was not read.
    pub fn subscribe(&mut self, name: &str, detail: String) -> Subscriber<T> {
        let topology = &mut self.graph.topology;
        let node = self.stats.node(format!("{}/{name}", topology.name));
        topology.stage(name.to_owned(), detail, &self.ends, &Edge::Ring(self.ring.keep()));
        self.ring.forward(node)
    }

    /// The same for a reader that counts what it sends on itself, in the counters that it gets with it.
    pub fn subscribe_with_stats(
        &mut self,
        name: &str,
        detail: String,
    ) -> (Subscriber<T>, Arc<StageStats>) {
        let topology = &mut self.graph.topology;
        let node = self.stats.node(format!("{}/{name}", topology.name));
        topology.stage(name.to_owned(), detail, &self.ends, &Edge::Ring(self.ring.keep()));
        (self.ring.subscribe(Arc::clone(&node)), node)
    }

    /// The graph, ready to run.
    pub fn graph(self) -> Graph {
        self.graph
    }
}

/// Opens the tap of a stage whose items are of a type that is shown.
fn show<T: EventCount>(stats: &StageStats) {
    if T::IS_SHOWN {
        stats.tap().show();
    }
}

fn draw<K: Sink>(
    topology: &mut Topology,
    stats: &StatsRegistry,
    sink: &K,
    from: &[usize],
    edge: &Edge,
) -> Arc<StageStats> {
    let name = sink.name();
    let node = stats.node(format!("{}/{name}", topology.name));
    topology.stage(name, sink.detail(), from, edge);
    node
}
