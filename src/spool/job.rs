//! One job of the keeper: everything there is to do with the spool at that moment. Waits for nothing but
//! the disk.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::acks::Acks;
use super::message::DurableMessage;
use super::queue::Spool;
use super::status::SpoolStatus;
use super::storage::Storage;
use crate::pipeline::{EventCount, StageStats};
use crate::port::TrackedFrame;

/// Bytes that the port has and the host is not known to have read, a quarter of the spool at most; one item in any
/// case. More than the port's window: of a host that answers no barriers it is long not known, and what it asks for next
/// must not wait behind a long answer until then.
const HANDED_BYTES_MAX: u64 = 1 << 20;

/// What a job works on.
#[derive(Debug)]
pub(super) struct Job<S> {
    pub spool: Spool<S>,
    /// Taken, and not yet in the spool.
    pub coming: VecDeque<DurableMessage>,
    pub node: Arc<StageStats>,
    pub backlog: SpoolStatus,
    pub acks: Acks,
}

/// One job.
#[derive(Debug)]
pub(super) struct Turn {
    pub items: Vec<DurableMessage>,
    pub read: u64,
    pub handed: u64,
    /// Places in the lane.
    pub room: usize,
    pub machine: Option<String>,
    pub now: Instant,
    pub now_ms: u64,
    pub sync: bool,
    pub tidy: bool,
    pub retry: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub ready: Vec<TrackedFrame>,
    /// Something that may be handed over is left.
    pub more: bool,
    pub nothing_waits: bool,
    pub dirty: bool,
    pub urgent: bool,
    pub untidy: bool,
    pub failing: bool,
}

impl<S: Storage> Job<S> {
    pub(super) fn new(spool: Spool<S>, node: Arc<StageStats>, backlog: SpoolStatus) -> Self {
        let acks = Acks::default();
        acks.found(spool.waiting().iter().map(|entry| entry.request).filter(|n| *n > 0).collect());
        let mut desk = Self { spool, coming: VecDeque::new(), node, backlog, acks };
        desk.found();
        desk
    }

    /// Books what waits from earlier runs.
    fn found(&mut self) {
        let losses = self.spool.losses();
        let lost: u64 = losses.iter().map(|(_, weight)| weight).sum();
        self.node.took(self.spool.weight() + lost);
        for (reason, weight) in losses {
            self.node.lost(reason, weight);
        }
        self.tell();
    }

    pub(super) fn work(&mut self, turn: Turn) -> Done {
        let Self { spool, coming, node, .. } = self;
        let now_ms = turn.now_ms;
        coming.extend(turn.items);
        spool.put_words(turn.now, now_ms); // of what was shed when it was opened
        if let Some(identity) = turn.machine {
            spool.another_machine(&identity);
        }
        node.gave(spool.read_up_to(turn.read));
        let acknowledged = std::mem::take(&mut spool.acknowledged);
        spool.handed(turn.handed);
        if turn.retry {
            spool.retry(now_ms);
        }
        while let Some(must) = coming.pop_front() {
            node.took(must.weight());
            spool.put(must, turn.handed, now_ms);
        }
        spool.flush(now_ms);
        if turn.tidy {
            spool.tidy(now_ms); // that syncs too
        }
        if turn.sync {
            spool.sync(now_ms);
        }
        let (items, bytes) = (turn.room, HANDED_BYTES_MAX.min(spool.size / 4));
        let out = spool.bytes_up_to(turn.handed);
        let ready = match out {
            0 => spool.next(turn.handed, items, bytes, turn.now),
            out if out < bytes => spool.next(turn.handed, items, bytes - out, turn.now),
            _ => Vec::new(),
        };
        let last = ready.last().map_or(turn.handed, |kept| kept.seq);
        let left = spool.waiting().back().is_some_and(|newest| newest.seq > last);
        let done = Done {
            more: left && spool.bytes_up_to(last) < bytes,
            nothing_waits: spool.waiting().is_empty(),
            dirty: spool.is_dirty(),
            urgent: spool.is_urgent(),
            untidy: spool.is_untidy(),
            failing: spool.failing.is_some(),
            ready,
        };
        for (reason, weight) in spool.losses() {
            node.lost(reason, weight);
        }
        if !acknowledged.is_empty() {
            self.acks.read(&acknowledged);
        }
        self.tell();
        done
    }

    fn tell(&self) {
        self.node.holds(self.spool.weight());
        self.node.queued(self.spool.waiting().len() as u64);
        self.backlog.state(&self.spool);
    }
}
