//! The spool task, between the senders of durable messages and the port.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::acks::Acks;
use super::job::{Job, JobInput, JobOutput};
use super::message::DurableMessage;
use super::queue::Spool;
use super::record::millis;
use super::status::SpoolStatus;
use crate::pipeline::{StageError, StageStats, Task};
use crate::port::{Discarded, TrackedFrame};
use crate::record_file::Storage;
use crate::sync::IgnorePoison;
use crate::tasks::spawn_blocking;

/// Messages received at one wake-up.
const BURST: usize = 64;
/// How long a message may be written and not synced.
pub(crate) const SYNC_WITHIN: Duration = Duration::from_millis(50);
/// How long an acknowledgement may be unsynced: losing it costs only a redelivered line.
const NOTE_WITHIN: Duration = Duration::from_secs(1);
/// How long an empty spool must be idle before its file is shortened.
const TIDY_AFTER: Duration = Duration::from_secs(1);
/// How often a failing disk is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// How long the port may still acknowledge after the inbox has ended.
const LINGER: Duration = Duration::from_secs(2);

/// The machine was cloned, or restored to an earlier moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The number of such events, from 1.
    pub life: u64,
    /// The identity of the machine now.
    pub identity: String,
}

/// Stores messages in a [`Spool`], hands them to the port in order, and removes them when the host acknowledges.
///
/// It always receives, also while no host is connected, and delays senders for a write at most. When its inbox
/// ends, everything is written and synced, the port gets what its channel takes without waiting, and the channel is
/// closed. Then it records acknowledgements, for 2 s at most or until the port ends. Unacknowledged messages are
/// sent in the next run; those in memory only are lost, and the log says how many.
///
/// # Counters
/// `taken = given + lost + held`: taken is what was received or found at the start, given what is acknowledged.
///
/// # Why a fault loses nothing
/// The queue is behind a lock that only the one job on the blocking pool takes, and a message is in the queue from
/// the first line of that job. It counts as handed over when the port's channel has it.
#[derive(Debug)]
pub struct SpoolTask<S> {
    job: Arc<Mutex<Job<S>>>,
    inbox: mpsc::Receiver<DurableMessage>,
    open: bool,
    /// Received, and not yet in the queue.
    batch: Vec<DurableMessage>,
    /// The port's channel. `None`: the port has ended, or nothing more is handed over.
    port: Option<mpsc::Sender<TrackedFrame>>,
    read: watch::Receiver<u64>,
    machine: watch::Receiver<Option<Machine>>,
    /// The last event that was handled.
    life: u64,
    /// The last number that was sent to the port.
    handed_over: u64,
    blocks: bool,
    clock: fn() -> SystemTime,
    discarded: Discarded,
    node: Arc<StageStats>,
}

impl<S: Storage> SpoolTask<S> {
    /// Stores messages from `inbox` in `spool`, sends them to `port`, and removes them up to the number in `read`.
    /// Also returns the status, and the sender for the machine's new identity: when it changes (a clone),
    /// everything that waits is dropped.
    pub fn new(
        spool: Spool<S>,
        inbox: mpsc::Receiver<DurableMessage>,
        port: mpsc::Sender<TrackedFrame>,
        read: watch::Receiver<u64>,
        node: Arc<StageStats>,
    ) -> (Self, SpoolStatus, watch::Sender<Option<Machine>>) {
        let (became, machine) = watch::channel(None);
        let status = SpoolStatus::default();
        let blocks = spool.blocks();
        let job = Job::new(spool, Arc::clone(&node), status.clone());
        let task = Self {
            blocks,
            job: Arc::new(Mutex::new(job)),
            inbox,
            open: true,
            batch: Vec::new(),
            port: Some(port),
            read,
            machine,
            life: 0,
            handed_over: 0,
            clock: SystemTime::now,
            discarded: Discarded::default(),
            node,
        };
        (task, status, became)
    }

    /// The acknowledged replies.
    pub fn acks(&self) -> Acks {
        self.job.lock().ignore_poison().acks.clone()
    }

    /// Replaces the wall clock, which dates records.
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Also discards in the port what is dropped here when the machine changes.
    pub fn with_discarded(self, discarded: Discarded) -> Self {
        Self { discarded, ..self }
    }

    async fn process(&mut self) -> Result<(), StageError> {
        let mut alarms = Alarms::default();
        let mut alarm = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            let mut done = self.run_job(&alarms).await?;
            self.hand_over(std::mem::take(&mut done.ready));
            let now = Instant::now();
            alarms.set(&done, now);
            if !self.open {
                return self.shut_down(done.nothing_waits).await;
            }
            if let Some(at) = alarms.next()
                && at != alarm.deadline()
            {
                alarm.as_mut().reset(at);
            }
            let Self { inbox, batch, port, read, machine, open, .. } = &mut *self;
            let wanted = done.more && port.is_some();
            tokio::select! {
                biased;
                taken = inbox.recv_many(batch, BURST) => *open = taken > 0,
                Ok(()) = read.changed() => {}
                Ok(()) = machine.changed() => {}
                gone = wait_for_capacity(port.as_ref()), if wanted => if gone { *port = None },
                () = &mut alarm, if alarms.next().is_some() => {}
            }
        }
    }

    /// Runs one job.
    async fn run_job(&mut self, alarms: &Alarms) -> Result<JobOutput, StageError> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.port.as_ref().is_some_and(mpsc::Sender::is_closed) {
            self.port = None;
        }
        let machine = self.machine.borrow_and_update().clone();
        let machine = machine.filter(|new| new.life != self.life);
        if let Some(new) = &machine {
            self.life = new.life;
            self.discarded.up_to(self.handed_over);
        }
        let run_job = JobInput {
            items: std::mem::take(&mut self.batch),
            read: *self.read.borrow_and_update(),
            handed_over: self.handed_over,
            room: self.port.as_ref().map_or(0, mpsc::Sender::capacity),
            machine: machine.map(|new| new.identity),
            now,
            now_ms: millis((self.clock)()),
            sync: due(alarms.sync) || !self.open,
            tidy: due(alarms.tidy) || !self.open,
            retry: due(alarms.retry) || !self.open,
        };
        if !self.blocks {
            return Ok(self.job.lock().ignore_poison().work(run_job));
        }
        let job = Arc::clone(&self.job);
        let job = move || job.lock().ignore_poison().work(run_job);
        let done = spawn_blocking(job).await;
        done.map_err(|error| StageError::new(format_args!("the spool's job broke: {error}")))
    }

    /// Sends to the port's channel. It has room: this is its only sender.
    fn hand_over(&mut self, ready: Vec<TrackedFrame>) {
        for tracked in ready {
            let Some(port) = &self.port else { return };
            let seq = tracked.seq;
            match port.try_send(tracked) {
                Ok(()) => self.handed_over = seq,
                Err(mpsc::error::TrySendError::Full(_)) => return,
                Err(mpsc::error::TrySendError::Closed(_)) => self.port = None,
            }
        }
    }

    /// Everything is written and synced: closes the port's channel, and records acknowledgements until the port has
    /// ended.
    async fn shut_down(&mut self, mut nothing_waits: bool) -> Result<(), StageError> {
        self.port = None;
        let until = Instant::now() + LINGER;
        while !nothing_waits {
            let changed = tokio::time::timeout_at(until, self.read.changed()).await;
            nothing_waits = self.run_job(&Alarms::default()).await?.nothing_waits;
            if !matches!(changed, Ok(Ok(()))) {
                break;
            }
        }
        let waiting = self.job.lock().ignore_poison().status.now();
        if waiting.in_memory > 0 {
            let (items, why) = (waiting.in_memory, waiting.why.as_deref().unwrap_or("no spool"));
            tracing::warn!(items, why, "what was in memory only is lost with the agent");
        }
        Ok(())
    }
}

impl<S: Storage> Task for SpoolTask<S> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        self.process().boxed()
    }

    fn failed(&mut self) -> String {
        self.node.failed();
        self.node.name().to_owned()
    }
}

/// Waits for capacity in the port's channel. `true`: there will be none.
async fn wait_for_capacity(port: Option<&mpsc::Sender<TrackedFrame>>) -> bool {
    match port {
        Some(port) => port.reserve().await.is_err(),
        None => true,
    }
}

/// The next times of scheduled work.
#[derive(Debug, Default)]
struct Alarms {
    sync: Option<Instant>,
    tidy: Option<Instant>,
    retry: Option<Instant>,
}

impl Alarms {
    fn set(&mut self, done: &JobOutput, now: Instant) {
        let keep = |at: Option<Instant>| at.filter(|at| *at > now);
        let within = if done.urgent { SYNC_WITHIN } else { NOTE_WITHIN };
        self.sync =
            done.dirty.then(|| keep(self.sync).map_or(now + within, |at| at.min(now + within)));
        self.retry = done.failing.then(|| keep(self.retry).unwrap_or(now + RETRY_EVERY));
        self.tidy = done.untidy.then(|| now + TIDY_AFTER);
    }

    fn next(&self) -> Option<Instant> {
        [self.sync, self.tidy, self.retry].into_iter().flatten().min()
    }
}
