//! The flows of the agent, and the change from one set of them to the next while it runs, in the order of the
//! daemon's own: commands go over at once, metrics when the flow before has handed on what it held. Reads no file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use infiniservice::host::Secret;
use infiniservice::internals::agent::TelemetryMux;
use infiniservice::internals::commands::authorize::{Authorize, CurrentPolicy};
use infiniservice::internals::commands::decode::Decode;
use infiniservice::internals::commands::decode::ack_filter::AckFilter;
use infiniservice::internals::commands::execute::Execute;
use infiniservice::internals::commands::notify::agent_events::{AgentEvents, EventReceiver};
use infiniservice::internals::commands::notify::drain_acks::DrainAcks;
use infiniservice::internals::commands::notify::drop_report::{DropReport, LOOK_EVERY};
use infiniservice::internals::commands::notify::session_start::{SessionStart, SessionStarts};
use infiniservice::internals::commands::receive::inbound::{Receive, SharedInbound};
use infiniservice::internals::commands::receive::line_framer::Frame;
use infiniservice::internals::commands::reply::sink::ReplySink;
use infiniservice::internals::commands::reply::{CommandType, Reply};
use infiniservice::internals::commands::request_log::{Recovery, RequestLog};
use infiniservice::internals::commands::verify::Verify;
use infiniservice::internals::port::AckTracker;
use infiniservice::internals::spool::{Acks, DurableMessage};
use infiniservice::metrics::batch::{Batcher, Limits};
use infiniservice::metrics::serialize::Serialize;
use infiniservice::metrics::{Stages, collect, latest::Latest, through};
use infiniservice::model;
use infiniservice::pipeline::{
    ConcurrencyLimit, ConcurrencyLimits, Context, ExitStatus, Graph, MemoryBudget, Outcome,
    Pipeline, Restart, Ring, StageStats, StatsRegistry, Subscriber, Task, run_until,
};
use infiniservice::wire::{Format, LINE_BYTES_MAX};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::agent::{Echoes, KEY, Made, Readings, Surroundings, Taken, policy};
use super::clock;
use super::faults::Files;
use super::machine::Machine;

/// As in the daemon.
const MESSAGES_WAITING: usize = 16;
/// As in the daemon: how long what is held has to be handed over.
pub const DRAIN: Duration = Duration::from_secs(5);

/// What outlives the flows.
pub struct CommandState {
    pub around: Surroundings,
    pub health: StatsRegistry,
    pub ledger: MemoryBudget,
    pub relay: TelemetryMux,
    pub must: mpsc::Sender<DurableMessage>,
    pub replies: mpsc::Sender<model::Frame>,
    pub hosts: watch::Receiver<u64>,
    pub answers: AckTracker,
    pub intake: SharedInbound,
    pub closing: CancellationToken,
    pub greeted: SessionStarts,
    pub heard: EventReceiver,
    pub log: RequestLog,
    pub acks: Acks,
    pub room: ConcurrencyLimit,
}

/// What runs.
pub struct Daemon {
    /// Until it stops.
    carried: Option<CommandState>,
    news: AgentEvents,
    files: watch::Receiver<Files>,
    stop: CancellationToken,
    running: JoinSet<Outcome>,
    flows: BTreeMap<MessageKind, Flow>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MessageKind {
    Metrics,
    Commands,
}

struct Flow {
    files: Files,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// One that is built.
struct New {
    kind: MessageKind,
    files: Files,
    graphs: Vec<Graph>,
    plug: Option<(Subscriber<model::Frame>, usize, Arc<StageStats>)>,
    stop: CancellationToken,
}

impl MessageKind {
    /// Whether files that say this want the same flow as before.
    fn is_same(self, one: Files, other: Files) -> bool {
        match self {
            Self::Metrics => (one.batch, one.keep) == (other.batch, other.keep),
            Self::Commands => one.parallel == other.parallel,
        }
    }
}

impl Daemon {
    pub fn new(
        carried: CommandState,
        news: AgentEvents,
        files: watch::Receiver<Files>,
        stop: CancellationToken,
    ) -> Self {
        let (running, flows) = (JoinSet::new(), BTreeMap::new());
        Self { carried: Some(carried), news, files, stop, running, flows }
    }

    /// Runs until all has ended.
    pub async fn run(mut self, ends: [Box<dyn Task>; 2], closing: CancellationToken) -> Outcome {
        for task in ends {
            self.spawn(vec![task], closing.clone(), true);
        }
        self.change().await;
        let (stop, mut outcome) =
            (self.stop.clone(), Outcome { end: ExitStatus::Done, drained: true });
        let (mut losses, mut look) = (DropReport::default(), interval(LOOK_EVERY));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if self.carried.is_some() => {
                    self.flows.clear();
                    if let Some(carried) = self.carried.take() {
                        carried.relay.close();
                    }
                }
                ended = self.running.join_next() => {
                    let Some(ended) = ended else { return outcome };
                    let failed = Outcome { end: ExitStatus::Spent, drained: true };
                    let ended = ended.unwrap_or(failed);
                    if ended.end != ExitStatus::Done {
                        stop.cancel();
                    }
                    outcome.end = outcome.end.max(ended.end);
                    outcome.drained &= ended.drained;
                }
                _ = look.tick() => self.look(&mut losses),
                Ok(()) = self.files.changed(), if self.carried.is_some() => self.change().await,
            }
        }
    }

    fn look(&self, losses: &mut DropReport) {
        let Some(carried) = &self.carried else { return };
        let (hosts, books) = (*carried.hosts.borrow(), carried.health.counts());
        if let Some(mut event) = losses.event(Instant::now(), hosts, &books) {
            carried.around.known.lock().tells(&mut event);
            self.news.send(event);
        }
    }

    /// Puts new flows in the place of those for which the files say something else.
    async fn change(&mut self) {
        let Some(carried) = &self.carried else { return };
        let files = *self.files.borrow_and_update();
        let mut new = Vec::new();
        for kind in [MessageKind::Metrics, MessageKind::Commands] {
            if self.flows.get(&kind).is_none_or(|flow| !kind.is_same(flow.files, files)) {
                let stop = self.stop.child_token();
                new.push(match kind {
                    MessageKind::Metrics => carried.metrics(files, stop),
                    MessageKind::Commands => carried.commands(files, stop),
                });
            }
        }
        let mut before: BTreeMap<_, _> =
            new.iter().filter_map(|new| self.flows.remove_entry(&new.kind)).collect();
        before.values().for_each(|flow| flow.stop.cancel());
        new.sort_by_key(|new| std::cmp::Reverse(new.kind)); // commands do not wait
        for New { kind, files, graphs, plug, stop } in new {
            if let (MessageKind::Metrics, Some(before)) = (kind, before.remove(&kind)) {
                before.ended.cancelled().await;
            }
            let Some(carried) = &self.carried else { return };
            match plug {
                Some((tail, keep, node)) => {
                    carried.relay.plug("metrics/0", tail, keep, node, &carried.ledger);
                }
                None => carried.room.resize(places(files)),
            }
            let tasks = graphs.into_iter().flat_map(Graph::into_tasks).collect();
            let ended = self.spawn(tasks, stop.clone(), kind == MessageKind::Commands);
            self.flows.insert(kind, Flow { files, stop, ended });
        }
    }

    fn spawn(
        &mut self,
        tasks: Vec<Box<dyn Task>>,
        stop: CancellationToken,
        is_patient: bool,
    ) -> CancellationToken {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let begins = if is_patient { self.stop.clone() } else { stop.clone() };
        self.running.spawn(async move {
            let _guard = guard;
            let deadline = async {
                begins.cancelled().await;
                sleep(DRAIN).await;
            };
            run_until(tasks, &Restart::default(), &stop, deadline).await
        });
        ended
    }
}

impl CommandState {
    fn metrics(&self, files: Files, stop: CancellationToken) -> New {
        let health = self.health.replacement();
        let limits = Limits {
            max_items: files.batch,
            max_bytes: 64 << 10,
            max_delay: Duration::from_secs(1),
        };
        let stages = Stages {
            enrichers: Vec::new(),
            batcher: Batcher::new(limits),
            serialize: Serialize::new(Format::JsonLines).charging(&self.ledger),
        };
        let source = Readings {
            pace: self.around.pace.clone(),
            readings: Arc::clone(&self.around.readings),
            known: Arc::clone(&self.around.known),
        };
        let ring = Ring::new(files.keep).within(&self.ledger);
        let frames =
            through(collect(&Context::new("metrics", &health, &stop), vec![source]), stages);
        let mut published = frames.publish(&ring);
        let (tail, node) = published.subscribe_with_stats("port", "simulated".to_owned());
        let (graphs, plug) = (vec![published.graph()], Some((tail, files.keep, node)));
        New { kind: MessageKind::Metrics, files, graphs, plug, stop }
    }

    fn commands(&self, files: Files, stop: CancellationToken) -> New {
        let (health, known) = (self.health.replacement(), &self.around.known);
        self.answers.listen();
        let deliver = |node| {
            ReplySink::new(
                "simulated".to_owned(),
                self.replies.clone(),
                Some(self.must.clone()),
                node,
            )
        };
        let reply =
            || Reply::new(CommandType::Action).with_clock(clock::wall).charged_to(&self.ledger);
        let dispatch = Execute {
            executor: Box::new(Machine(Arc::clone(known))),
            audit: None,
            latest: Latest::default(),
            log: self.log.clone(),
            current_policy: CurrentPolicy::default(),
            running: Default::default(),
        };
        let turn = self.intake.lease();
        let receive = Receive::new("simulated".to_owned(), turn.clone());
        let verify = || {
            Verify::new(Secret::new(KEY.to_vec())).with_clock(clock::now_ms).remembering(&self.log)
        };
        let told = Pipeline::from_sources(
            &Context::new("commands", &health, &stop),
            [receive],
            MESSAGES_WAITING,
        )
        .then(Frame::of(turn, LINE_BYTES_MAX))
        .then(verify())
        .then(Decode::within(&self.ledger))
        .then(Echoes(Arc::clone(known)))
        .then(AckFilter::new(self.answers.clone()))
        .then(Authorize::new(policy()))
        .then(Taken(Arc::clone(known)))
        .handle(dispatch, &self.room, MESSAGES_WAITING)
        .then(Made(Arc::clone(known)));
        let node = told.node("replies");
        let answers = told.then(reply()).write(deliver(node), MESSAGES_WAITING);
        let greet = SessionStart::new(self.heard.clone(), self.answers.clone()).requesting_scripts(
            Some("vm".to_owned()),
            self.hosts.clone(),
            self.greeted.clone(),
        );
        let greet = greet.recovering(Recovery {
            log: self.log.clone(),
            audit: None,
            waiting: self.log.follow(&self.acks),
            hosts: None,
        });
        let told = Pipeline::from_sources(
            &Context::new("session", &health, &stop),
            [greet],
            MESSAGES_WAITING,
        )
        .then(Made(Arc::clone(known)));
        let node = told.node("replies");
        let greeting = told.then(reply()).write(deliver(node), MESSAGES_WAITING);
        let farewell = DrainAcks::new(self.intake.lease(), stop.clone(), self.closing.clone());
        let farewell = farewell.into_graph(LINE_BYTES_MAX, verify(), self.answers.clone(), &health);
        let graphs = vec![answers, greeting, farewell];
        New { kind: MessageKind::Commands, files, graphs, plug: None, stop }
    }
}

/// How many commands at once, and how many may wait.
pub fn places(files: Files) -> ConcurrencyLimits {
    ConcurrencyLimits { parallel: files.parallel, waiting: 64 }
}
