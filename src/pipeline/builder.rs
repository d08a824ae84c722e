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
    health: StatsRegistry,
    inbox: Upstream<S::In>,
    segment: S,
    /// Stages in the picture that feed the next one, and how.
    ends: Vec<usize>,
    edge: Edge,
}

impl<T: EventCount + Send + 'static> Pipeline<Identity<T>> {
    /// Starts a pipeline with any number of sources of one type, a task for each, all into one
    /// mpsc channel of `items`. `stop` ends the sources, and with them everything behind.
    pub fn from_sources<S: Source<Out = T>>(
        name: &str,
        sources: impl IntoIterator<Item = S>,
        items: usize,
        health: &StatsRegistry,
        stop: &CancellationToken,
    ) -> Self {
        let (sender, inbox) = mpsc::channel(items);
        let mut graph = Graph::empty(name);
        let mut ends = Vec::new();
        for source in sources {
            let (name, detail) = (source.name(), source.detail());
            let node = health.node(format!("{}/{name}", graph.picture.name));
            ends.push(graph.picture.stage(name, detail, &[], &Edge::Fused));
            let (outlet, stop) = (Some(sender.clone()), stop.clone());
            graph.add(SourceTask { source, outlet, hand: None, stop, node });
        }
        let (health, segment, edge) = (health.clone(), Identity::default(), Edge::Queue(items));
        let inbox = Upstream::Queue(inbox);
        Self { graph, health, inbox, segment, ends, edge }
    }
}

impl<S: Segment> Pipeline<S> {
    /// Adds a transform to the segment: no channel, no task.
    pub fn then<T: Transform<In = S::Out>>(
        mut self,
        stage: T,
    ) -> Pipeline<Chain<S, StageRunner<T>>> {
        let link = self.link(stage);
        self.chain(link)
    }

    /// Adds a list of transforms of one type, in its order; an empty list changes nothing.
    pub fn then_each<T>(mut self, stages: Vec<T>) -> Pipeline<Chain<S, Series<T>>>
    where
        T: Transform<In = S::Out, Out = S::Out>,
    {
        let links = stages.into_iter().map(|stage| self.link(stage)).collect();
        self.chain(Series::new(links))
    }

    /// Ends the segment with an mpsc channel of `items`: what follows runs in a task of its own.
    pub fn buffer(self, items: usize) -> Pipeline<Identity<S::Out>> {
        let (sender, inbox) = mpsc::channel(items);
        let (health, ends) = (self.health.clone(), self.ends.clone());
        let graph = self.close(Downstream::Queue(sender));
        Pipeline {
            graph,
            health,
            inbox: Upstream::Queue(inbox),
            segment: Identity::default(),
            ends,
            edge: Edge::Queue(items),
        }
    }

    /// Ends the segment with an mpsc channel of `items` and a handler that acts on what comes out of
    /// it; what follows gets its replies, over a channel of as many.
    pub fn handle<H: Handler<In = S::Out>>(
        self,
        handler: H,
        places: ConcurrencyLimits,
        items: usize,
    ) -> Pipeline<Identity<H::Out>> {
        self.handle_in(handler, &ConcurrencyLimit::new(places), items)
    }

    /// The same in a room that others use too, before, after or beside this one.
    pub fn handle_in<H: Handler<In = S::Out>>(
        self,
        handler: H,
        room: &ConcurrencyLimit,
        items: usize,
    ) -> Pipeline<Identity<H::Out>> {
        let (sender, requests) = mpsc::channel(items);
        let (replies, inbox) = mpsc::channel(items);
        let (health, ends) = (self.health.clone(), self.ends.clone());
        let mut graph = self.close(Downstream::Queue(sender));
        let (name, ConcurrencyLimits { parallel, waiting }) = (handler.name(), room.size());
        let node = health.node(format!("{}/{name}", graph.picture.name));
        let detail = format!("{parallel} at once, {waiting} may wait");
        let ends = vec![graph.picture.stage(name, detail, &ends, &Edge::Queue(items))];
        graph.add(HandlerTask::new(handler, room.clone(), requests, replies, node));
        let (segment, edge) = (Identity::default(), Edge::Queue(items));
        let inbox = Upstream::Queue(inbox);
        Pipeline { graph, health, inbox, segment, ends, edge }
    }

    /// The end where every item must arrive: an mpsc channel of `items`, then the sink in its task.
    pub fn write<K: Sink<In = S::Out>>(self, sink: K, items: usize) -> Graph {
        let (sender, inbox) = mpsc::channel(items);
        let (health, ends) = (self.health.clone(), self.ends.clone());
        let mut graph = self.close(Downstream::Queue(sender));
        let node = draw(&mut graph.picture, &health, &sink, &ends, &Edge::Queue(items));
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
        graph.picture.stage(name.to_owned(), detail, &ends, &Edge::Queue(items));
        (graph, receiver)
    }

    /// The end where the newest matters: whoever has subscribed to `ring` gets it.
    pub fn publish(self, ring: &Ring<S::Out>) -> Published<S::Out> {
        let (health, ends) = (self.health.clone(), self.ends.clone());
        let graph = self.close(Downstream::Ring(ring.clone()));
        Published { graph, health, ends, ring: ring.clone() }
    }

    /// Opens the books of something beside the stages of this pipeline, by its name.
    pub fn node(&self, name: &str) -> Arc<StageStats> {
        self.health.node(format!("{}/{name}", self.graph.picture.name))
    }

    fn link<T: Transform>(&mut self, stage: T) -> StageRunner<T> {
        let (name, detail) = (stage.name(), stage.detail());
        let picture = &mut self.graph.picture;
        let node = self.health.node(format!("{}/{name}", picture.name));
        self.ends = vec![picture.stage(name, detail, &self.ends, &self.edge)];
        self.edge = Edge::Fused;
        StageRunner::new(stage, node)
    }

    fn chain<B: Segment<In = S::Out>>(self, next: B) -> Pipeline<Chain<S, B>> {
        let Self { graph, health, inbox, segment, ends, edge } = self;
        Pipeline { graph, health, inbox, segment: Chain::new(segment, next), ends, edge }
    }

    fn close(self, outlet: Downstream<S::Out>) -> Graph {
        let Self { mut graph, inbox, segment, .. } = self;
        graph.add(SegmentTask { inbox, segment: Some(segment), outlet, input: Input::Open });
        graph
    }
}

/// A pipeline that publishes to a ring; subscribers can be added.
#[must_use = "a graph does nothing until it is run"]
pub struct Published<T> {
    graph: Graph,
    health: StatsRegistry,
    ends: Vec<usize>,
    ring: Ring<T>,
}

impl<T: Clone + EventCount + Send + Sync + 'static> Published<T> {
    /// Adds a sink that gets the newest items, in a task of its own.
    pub fn write<K: Sink<In = T>>(mut self, sink: K) -> Self {
        let edge = Edge::Ring(self.ring.keep());
        let node = draw(&mut self.graph.picture, &self.health, &sink, &self.ends, &edge);
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
        let inbox = Upstream::Subscriber(self.lane(name, String::new()).boxed());
        let ends = vec![self.graph.picture.stages.len() - 1];
        let (health, segment, edge) = (self.health.clone(), Identity::default(), Edge::Fused);
        self.graph = build(Pipeline { graph: self.graph, health, inbox, segment, ends, edge })?;
        Ok(self)
    }

    /// Adds a lane into something that several graphs share (a port). It is drawn as `name`, and
    /// its books tell what was overwritten while nobody took it.
    pub fn lane(&mut self, name: &str, detail: String) -> Subscriber<T> {
        let picture = &mut self.graph.picture;
        let node = self.health.node(format!("{}/{name}", picture.name));
        picture.stage(name.to_owned(), detail, &self.ends, &Edge::Ring(self.ring.keep()));
        self.ring.lane(node)
    }

    /// The same for a taker that books what it hands on itself, in the node that it gets with it.
    pub fn tail(&mut self, name: &str, detail: String) -> (Subscriber<T>, Arc<StageStats>) {
        let picture = &mut self.graph.picture;
        let node = self.health.node(format!("{}/{name}", picture.name));
        picture.stage(name.to_owned(), detail, &self.ends, &Edge::Ring(self.ring.keep()));
        (self.ring.subscribe(Arc::clone(&node)), node)
    }

    /// The graph, ready to run.
    pub fn graph(self) -> Graph {
        self.graph
    }
}

fn draw<K: Sink>(
    picture: &mut Topology,
    health: &StatsRegistry,
    sink: &K,
    from: &[usize],
    edge: &Edge,
) -> Arc<StageStats> {
    let name = sink.name();
    let node = health.node(format!("{}/{name}", picture.name));
    picture.stage(name, sink.detail(), from, edge);
    node
}
