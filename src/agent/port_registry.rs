//! The ports that the files name: one writer each, however many pipelines share it. Opens nothing.
//!
//! What flows need of a port outlives them: at a reload the port stays open, and the flows that take the
//! place of others find the same lanes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::durable_port::{Opening, keep};
use crate::agent::telemetry_mux::TelemetryMux;
use crate::commands::notify::control_messages::ControlMessages;
use crate::commands::notify::session_start::Greeted;
use crate::commands::notify::spool_status::SpoolReport;
use crate::commands::receive::inbound::{ReadLease, SharedInbound};
use crate::config::HostKind;
use crate::model::Frame;
use crate::pipeline::{StageError, StatsRegistry, Task};
use crate::port::{AckTracker, Counters, Inbound, Port, PortExit, Target, Undelivered, check};
use crate::spool::{Acks, DurableMessage, Machine, SpoolStatus};

/// The ports, each made when it is first named.
pub struct Ports {
    /// Takes the place of every port that a file names.
    instead: Option<Target>,
    host: HostKind,
    health: StatsRegistry,
    closing: CancellationToken,
    spools: SpoolReport,
    /// Whether a device that is there must be the right kind of thing.
    checks: bool,
    ports: Vec<Connection>,
}

/// The lanes of one port.
pub struct Connection {
    /// Which port.
    pub target: Target,
    /// Where metrics go.
    pub relay: TelemetryMux,
    /// Where replies to the host that is there go, ahead of all else.
    pub replies: mpsc::Sender<Frame>,
    /// Where what must be read by some host goes, ahead of metrics.
    pub must: mpsc::Sender<DurableMessage>,
    /// Where to tell what the host has read.
    pub answers: AckTracker,
    /// Where to hear of answers that go to nobody.
    pub undelivered: Undelivered,
    /// Where to tell that the machine has become another.
    pub became: watch::Sender<Option<Machine>>,
    /// Which requests' answers its hosts have read.
    pub acks: Acks,
    /// What it reads.
    pub intake: SharedInbound,
    /// Counts the hosts that have come.
    pub hosts: watch::Receiver<u64>,
    /// Who was greeted of them.
    pub greeted: Greeted,
    /// Closes it.
    pub closing: CancellationToken,
    on_disk: bool,
    backlog: SpoolStatus,
    counters: Arc<Counters>,
    /// The port and the keeper before it, until they are started.
    tasks: Vec<Box<dyn Task>>,
}

impl Ports {
    /// No port yet. `instead` stands for every port that a file names; `closing` ends them all once
    /// their lanes have ended.
    pub fn new(
        instead: Option<Target>,
        health: &StatsRegistry,
        closing: &CancellationToken,
    ) -> Self {
        let (health, closing) = (health.clone(), closing.clone());
        let (host, spools, ports) = Default::default();
        Self { instead, host, health, closing, spools, checks: true, ports }
    }

    /// What the hosts are, where they do not say so.
    pub fn for_hosts(self, host: HostKind) -> Self {
        Self { host, ..self }
    }

    /// Does not look at the devices of this machine: for a picture.
    pub fn unchecked(mut self) -> Self {
        self.checks = false;
        self
    }

    /// Whether it is for a picture: nothing of this machine is looked at or made.
    pub(super) fn is_picture(&self) -> bool {
        !self.checks
    }

    /// Which port is meant by the name in a file. Looks at the file system.
    pub fn resolve(&self, name: &str) -> Result<Target, String> {
        let target = self.target(name)?;
        if self.checks {
            check(&target)?;
        }
        Ok(target)
    }

    /// The same without a look.
    pub fn target(&self, name: &str) -> Result<Target, String> {
        match &self.instead {
            Some(target) => Ok(target.clone()),
            None => name.parse().map_err(|error| format!("cannot use the port: {error}")),
        }
    }

    /// Opens the port of `opening`, unless it is open.
    pub fn open(&mut self, opening: Opening) {
        if self.ports.iter().any(|known| known.target == opening.target) {
            return;
        }
        let Opening { target, speaks, on_disk, spool, boot_id } = opening;
        let boot_id = Some(boot_id).filter(|boot_id| !boot_id.is_empty());
        let voice = speaks.then(|| ControlMessages::new(spool.epochs(), boot_id));
        let node = |name: String| self.health.anew().node(name);
        let closing = self.closing.child_token();
        let mut port = Port::new(target.clone(), node(format!("port {target}")), closing.clone());
        if self.host == HostKind::Own {
            port.answers().own();
        }
        let relay = TelemetryMux::default();
        port.telemetry(relay.lane());
        let keeping = keep(&mut port, spool, voice, node(format!("keeper {target}")));
        self.ports.push(Connection {
            target,
            relay,
            replies: port.replies(),
            must: keeping.must,
            answers: port.answers(),
            undelivered: port.undelivered(),
            became: keeping.became,
            acks: keeping.acks,
            on_disk,
            backlog: keeping.backlog,
            intake: SharedInbound::new(port.inbound()),
            hosts: port.hosts(),
            greeted: Greeted::default(),
            counters: port.counters(),
            closing,
            tasks: vec![keeping.task, Box::new(port)],
        });
        self.list_spools();
    }

    /// What waits at each port, now and later.
    pub fn spools(&self) -> SpoolReport {
        self.spools.clone()
    }

    fn list_spools(&self) {
        let backlog = |known: &Connection| (known.target.to_string(), known.backlog.clone());
        self.spools.set(self.ports.iter().map(backlog).collect());
    }

    /// The port at `target`; with nothing on disk, where it is not [open](Self::open) yet.
    pub fn at(&mut self, target: &Target) -> &Connection {
        let position =
            |ports: &[Connection]| ports.iter().position(|known| known.target == *target);
        let index = position(&self.ports).unwrap_or_else(|| {
            self.open(Opening::in_memory(target.clone()));
            self.ports.len() - 1
        });
        &self.ports[index]
    }

    /// The ports that are open, and whether what must be read is kept on disk.
    pub fn targets(&self) -> Vec<(Target, bool)> {
        self.ports.iter().map(|known| (known.target.clone(), known.on_disk)).collect()
    }

    /// Tells every keeper which machine this has become.
    pub fn became(&self, machine: &Machine) {
        for connection in &self.ports {
            connection.became.send_replace(Some(machine.clone()));
        }
    }

    /// How many hosts have come, at all ports.
    pub fn connects(&self) -> u64 {
        self.ports.iter().map(|connection| *connection.hosts.borrow()).sum()
    }

    /// Whether no pipeline writes to a port.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The tasks of each port that is not started yet, and what closes it.
    pub fn start(&mut self) -> Vec<(Vec<Box<dyn Task>>, CancellationToken)> {
        let new = self.ports.iter_mut().filter(|connection| !connection.tasks.is_empty());
        new.map(|new| (std::mem::take(&mut new.tasks), new.closing.clone())).collect()
    }

    /// Forgets the ports that were not started.
    pub fn drop_unstarted(&mut self) {
        self.ports.retain(|connection| connection.tasks.is_empty());
        self.list_spools();
    }

    /// Lets every port go that is not in `used`: it ends when what is under way there is written.
    pub fn keep(&mut self, used: &[&Target]) {
        self.ports.retain(|connection| {
            let is_used = used.contains(&&connection.target);
            if !is_used {
                tracing::info!(port = %connection.target, "the port is closed: no pipeline uses it any more");
                connection.relay.close();
                connection.closing.cancel();
            }
            is_used
        });
        self.list_spools();
    }

    /// Lets all go: their lanes end with the flows.
    pub fn close(&mut self) {
        for connection in self.ports.drain(..) {
            connection.relay.close();
        }
    }
}

impl Connection {
    /// Takes what the host sends where no command flow does: dropped and counted.
    pub fn unheard(&self, stop: &CancellationToken) -> Box<dyn Task> {
        let (turn, counters) = (self.intake.turn(), Arc::clone(&self.counters));
        let (port, stop) = (self.target.to_string(), stop.clone());
        Box::new(Unheard { turn, counters, port, stop, said: false })
    }
}

/// Reads what nobody wants, so that the port does not look full to the host.
struct Unheard {
    turn: ReadLease,
    counters: Arc<Counters>,
    port: String,
    stop: CancellationToken,
    said: bool,
}

impl Task for Unheard {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        async {
            loop {
                let next = async {
                    self.turn.begin().await;
                    self.turn.next().await
                };
                let next = tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(()),
                    next = next => next,
                };
                match next {
                    None => return Ok(()),
                    Some(Inbound::Reset) => {}
                    Some(Inbound::Bytes(chunk)) => {
                        self.counters.bytes_in_unwanted.fetch_add(chunk.len() as u64, Relaxed);
                        if !std::mem::replace(&mut self.said, true) {
                            let port = &self.port;
                            tracing::info!(
                                %port,
                                "the host sends messages and no command flow reads them: they are dropped and counted"
                            );
                        }
                    }
                }
            }
        }
        .boxed()
    }

    fn faulted(&mut self) -> String {
        format!("port {}", self.port)
    }
}

impl Task for Port {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        let over = || StageError::last("its reader has closed it");
        Port::run(self)
            .map(move |summary| if summary.end == PortExit::Over { Err(over()) } else { Ok(()) })
            .boxed()
    }

    fn faulted(&mut self) -> String {
        let node = self.node();
        node.faulted();
        node.name().to_owned()
    }
}
