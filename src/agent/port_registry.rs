//! The ports that the files name: one writer each, however many pipelines share it.
//!
//! A port outlives the flows that use it: a reload leaves it open, and the new flows take over its channels.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::agent::durable_port::{Opening, attach_spool};
use crate::agent::error::AgentError;
use crate::agent::status::{PORT_STAGE, PortReport, SPOOL_STAGE};
use crate::agent::telemetry_mux::TelemetryMux;
use crate::commands::notify::control_messages::ControlMessages;
use crate::commands::notify::session_start::SessionStarts;
use crate::commands::notify::spool_status::SpoolReport;
use crate::commands::receive::inbound::{ReadLease, SharedInbound};
use crate::config::HostKind;
use crate::model::Frame;
use crate::pipeline::{StageError, StatsRegistry, Task};
use crate::port::{
    AckTracker, Counters, Inbound, InvalidTarget, Port, PortExit, Target, Undelivered, check,
};
use crate::spool::{Acks, DurableMessage, DurableSink, Machine, SpoolStatus};

/// The ports, each created when it is first named.
pub struct Ports {
    /// Replaces every port that a file names.
    instead: Option<Target>,
    host: HostKind,
    health: StatsRegistry,
    closing: CancellationToken,
    spools: SpoolReport,
    report: PortReport,
    /// Device files are checked before use.
    checks: bool,
    ports: Vec<Connection>,
}

/// The channels of one port.
pub struct Connection {
    /// The address.
    pub target: Target,
    /// Takes metrics.
    pub telemetry: TelemetryMux,
    /// Takes replies to the connected host. They go before everything else.
    pub replies: mpsc::Sender<Frame>,
    /// Takes durable messages. They go before metrics.
    pub durable: mpsc::Sender<DurableMessage>,
    /// Takes the host's acknowledgements.
    pub ack_tracker: AckTracker,
    /// Reports replies that were dropped because their connection had ended.
    pub undelivered: Undelivered,
    /// Tells the spool task that the machine was restored or cloned.
    pub machine_changed: watch::Sender<Option<Machine>>,
    /// The requests whose replies are acknowledged.
    pub acks: Acks,
    /// The bytes that the port reads.
    pub inbound: SharedInbound,
    /// Counts connections.
    pub hosts: watch::Receiver<u64>,
    /// The connections for which a session was opened.
    pub greeted: SessionStarts,
    /// Closes the port.
    pub closing: CancellationToken,
    on_disk: bool,
    status: SpoolStatus,
    counters: Arc<Counters>,
    /// The port and its spool task, until they are started.
    tasks: Vec<Box<dyn Task>>,
}

impl Ports {
    /// No ports yet. `instead` replaces every port that a file names; `closing` closes all ports once their channels have
    /// ended.
    pub fn new(
        instead: Option<Target>,
        health: &StatsRegistry,
        closing: &CancellationToken,
    ) -> Self {
        let (health, closing) = (health.clone(), closing.clone());
        let (host, spools, report, ports) = Default::default();
        Self { instead, host, health, closing, spools, report, checks: true, ports }
    }

    /// Sets the kind of host that is assumed until a host declares its own.
    pub fn for_hosts(self, host: HostKind) -> Self {
        Self { host, ..self }
    }

    /// Does not check the devices of this machine: for drawing a topology.
    pub fn unchecked(mut self) -> Self {
        self.checks = false;
        self
    }

    /// Whether it is for drawing only: nothing of this machine is opened or created.
    pub(super) fn is_drawing(&self) -> bool {
        !self.checks
    }

    /// The address that a name in a file stands for. Checks the device.
    ///
    /// # Errors
    /// It is no name of a port, or what is there is no port.
    pub fn resolve(&self, name: &str) -> Result<Target, AgentError> {
        let target = self.target(name)?;
        if self.checks {
            check(&target)?;
        }
        Ok(target)
    }

    /// As [`resolve`](Self::resolve), without checking the device.
    ///
    /// # Errors
    /// It is no name of a port.
    pub fn target(&self, name: &str) -> Result<Target, InvalidTarget> {
        match &self.instead {
            Some(target) => Ok(target.clone()),
            None => name.parse(),
        }
    }

    /// Opens the port of `opening`, unless it is open.
    pub fn open(&mut self, opening: Opening) {
        if self.ports.iter().any(|known| known.target == opening.target) {
            return;
        }
        let Opening { target, opens_sessions, on_disk, spool, boot_id } = opening;
        let boot_id = Some(boot_id).filter(|boot_id| !boot_id.is_empty());
        let control = opens_sessions.then(|| ControlMessages::new(spool.session_ids(), boot_id));
        let node = |name: String| self.health.replacement().node(name);
        let closing = self.closing.child_token();
        let mut port =
            Port::new(target.clone(), node(format!("{PORT_STAGE}{target}")), closing.clone());
        if self.host == HostKind::Own {
            port.acks().set_own_host();
        }
        let telemetry = TelemetryMux::default();
        port.telemetry(telemetry.lane());
        let durable_port =
            attach_spool(&mut port, spool, control, node(format!("{SPOOL_STAGE}{target}")));
        self.ports.push(Connection {
            target,
            telemetry,
            replies: port.replies(),
            durable: durable_port.durable,
            ack_tracker: port.acks(),
            undelivered: port.undelivered(),
            machine_changed: durable_port.machine_changed,
            acks: durable_port.acks,
            on_disk,
            status: durable_port.status,
            inbound: SharedInbound::new(port.inbound()),
            hosts: port.hosts(),
            greeted: SessionStarts::default(),
            counters: port.counters(),
            closing,
            tasks: vec![durable_port.task, Box::new(port)],
        });
        self.list();
    }

    /// The counters of all ports, which follow later changes of the ports.
    pub(super) fn report(&self) -> PortReport {
        self.report.clone()
    }

    /// The status of all spools, which follows later changes of the ports.
    pub fn spools(&self) -> SpoolReport {
        self.spools.clone()
    }

    fn list(&self) {
        let status = |known: &Connection| (known.target.to_string(), known.status.clone());
        self.spools.set(self.ports.iter().map(status).collect());
        let counters = |known: &Connection| (known.target.to_string(), known.counters.clone());
        self.report.set(self.ports.iter().map(counters).collect());
    }

    /// The port at `target`. It is created with a spool in memory if it is not [open](Self::open).
    pub fn at(&mut self, target: &Target) -> &Connection {
        let position =
            |ports: &[Connection]| ports.iter().position(|known| known.target == *target);
        let index = position(&self.ports).unwrap_or_else(|| {
            self.open(Opening::in_memory(target.clone()));
            self.ports.len() - 1
        });
        &self.ports[index]
    }

    /// The open ports, and whether each has its spool on disk.
    pub fn targets(&self) -> Vec<(Target, bool)> {
        self.ports.iter().map(|known| (known.target.clone(), known.on_disk)).collect()
    }

    /// Tells every spool task that the machine was restored or cloned.
    pub fn machine_changed(&self, machine: &Machine) {
        for connection in &self.ports {
            connection.machine_changed.send_replace(Some(machine.clone()));
        }
    }

    /// The number of connections so far, over all ports.
    pub fn connects(&self) -> u64 {
        self.ports.iter().map(|connection| *connection.hosts.borrow()).sum()
    }

    /// Whether no pipeline uses a port.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The tasks of each port that is not started yet, and the token that closes it.
    pub fn start(&mut self) -> Vec<(Vec<Box<dyn Task>>, CancellationToken)> {
        let new = self.ports.iter_mut().filter(|connection| !connection.tasks.is_empty());
        new.map(|new| (std::mem::take(&mut new.tasks), new.closing.clone())).collect()
    }

    /// Removes the ports that were not started.
    pub fn drop_unstarted(&mut self) {
        self.ports.retain(|connection| connection.tasks.is_empty());
        self.list();
    }

    /// Closes every port that is not in `used`. It ends once its frames in flight are written.
    pub fn keep(&mut self, used: &[&Target]) {
        self.ports.retain(|connection| {
            let is_used = used.contains(&&connection.target);
            if !is_used {
                tracing::info!(port = %connection.target, "the port is closed: no pipeline uses it any more");
                connection.telemetry.close();
                connection.closing.cancel();
            }
            is_used
        });
        self.list();
    }

    /// Releases all ports: they end with the flows.
    pub fn close(&mut self) {
        for connection in self.ports.drain(..) {
            connection.telemetry.close();
        }
    }
}

impl Connection {
    /// A sink whose frames are stored until the host acknowledges them.
    pub fn durable_sink(&self, stop: &CancellationToken) -> DurableSink {
        let (durable, status) = (self.durable.clone(), self.status.clone());
        DurableSink::new(self.target.to_string(), durable, status, stop)
    }

    /// Discards and counts the input, for a port without a command flow.
    pub fn discard_input(&self, stop: &CancellationToken) -> Box<dyn Task> {
        let (turn, counters) = (self.inbound.lease(), Arc::clone(&self.counters));
        let (port, stop) = (self.target.to_string(), stop.clone());
        Box::new(DiscardInput { turn, counters, port, stop, has_logged: false })
    }
}

/// Reads and discards, so that the channel does not look full to the host.
struct DiscardInput {
    turn: ReadLease,
    counters: Arc<Counters>,
    port: String,
    stop: CancellationToken,
    has_logged: bool,
}

impl Task for DiscardInput {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        async {
            loop {
                let next = async {
                    self.turn.acquire().await;
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
                        if !std::mem::replace(&mut self.has_logged, true) {
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

    fn failed(&mut self) -> String {
        format!("{PORT_STAGE}{}", self.port)
    }
}

impl Task for Port {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        let over = || StageError::last("its reader has closed it");
        Port::run(self)
            .map(move |summary| if summary.end == PortExit::Over { Err(over()) } else { Ok(()) })
            .boxed()
    }

    fn failed(&mut self) -> String {
        let node = self.node();
        node.failed();
        node.name().to_owned()
    }
}
