//! The task between those who say what must arrive and the port that says it. Does not know when the host
//! has read something: the port tells.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::acks::Acks;
use super::job::{Done, Job, Turn};
use super::message::DurableMessage;
use super::queue::Spool;
use super::status::{SpoolStatus, millis};
use super::storage::Storage;
use crate::pipeline::{StageError, StageStats, Task};
use crate::port::{Discarded, TrackedFrame};
use crate::sync::IgnorePoison;

/// Items taken at one wake-up.
const BURST: usize = 64;
/// How long an item may be written and not synced.
pub const SYNC_WITHIN: Duration = Duration::from_millis(50);
/// How long a note of what was read may be, because a lost one costs no more than a line that comes again.
const NOTE_WITHIN: Duration = Duration::from_secs(1);
/// How long nothing must happen before an empty file is made short.
const TIDY_AFTER: Duration = Duration::from_secs(1);
/// How often a disk that takes nothing is tried.
const RETRY_EVERY: Duration = Duration::from_secs(2);
/// How long after the end of the inbox the port may still tell what was read.
const LINGER: Duration = Duration::from_secs(2);

/// The machine has become another one, or went back to an earlier moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Counts such lives, from 1.
    pub life: u64,
    /// Which machine it is now.
    pub identity: String,
}

/// Keeps what comes in a [`Spool`], hands it to the port in order, and forgets it when the host has read it.
///
/// It takes whatever comes at once, also while no host is there, and never makes anyone wait longer than a
/// write. When its inbox ends, everything is written and synced, what the lane takes without waiting is
/// handed over, and the lane is closed; then it waits, 2 s at most, for the port to say what was read
/// meanwhile, until the port's end of that watch is gone. What was not read is there in the next run; what was in
/// memory only is lost, and counted in the log.
///
/// # The books
/// `taken = given + lost + held`: taken is what came and what was found at the start, given what is known
/// to be read.
///
/// # Why a fault loses nothing
/// The queue is behind a lock that only the one job on the blocking pool takes, and an item is in the
/// queue from the first line of that job; an item counts as handed over when the lane has it.
#[derive(Debug)]
pub struct SpoolTask<S> {
    desk: Arc<Mutex<Job<S>>>,
    inbox: mpsc::Receiver<DurableMessage>,
    open: bool,
    /// Taken, and not yet in the queue.
    hand: Vec<DurableMessage>,
    /// `None`: the port has ended, or there is nothing more to hand over.
    lane: Option<mpsc::Sender<TrackedFrame>>,
    read: watch::Receiver<u64>,
    machine: watch::Receiver<Option<Machine>>,
    /// The life of it that was heard of last.
    life: u64,
    /// The last number that the lane has.
    handed: u64,
    blocks: bool,
    clock: fn() -> SystemTime,
    void: Discarded,
    node: Arc<StageStats>,
}

impl<S: Storage> SpoolTask<S> {
    /// Keeps in `spool` what comes through `inbox`, hands it to `lane`, and hears from `read` up to which
    /// number the host has read it. The second is for whoever wants to know what waits; the third takes the
    /// machine's new identity when it has become another (a clone): what waits is given up then.
    pub fn new(
        spool: Spool<S>,
        inbox: mpsc::Receiver<DurableMessage>,
        lane: mpsc::Sender<TrackedFrame>,
        read: watch::Receiver<u64>,
        node: Arc<StageStats>,
    ) -> (Self, SpoolStatus, watch::Sender<Option<Machine>>) {
        let (became, machine) = watch::channel(None);
        let backlog = SpoolStatus::default();
        let blocks = spool.blocks();
        let desk = Job::new(spool, Arc::clone(&node), backlog.clone());
        let keeper = Self {
            blocks,
            desk: Arc::new(Mutex::new(desk)),
            inbox,
            open: true,
            hand: Vec::new(),
            lane: Some(lane),
            read,
            machine,
            life: 0,
            handed: 0,
            clock: SystemTime::now,
            void: Discarded::default(),
            node,
        };
        (keeper, backlog, became)
    }

    /// Which requests' answers the host has read.
    pub fn acks(&self) -> Acks {
        self.desk.lock().ignore_poison().acks.clone()
    }

    /// With another wall clock, for the times that records bear.
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.clock = clock;
        self
    }

    /// Says in `void` which of what the port has is given up, too.
    pub fn voiding(self, void: Discarded) -> Self {
        Self { void, ..self }
    }

    async fn pump(&mut self) -> Result<(), StageError> {
        let mut alarms = Alarms::default();
        let mut alarm = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            let mut done = self.turn(&alarms).await?;
            self.hand_over(std::mem::take(&mut done.ready));
            let now = Instant::now();
            alarms.set(&done, now);
            if !self.open {
                return self.end(done.nothing_waits).await;
            }
            if let Some(at) = alarms.next()
                && at != alarm.deadline()
            {
                alarm.as_mut().reset(at);
            }
            let Self { inbox, hand, lane, read, machine, open, .. } = &mut *self;
            let wanted = done.more && lane.is_some();
            tokio::select! {
                biased;
                taken = inbox.recv_many(hand, BURST) => *open = taken > 0,
                Ok(()) = read.changed() => {}
                Ok(()) = machine.changed() => {}
                gone = place(lane.as_ref()), if wanted => if gone { *lane = None },
                () = &mut alarm, if alarms.next().is_some() => {}
            }
        }
    }

    /// Does all there is to do, in one job.
    async fn turn(&mut self, alarms: &Alarms) -> Result<Done, StageError> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.lane.as_ref().is_some_and(mpsc::Sender::is_closed) {
            self.lane = None;
        }
        let machine = self.machine.borrow_and_update().clone();
        let machine = machine.filter(|new| new.life != self.life);
        if let Some(new) = &machine {
            self.life = new.life;
            self.void.up_to(self.handed);
        }
        let turn = Turn {
            items: std::mem::take(&mut self.hand),
            read: *self.read.borrow_and_update(),
            handed: self.handed,
            room: self.lane.as_ref().map_or(0, mpsc::Sender::capacity),
            machine: machine.map(|new| new.identity),
            now,
            now_ms: millis((self.clock)()),
            sync: due(alarms.sync) || !self.open,
            tidy: due(alarms.tidy) || !self.open,
            retry: due(alarms.retry) || !self.open,
        };
        if !self.blocks {
            return Ok(self.desk.lock().ignore_poison().work(turn));
        }
        let desk = Arc::clone(&self.desk);
        let job = move || desk.lock().ignore_poison().work(turn);
        let done = tokio::task::spawn_blocking(job).await;
        done.map_err(|error| StageError::new(format_args!("the spool's job broke: {error}")))
    }

    /// To the lane, which has room for them: this is its only sender.
    fn hand_over(&mut self, ready: Vec<TrackedFrame>) {
        for kept in ready {
            let Some(lane) = &self.lane else { return };
            let seq = kept.seq;
            match lane.try_send(kept) {
                Ok(()) => self.handed = seq,
                Err(mpsc::error::TrySendError::Full(_)) => return,
                Err(mpsc::error::TrySendError::Closed(_)) => self.lane = None,
            }
        }
    }

    /// Everything is written and synced: closes the lane, and notes what is read until the port has ended.
    async fn end(&mut self, mut nothing_waits: bool) -> Result<(), StageError> {
        self.lane = None;
        let until = Instant::now() + LINGER;
        while !nothing_waits {
            let heard = tokio::time::timeout_at(until, self.read.changed()).await;
            nothing_waits = self.turn(&Alarms::default()).await?.nothing_waits;
            if !matches!(heard, Ok(Ok(()))) {
                break;
            }
        }
        let waiting = self.desk.lock().ignore_poison().backlog.now();
        if waiting.in_memory > 0 {
            let (items, why) = (waiting.in_memory, waiting.why.as_deref().unwrap_or("no spool"));
            tracing::warn!(items, why, "what was in memory only is lost with the agent");
        }
        Ok(())
    }
}

impl<S: Storage> Task for SpoolTask<S> {
    fn run(&mut self) -> BoxFuture<'_, Result<(), StageError>> {
        self.pump().boxed()
    }

    fn faulted(&mut self) -> String {
        self.node.faulted();
        self.node.name().to_owned()
    }
}

/// Waits for a place in the lane. `true`: there will be none.
async fn place(lane: Option<&mpsc::Sender<TrackedFrame>>) -> bool {
    match lane {
        Some(lane) => lane.reserve().await.is_err(),
        None => true,
    }
}

/// When something is due by itself.
#[derive(Debug, Default)]
struct Alarms {
    sync: Option<Instant>,
    tidy: Option<Instant>,
    retry: Option<Instant>,
}

impl Alarms {
    fn set(&mut self, done: &Done, now: Instant) {
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
