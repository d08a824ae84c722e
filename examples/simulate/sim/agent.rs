//! The agent as the daemon assembles it, over the simulated port, disk, clock and machine. The metrics are made
//! up at a pace that is set; everything behind that is the product.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use infiniservice::commands::decode::Decode;
use infiniservice::commands::deliver::Deliver;
use infiniservice::commands::dispatch::Dispatch;
use infiniservice::commands::enforce::{Enforce, Enforced, Ruling};
use infiniservice::commands::frame::Frame;
use infiniservice::commands::greet::{Greet, Greeted};
use infiniservice::commands::hear::Hear;
use infiniservice::commands::journal::Journal;
use infiniservice::commands::news::News;
use infiniservice::commands::policy::Policy;
use infiniservice::commands::receive::{Intake, Receive};
use infiniservice::commands::reply::{CommandType, Reply, Told};
use infiniservice::commands::secret::Secret;
use infiniservice::commands::verify::Verify;
use infiniservice::commands::voice::AgentVoice;
use infiniservice::config;
use infiniservice::delivery::{Backlog, Keeper, Settings, Spool};
use infiniservice::metrics::batch::{Batcher, Limits};
use infiniservice::metrics::serialize::Serialize;
use infiniservice::metrics::{Stages, collect, latest::Latest, through};
use infiniservice::model::SystemMetrics;
use infiniservice::pipeline::{
    Emit, Fault, Health, Ledger, Outcome, Pipeline, Places, Restart, Ring, Source, Task, Transform,
};
use infiniservice::port::{Counters, Port};
use infiniservice::wire::{Format, LINE_BYTES_MAX};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::disk::Disk;
use super::known::{Id, Shared};
use super::line::GuestEnd;
use super::machine::Machine;

/// What the host signs with.
pub const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// As in the daemon.
const MESSAGES_WAITING: usize = 16;
const MUST_WAITING: usize = 64;
const DRAIN: Duration = Duration::from_secs(5);

/// What outlives the agent.
#[derive(Clone)]
pub struct Surroundings {
    /// What is known of the run.
    pub known: Shared,
    /// The port.
    pub port: GuestEnd,
    /// The disk.
    pub disk: Disk,
    /// Readings a second; 0 for none.
    pub pace: watch::Receiver<u32>,
    /// Readings, from which each is made.
    pub readings: Arc<Vec<SystemMetrics>>,
    /// The scripts that have run, on a disk that never fails.
    pub journal: Arc<Mutex<Journal>>,
    /// The size of the spool.
    pub spool: u64,
    /// The ceiling of the ledger.
    pub ceiling: usize,
    /// Frames kept for a host that is away.
    pub keep: usize,
}

/// A running agent.
pub struct Agent {
    /// Ends it in order.
    pub stop: CancellationToken,
    /// Its books.
    pub health: Health,
    /// Bytes queued.
    pub ledger: Ledger,
    /// What happened at the device.
    pub counters: Arc<Counters>,
    /// What waits in the spool.
    pub backlog: Backlog,
    /// Its supervisor.
    pub running: JoinHandle<Outcome>,
}

impl Agent {
    /// Starts one.
    pub fn start(around: &Surroundings) -> Self {
        let (health, stop) = (Health::default(), CancellationToken::new());
        let (ledger, known) = (Ledger::new(around.ceiling), &around.known);
        let mut port = Port::new(around.port.clone(), health.node("port".to_owned()), stop.clone())
            .with_clock(clock::wall);

        let settings = Settings {
            size: around.spool,
            identity: "simulated".to_owned(),
            boot_id: "boot".to_owned(),
        };
        let (spool, opened) = Spool::open(around.disk.clone(), &settings, clock::now_ms() as u64);
        let mut told = known.lock();
        told.note("spool waits", opened.waiting, opened.wrong.len() as u64);
        if told.disk.reads_failed && (!opened.wrong.is_empty() || opened.trouble.is_some()) {
            told.unreadable();
        }
        drop(told);
        let (epochs, boot_id) = (spool.epochs(), Some("boot".to_owned()));
        port.voice(AgentVoice { epochs, boot_id, clock: clock::wall });
        let (must, inbox) = mpsc::channel(MUST_WAITING);
        let (lane, read) = port.must();
        let node = health.node("keeper".to_owned());
        let (keeper, backlog, _) = Keeper::new(spool, inbox, lane, read, node);
        let keeper = keeper.with_clock(clock::wall);

        let stages = Stages {
            enrichers: Vec::new(),
            batcher: Batcher::new(Limits {
                max_items: 16,
                max_bytes: 64 << 10,
                max_delay: Duration::from_secs(1),
            }),
            serialize: Serialize::new(Format::JsonLines).charging(&ledger),
        };
        let source = Readings {
            pace: around.pace.clone(),
            readings: Arc::clone(&around.readings),
            known: Arc::clone(known),
        };
        let ring = Ring::new(around.keep).within(&ledger);
        let frames = through(collect("metrics", vec![source], &health, &stop), stages);
        let mut metrics = frames.publish(&ring);
        port.telemetry(metrics.lane("port", "simulated".to_owned()));

        let (receive, replies, hosts) = (port.inbound(), port.replies(), port.hosts());
        let answers = port.answers();
        answers.listen();
        let node = health.node("commands/replies".to_owned());
        let deliver = || {
            let (must, node) = (Some(must.clone()), Arc::clone(&node));
            Deliver::new("simulated".to_owned(), replies.clone(), must, node)
        };
        let reply = || Reply::new(CommandType::Action).with_clock(clock::wall).charging(&ledger);
        let dispatch = Dispatch {
            perform: Box::new(Machine(Arc::clone(known))),
            audit: None,
            latest: Latest::default(),
            ledger: ledger.clone(),
            journal: Some(Arc::clone(&around.journal)),
            answered: Arc::default(),
        };
        let secret = Secret::new(KEY.to_vec());
        let turn = Intake::new(receive).turn();
        let receive = Receive::new("simulated".to_owned(), turn.clone());
        let commands =
            Pipeline::from_sources("commands", [receive], MESSAGES_WAITING, &health, &stop)
                .then(Frame::of(turn, LINE_BYTES_MAX))
                .then(Verify::new(secret).with_clock(clock::now_ms))
                .then(Decode)
                .then(Hear::new(answers))
                .then(Enforce::new(policy()))
                .then(Taken(Arc::clone(known)))
                .handle(dispatch, Places { parallel: 5, waiting: 64 }, MESSAGES_WAITING)
                .then(Made(Arc::clone(known)))
                .then(reply())
                .write(deliver(), MESSAGES_WAITING);
        let (_, heard) = News::new(&health);
        let greet = Greet::new(heard).greeting(Some("vm".to_owned()), hosts, Greeted::default());
        let greeting =
            Pipeline::from_sources("greeting", [greet], MESSAGES_WAITING, &health, &stop)
                .then(reply())
                .write(deliver(), MESSAGES_WAITING);
        drop((must, replies));

        let counters = port.counters();
        let mut tasks = metrics.graph().into_tasks();
        tasks.extend(commands.into_tasks());
        tasks.extend(greeting.into_tasks());
        let ends: [Box<dyn Task>; 2] = [Box::new(keeper), Box::new(port)];
        tasks.extend(ends);
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { infiniservice::pipeline::run(tasks, &Restart::default(), &stop, DRAIN).await }
        });
        Self { stop, health, ledger, counters, backlog, running }
    }
}

/// Everything may be asked, as in a file that says so. The first call reads one, and draws a number for its name.
pub fn policy() -> Policy {
    static POLICY: OnceLock<Policy> = OnceLock::new();
    let read = || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("commands.toml");
        let rules = "[receive]\n[enforce]\nallow = [\"*\"]\nraw_shell = true\nscripts = true\n";
        std::fs::write(&path, rules).unwrap();
        let loaded = config::load(&[path], &|_| None).unwrap();
        Policy::new(&loaded.commands.unwrap())
    };
    POLICY.get_or_init(read).clone()
}

/// Readings at a pace.
struct Readings {
    pace: watch::Receiver<u32>,
    readings: Arc<Vec<SystemMetrics>>,
    known: Shared,
}

impl Source for Readings {
    type Out = SystemMetrics;

    fn open(&mut self) -> impl Stream<Item = Result<SystemMetrics, Fault>> + Send + '_ {
        stream::unfold(self, |this| async move {
            loop {
                let pace = *this.pace.borrow_and_update();
                if pace == 0 {
                    this.pace.changed().await.ok()?;
                    continue;
                }
                tokio::select! {
                    biased;
                    () = sleep(Duration::from_secs(1) / pace) => break,
                    Ok(()) = this.pace.changed() => {}
                }
            }
            let sequence = this.known.lock().reading();
            let mut reading = this.readings[sequence as usize % this.readings.len()].clone();
            reading.sequence = sequence;
            reading.at = clock::wall();
            (reading.taken, reading.made) = (Instant::now(), Instant::now());
            Some((reading, this))
        })
        .map(Ok)
    }
}

/// Sees what was taken, and lets it pass.
struct Taken(Shared);

impl Transform for Taken {
    type In = Enforced;
    type Out = Enforced;

    fn apply(&mut self, _: Instant, input: &Enforced, out: &mut Emit<Enforced>) {
        let rulings = match input {
            Enforced::Command(ruling) => std::slice::from_ref(ruling),
            Enforced::Scripts(rulings) => rulings,
            _ => &[],
        };
        for ruling in rulings {
            let id = match ruling {
                Ruling::Permitted(permit) => &permit.request().id,
                Ruling::Denied(denial) => &denial.request.id,
                Ruling::Unclear(refusal) => &refusal.id,
            };
            if let Some(id) = Id::of(id) {
                self.0.lock().taken(id);
            }
        }
        out.push(input.clone());
    }
}

/// Sees what was answered, in its order, and lets it pass.
struct Made(Shared);

impl Transform for Made {
    type In = Told;
    type Out = Told;

    fn apply(&mut self, _: Instant, input: &Told, out: &mut Emit<Told>) {
        match input {
            Told::Response { id, outcome, .. } | Told::Completed { execution_id: id, outcome } => {
                if let Some(id) = Id::of(id) {
                    self.0.lock().made(id, outcome.stdout.len());
                }
            }
            Told::KeepAlive(number) => self.0.lock().echoes(*number),
            _ => {}
        }
        out.push(input.clone());
    }
}
