//! A guest's task: connects to its socket, again after each end, reads no faster than its rate, and hands its lines on. Whatever
//! a guest does costs only itself: its own time, and bytes that are counted before they are kept.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::{Bytes, BytesMut};
use tokio::net::UnixStream;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fair_queue::{FairQueue, GuestLine};
use super::fleet::{Count, Fleet, Guest, LineKind};
use super::in_flight::InFlight;
use super::message_id::MessageIds;
use super::metrics;
use super::session::{Disconnect, Incoming, Session, agent_version, answered_id};
use super::transport::Connector;
use super::vsock::ConnectionsByCid;
use crate::commands::secret::Secret;
use crate::config::Delivery;
use crate::tasks::spawn_blocking;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 16 << 10;
/// What a line costs of the rate at least, so that blank and short ones are bounded, too.
const LINE_COST: u64 = 256;
/// The shortest and the longest pause before a connection.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];
/// How long a connection must have been of use for the pauses to begin anew.
const USEFUL: Duration = Duration::from_secs(10);
/// How often it is looked whether an answer that waits for an output may go.
const LOOK: Duration = Duration::from_millis(20);

/// What all guests of a relay share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The guests.
    pub fleet: Arc<Fleet>,
    /// Connections of guests to the vsock of this host.
    pub by_cid: ConnectionsByCid,
    /// The outputs that take lines.
    pub outputs: Vec<Arc<FairQueue>>,
    /// Whether readings are served to Prometheus.
    pub serves_metrics: bool,
    /// Whether the web page is served.
    pub serves_web: bool,
    /// For how long an output tells lines apart by message ids, where one does.
    pub message_ids: Option<Duration>,
    /// The commands that guests are asked.
    pub commands: InFlight,
    /// Whether any can come.
    pub takes_commands: bool,
}

/// Reads one guest until `stop`.
pub(super) async fn follow(
    shared: Arc<Shared>,
    guest: Arc<Guest>,
    mut connector: Connector,
    stop: CancellationToken,
) {
    let mut pauses = pauses();
    loop {
        let began = Instant::now();
        let ended = connect(&shared, &guest, &mut connector, &stop).await;
        guest.connected(false);
        let Some(why) = ended else { break };
        guest.count(why);
        let (_, reason, word) = why.names();
        tracing::debug!(vm = &*guest.vm, socket = %connector.transport(), %reason, why = word, "a guest is not connected");
        if why == Count::Closed && began.elapsed() >= USEFUL {
            pauses = self::pauses();
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = sleep(pauses.next().unwrap_or(PAUSES[1])) => {}
        }
    }
}

fn pauses() -> ExponentialBackoff {
    let [shortest, longest] = PAUSES;
    let pauses = ExponentialBuilder::default().with_min_delay(shortest).with_max_delay(longest);
    pauses.with_jitter().without_max_times().build()
}

/// One connection, and why it has ended; `None` at the stop.
async fn connect(
    shared: &Shared,
    guest: &Arc<Guest>,
    connector: &mut Connector,
    stop: &CancellationToken,
) -> Option<Disconnect> {
    let opened = tokio::select! {
        biased;
        () = stop.cancelled() => return None,
        opened = connector.open() => opened,
    };
    let Ok(stream) = opened else { return Some(Count::Refused) };
    guest.connected(true);
    tracing::info!(vm = &*guest.vm, socket = %connector.transport(), "a guest is connected");
    let secret = secret(shared, &guest.vm).await;
    if secret.is_some() {
        guest.signed();
    }
    let mut connection = Connection {
        shared,
        guest,
        session: Session::new(secret),
        ids: shared
            .message_ids
            .map(|age| MessageIds::new(&shared.fleet.site, &guest.vm, age, Instant::now())),
        commands: SentCommands::default(),
        begun: 0,
        budget: Budget::new(shared.fleet.settings.rate.bytes(), Instant::now()),
    };
    let ended = connection.converse(&stream, stop).await;
    tracing::info!(
        vm = &*guest.vm,
        why = ended.map_or("stop", |end| end.names().2),
        "a guest has gone"
    );
    ended
}

/// The secret of a guest, where there is one to be had.
async fn secret(shared: &Shared, vm: &str) -> Option<Secret> {
    if !shared.fleet.settings.signs() {
        return None;
    }
    let (fleet, name) = (Arc::clone(&shared.fleet), vm.to_owned());
    let loaded = spawn_blocking(move || fleet.settings.key(&name)).await.ok()?;
    match loaded {
        Ok(Some(secret)) => Some(secret),
        Ok(None) => {
            tracing::warn!(vm, "the secret of a guest is empty; it is only listened to");
            None
        }
        Err(error) => {
            tracing::warn!(vm, %error, "a guest has no secret; it is only listened to");
            None
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    guest: &'a Arc<Guest>,
    session: Session,
    ids: Option<MessageIds>,
    commands: SentCommands,
    /// Bytes of its begun line, as the fleet counts them.
    begun: usize,
    budget: Budget,
}

/// The commands that were said on a connection.
#[derive(Default)]
struct SentCommands {
    /// A line came: the guest is there, and its clock is known.
    is_heard: bool,
    /// There may be more.
    has_more: bool,
    /// The number of the last one.
    last: u64,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.fleet.begun(self.begun, 0);
    }
}

impl Connection<'_> {
    /// Reads, answers and asks until one side ends it.
    async fn converse(
        &mut self,
        stream: &UnixStream,
        stop: &CancellationToken,
    ) -> Option<Disconnect> {
        let period = self.shared.fleet.settings.keep_alive.get();
        let mut ticks = interval_at(Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let unacknowledged = self.session.unacknowledged();
        if self.shared.takes_commands {
            // Its answer shows that the guest is there, also where it did not see the relay come.
            self.session.ask(SystemTime::now());
        }
        loop {
            let wait = self.budget.wait(Instant::now());
            let (is_waiting, has_unwritten) =
                (wait.is_some(), !self.session.unwritten().is_empty());
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = self.guest.asked.notified() => {
                    self.commands.has_more = true;
                    Ok(())
                }
                writable = stream.writable(), if has_unwritten => match writable {
                    Ok(()) => self.write(stream),
                    Err(_) => Err(Count::Closed),
                },
                _ = ticks.tick() => {
                    if !self.session.ask(SystemTime::now()) {
                        self.guest.count(Count::Unread);
                    }
                    Ok(())
                }
                _ = timeout(LOOK, unacknowledged.settled()), if self.session.waits() => self.answer(),
                () = sleep(wait.unwrap_or_default()), if is_waiting => Ok(()),
                readable = stream.readable(), if !is_waiting => match readable {
                    Ok(()) => tokio::select! {
                        biased;
                        () = stop.cancelled() => return None,
                        read = self.read(stream) => read,
                    },
                    Err(_) => Err(Count::Closed),
                },
            };
            if let Err(end) = ended {
                return Some(end);
            }
            self.send_commands();
        }
    }

    /// Says the commands that are in flight, as far as the guest reads.
    fn send_commands(&mut self) {
        while self.commands.is_heard && self.commands.has_more && self.session.has_room() {
            match self.shared.commands.next(&self.guest.vm, self.commands.last) {
                Some((number, payload)) => {
                    self.commands.last = number;
                    self.session.command(&payload, SystemTime::now());
                }
                None => self.commands.has_more = false,
            }
        }
    }

    fn answer(&mut self) -> Result<(), Disconnect> {
        let left_out = self.session.answer(SystemTime::now())?;
        self.guest.add(Count::Unread, left_out);
        Ok(())
    }

    fn write(&mut self, stream: &UnixStream) -> Result<(), Disconnect> {
        match stream.try_write(self.session.unwritten()) {
            Ok(bytes) => self.session.wrote(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Count::Closed),
        }
        Ok(())
    }

    /// Reads once, and hands on what has come.
    async fn read(&mut self, stream: &UnixStream) -> Result<(), Disconnect> {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        match stream.try_read_buf(&mut chunk) {
            Ok(0) => return Err(Count::Closed),
            Ok(bytes) => self.guest.add(Count::Bytes, bytes as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Count::Closed),
        }
        let fleet = &self.shared.fleet;
        let mut cost = chunk.len() as u64;
        let mut chunk: Bytes = chunk.freeze();
        let mut ended = self.session.take(&chunk, fleet.line_max());
        while ended.is_ok() {
            let now = SystemTime::now();
            let left = chunk.len();
            match self.session.next(&mut chunk, now) {
                Ok(Some(incoming)) => {
                    cost += LINE_COST.saturating_sub((left - chunk.len()) as u64);
                    self.take(incoming, now).await;
                }
                Ok(None) => break,
                Err(end) => ended = Err(end),
            }
        }
        fleet.begun(self.begun, self.session.begun());
        self.begun = self.session.begun();
        if self.budget.spend(cost, Instant::now()) {
            self.guest.count(Count::Rate);
        }
        ended?;
        self.answer()
    }

    async fn take(&mut self, incoming: Incoming, now: SystemTime) {
        if let Incoming::Nothing(why) = incoming {
            return self.guest.count(why);
        }
        self.guest.heard(Instant::now());
        if !std::mem::replace(&mut self.commands.is_heard, true) {
            self.commands.has_more = true;
        }
        let Incoming::Line(kind, line) = incoming else {
            return self.guest.count(Count::KeepAlives);
        };
        self.guest.count(match kind {
            LineKind::Metrics => Count::Metrics,
            LineKind::Response => Count::Responses,
            LineKind::Event => Count::Events,
            LineKind::Record => Count::Records,
        });
        if kind == LineKind::Response
            && self.shared.commands.has(&self.guest.vm)
            && let Some(id) = answered_id(&line)
        {
            self.shared.commands.answer(&self.guest.vm, &id, &line);
        }
        if kind == LineKind::Event
            && let Some(version) = agent_version(&line)
        {
            self.guest.runs(&version);
            // Such an event begins a session.
            self.session.session_began();
            self.ids.iter_mut().for_each(MessageIds::session_began);
        }
        self.keep(kind, &line, now);
        self.hand_on(kind, line, now).await;
    }

    /// Keeps what those see who look at the guest as it is now.
    fn keep(&self, kind: LineKind, line: &[u8], at: SystemTime) {
        let Shared { serves_metrics, serves_web, fleet, .. } = self.shared;
        match kind {
            LineKind::Metrics if *serves_metrics || *serves_web => {
                let reading = metrics::reading(line, Instant::now());
                if let Some(reading) = reading.as_ref().filter(|_| *serves_web) {
                    self.guest.history().read(reading, line, at);
                }
                if *serves_metrics {
                    metrics::keep(fleet, self.guest, reading.as_ref());
                }
            }
            LineKind::Event if *serves_web => self.guest.history().hear(line, at),
            _ => {}
        }
    }

    /// Puts a line in front of every output. One that must not be lost waits for room, and with it this guest, whose own
    /// queue is full; a reading is dropped instead.
    async fn hand_on(&mut self, kind: LineKind, bytes: Bytes, at: SystemTime) {
        let must_arrive =
            kind != LineKind::Metrics || self.shared.fleet.settings.metrics == Delivery::Durable;
        let id = self.ids.as_mut().map(|ids| ids.next(&bytes, Instant::now())).unwrap_or_default();
        let receipts = self.session.receipts(self.shared.outputs.len());
        for (output, receipt) in self.shared.outputs.iter().zip(receipts) {
            let guest = Arc::clone(self.guest);
            let mut line = GuestLine { guest, kind, at, bytes: bytes.clone(), id, receipt };
            let mut has_waited = false;
            while let Err(refused) = output.push(line) {
                line = refused;
                if !must_arrive {
                    line.receipt.acknowledge();
                    self.guest.count(Count::OutputFull);
                    break;
                }
                if !std::mem::replace(&mut has_waited, true) {
                    self.guest.count(Count::Output);
                }
                self.guest.room.notified().await;
            }
        }
    }
}

/// The bytes that may be read of a guest: a rate, and what it saves up in a second.
struct Budget {
    rate: u64,
    left: i128,
    at: Instant,
}

impl Budget {
    fn new(rate: u64, now: Instant) -> Self {
        Self { rate, left: rate.into(), at: now }
    }

    /// Takes `bytes` off; whether there is less than nothing left for the first time.
    fn spend(&mut self, bytes: u64, now: Instant) -> bool {
        self.fill(now);
        let had_any = self.left > 0;
        self.left -= i128::from(bytes);
        had_any && self.left <= 0
    }

    /// How long nothing may be read.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        self.fill(now);
        let missing = u64::try_from(-self.left).ok().filter(|_| self.left < 0)?;
        Some(
            Duration::from_secs_f64(missing as f64 / self.rate as f64)
                .max(Duration::from_millis(1)),
        )
    }

    fn fill(&mut self, now: Instant) {
        let new = now.saturating_duration_since(self.at).as_nanos() * u128::from(self.rate);
        let new = i128::try_from(new / 1_000_000_000).unwrap_or(i128::MAX);
        // What is less than a byte is not lost: its time is counted again.
        if new > 0 {
            self.left = self.left.saturating_add(new).min(self.rate.into());
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_read_no_faster_than_its_rate() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut budget = Budget::new(1000, start);
        assert_eq!(budget.wait(start), None, "a second's worth is there at the beginning");
        assert!(budget.spend(1500, start));
        assert_eq!(budget.wait(start), Some(Duration::from_millis(500)));
        assert!(!budget.spend(100, start), "it is known");
        assert_eq!(budget.wait(after(500)), Some(Duration::from_millis(100)));
        assert_eq!(budget.wait(after(601)), None);
        assert!(budget.spend(1000, after(10_000)), "no more than a second's worth is saved up");
        assert_eq!(budget.wait(after(10_000)), None);
    }
}
