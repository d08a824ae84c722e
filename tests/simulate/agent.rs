//! The agent as the daemon assembles it, over the simulated port, disk, clock and machine. The metrics are made
//! up at a pace that is set; everything behind that is the product. What the daemon's flows are is in `flows`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use infiniservice::internals::agent::TelemetryMux;
use infiniservice::internals::commands::authorize::policy::Policy;
use infiniservice::internals::commands::authorize::{Authorization, AuthorizedMessage};
use infiniservice::internals::commands::notify::agent_events::AgentEvents;
use infiniservice::internals::commands::notify::control_messages::ControlMessages;
use infiniservice::internals::commands::notify::session_start::SessionStarts;
use infiniservice::internals::commands::receive::inbound::SharedInbound;
use infiniservice::internals::commands::reply::Outbound;
use infiniservice::internals::commands::request::HostMessage;
use infiniservice::internals::commands::request_log::{Owner, RequestLog};
use infiniservice::internals::config;
use infiniservice::internals::port::{Counters, Port};
use infiniservice::internals::spool::{Settings, Spool, SpoolStatus, SpoolTask};
use infiniservice::model::SystemMetrics;
use infiniservice::pipeline::{
    ConcurrencyLimit, MemoryBudget, Outcome, Output, Source, StageError, StatsRegistry, Task,
    Transform,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::disk::Disk;
use super::doubles::faulty_disk::FaultyDisk;
use super::faults::Files;
use super::flows::{self, CommandState, Daemon};
use super::known::{Id, Shared};
use super::line::GuestEnd;

/// What the host signs with.
pub const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

/// As in the daemon.
const MUST_WAITING: usize = 64;

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
    /// The disk of the request log, and the boot of its machine.
    pub requests: FaultyDisk,
    pub boot: u32,
    /// The size of the spool.
    pub spool: u64,
    /// The ceiling of the ledger.
    pub ceiling: usize,
    /// Whether hosts are as today's.
    pub is_quiet: bool,
    /// What the files say.
    pub files: watch::Sender<Files>,
}

/// A running agent.
pub struct Agent {
    /// Ends it in order.
    pub stop: CancellationToken,
    /// Its books.
    pub health: StatsRegistry,
    /// Bytes queued.
    pub ledger: MemoryBudget,
    /// What happened at the device.
    pub counters: Arc<Counters>,
    /// What waits in the spool.
    pub backlog: SpoolStatus,
    /// What was asked of it.
    pub log: RequestLog,
    /// All of it.
    pub running: JoinHandle<Outcome>,
}

impl Agent {
    /// Starts one.
    pub fn start(around: &Surroundings) -> Self {
        let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
        let (ledger, known) = (MemoryBudget::new(around.ceiling), &around.known);
        let closing = stop.child_token();
        let node = health.replacement().node("port".to_owned());
        let mut port =
            Port::new(around.port.clone(), node, closing.clone()).with_clock(clock::wall);
        let relay = TelemetryMux::default();
        port.telemetry(relay.lane());

        let settings = Settings {
            size: around.spool,
            identity: "simulated".to_owned(),
            boot_id: "boot".to_owned(),
            tombstone: None,
        };
        let (spool, opened) = Spool::open(around.disk.clone(), &settings, clock::now_ms() as u64);
        let mut told = known.lock();
        told.note("spool waits", opened.waiting, opened.corruptions.len() as u64);
        told.in_memory = told.disk.reads_failed && opened.trouble.is_some();
        if told.disk.reads_failed && (!opened.corruptions.is_empty() || opened.trouble.is_some()) {
            told.unreadable();
        }
        drop(told);
        let (epochs, boot_id) = (spool.session_ids(), Some("boot".to_owned()));
        port.control_lines(ControlMessages { epochs, boot_id, clock: clock::wall });
        if !around.is_quiet {
            port.acks().set_own_host();
        }
        let seen = Arc::clone(known);
        port.undelivered().on_dropped(move |lines| seen.lock().undelivered(lines));
        let (must, inbox) = mpsc::channel(MUST_WAITING);
        let (lane, read) = port.durable();
        let node = health.replacement().node("spool".to_owned());
        let (spool_task, backlog, _) = SpoolTask::new(spool, inbox, lane, read, node);
        let (spool_task, acks) = {
            let spool_task = spool_task.with_clock(clock::wall).with_discarded(port.discarded());
            let acks = spool_task.acks();
            (spool_task, acks)
        };
        let owner = Owner { machine: "simulated".to_owned(), boot: around.boot.to_string() };
        let log = RequestLog::begin(Box::new(around.requests.clone()), owner, clock::now_ms());

        let (news, heard) = AgentEvents::new(&health);
        let (counters, files) = (port.counters(), around.files.subscribe());
        let carried = CommandState {
            around: around.clone(),
            health: health.clone(),
            ledger: ledger.clone(),
            relay,
            must,
            replies: port.replies(),
            hosts: port.hosts(),
            answers: port.acks(),
            intake: SharedInbound::new(port.inbound()),
            closing: closing.clone(),
            greeted: SessionStarts::default(),
            heard,
            log: log.clone(),
            acks,
            room: ConcurrencyLimit::new(flows::places(*files.borrow())),
        };
        let ends: [Box<dyn Task>; 2] = [Box::new(spool_task), Box::new(port)];
        let daemon = Daemon::new(carried, news, files, stop.clone());
        let running = tokio::spawn(daemon.run(ends, closing));
        Self { stop, health, ledger, counters, backlog, log, running }
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
        loaded.commands.unwrap().policy()
    };
    POLICY.get_or_init(read).clone()
}

/// Readings at a pace.
pub struct Readings {
    pub pace: watch::Receiver<u32>,
    pub readings: Arc<Vec<SystemMetrics>>,
    pub known: Shared,
}

impl Source for Readings {
    type Out = SystemMetrics;

    fn open(&mut self) -> impl Stream<Item = Result<SystemMetrics, StageError>> + Send + '_ {
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

/// Sees which echoes the port has to make, and lets them pass.
pub struct Echoes(pub Shared);

impl Transform for Echoes {
    type In = HostMessage;
    type Out = HostMessage;

    fn apply(&mut self, _: Instant, input: &HostMessage, out: &mut Output<HostMessage>) {
        if let HostMessage::KeepAlive(number) = input {
            self.0.lock().echoes(*number);
        }
        out.push(input.clone());
    }
}

/// Sees what was taken, and lets it pass.
pub struct Taken(pub Shared);

impl Transform for Taken {
    type In = AuthorizedMessage;
    type Out = AuthorizedMessage;

    fn apply(
        &mut self,
        _: Instant,
        input: &AuthorizedMessage,
        out: &mut Output<AuthorizedMessage>,
    ) {
        let authorizations = match input {
            AuthorizedMessage::Command(authorization) => std::slice::from_ref(authorization),
            AuthorizedMessage::Scripts(authorizations) => authorizations,
            _ => &[],
        };
        for authorization in authorizations {
            let id = match authorization {
                Authorization::Permitted(permit) => &permit.request().id,
                Authorization::Denied(denial) => &denial.request.id,
                Authorization::Malformed(refusal) => &refusal.id,
            };
            if let Some(id) = Id::of(id) {
                self.0.lock().taken(id);
            }
        }
        out.push(input.clone());
    }
}

/// Sees what was answered, in its order, and lets it pass.
pub struct Made(pub Shared);

impl Transform for Made {
    type In = Outbound;
    type Out = Outbound;

    fn apply(&mut self, _: Instant, input: &Outbound, out: &mut Output<Outbound>) {
        match input {
            Outbound::Response { id, outcome, .. }
            | Outbound::ScriptCompletion { execution_id: id, outcome } => {
                if let Some(id) = Id::of(id) {
                    self.0.lock().made(id, outcome.stdout.len());
                }
            }
            _ => {}
        }
        out.push(input.clone());
    }
}
