//! One job of the spool task: everything there is to do with the spool at that moment. It blocks on the disk only.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::acks::Acks;
use super::message::DurableMessage;
use super::queue::Spool;
use super::status::SpoolStatus;
use crate::model::Receipt;
use crate::pipeline::{EventCount, StageStats};
use crate::port::TrackedFrame;
use crate::record_file::Storage;

/// The most bytes that the port may have unacknowledged; also at most a quarter of the spool, but always one item.
/// The item that reaches it says so, and the port asks the host. It is more than the port's window: a host that
/// answers no barriers acknowledges late, and its next reply must not wait behind a long one until then.
const HANDED_BYTES_MAX: u64 = 1 << 20;

/// The most receipts that are kept while nothing can be written. The sources of further messages read them again at
/// the next start.
const RECEIPTS_MAX: usize = 1024;

/// What outlives a job.
#[derive(Debug)]
pub(super) struct Job<S> {
    pub spool: Spool<S>,
    /// Received, and not yet in the spool.
    pub pending: VecDeque<DurableMessage>,
    pub node: Arc<StageStats>,
    pub status: SpoolStatus,
    pub acks: Acks,
    /// Of messages that are not known to be on disk; at most [`RECEIPTS_MAX`].
    receipts: Vec<Receipt>,
}

/// What a job gets.
#[derive(Debug)]
pub(super) struct JobInput {
    pub items: Vec<DurableMessage>,
    pub read: u64,
    pub handed_over: u64,
    /// Free capacity of the port's channel.
    pub room: usize,
    pub machine: Option<String>,
    pub now: Instant,
    pub now_ms: u64,
    pub sync: bool,
    pub tidy: bool,
    pub retry: bool,
}

/// The result of a job.
#[derive(Debug, Default)]
pub(super) struct JobOutput {
    pub ready: Vec<TrackedFrame>,
    /// More items may be handed over.
    pub more: bool,
    pub nothing_waits: bool,
    pub dirty: bool,
    pub urgent: bool,
    pub untidy: bool,
    pub failing: bool,
}

impl<S: Storage> Job<S> {
    pub(super) fn new(spool: Spool<S>, node: Arc<StageStats>, status: SpoolStatus) -> Self {
        let acks = Acks::default();
        acks.set_waiting(
            spool.waiting().iter().map(|entry| entry.request).filter(|n| *n > 0).collect(),
        );
        let (pending, receipts) = Default::default();
        let mut job = Self { spool, pending, node, status, acks, receipts };
        job.count_found();
        job
    }

    /// Counts what waits from earlier runs.
    fn count_found(&mut self) {
        let losses = self.spool.losses();
        let lost: u64 = losses.iter().map(|(_, weight)| weight).sum();
        self.node.received(self.spool.weight() + lost);
        for (reason, weight) in losses {
            self.node.dropped(reason, weight);
        }
        self.publish_status();
    }

    pub(super) fn work(&mut self, input: JobInput) -> JobOutput {
        let Self { spool, pending, node, receipts, .. } = self;
        let now_ms = input.now_ms;
        pending.extend(input.items);
        spool.put_tombstones(input.now, now_ms); // of evictions at the opening
        if let Some(identity) = input.machine {
            spool.change_machine(&identity);
        }
        node.sent(spool.acknowledge(input.read));
        let acknowledged = spool.take_acknowledged();
        spool.handed_over(input.handed_over);
        if input.retry {
            spool.retry(now_ms);
        }
        while let Some(mut message) = pending.pop_front() {
            node.received(message.weight());
            let receipt = std::mem::take(&mut message.frame.receipt);
            if receipt.is_awaited() && receipts.len() < RECEIPTS_MAX {
                receipts.push(receipt);
            }
            spool.put(message, input.handed_over, now_ms);
        }
        spool.flush(now_ms);
        if input.tidy {
            spool.tidy(now_ms); // it syncs as well
        }
        if input.sync {
            spool.sync(now_ms);
        }
        // Without a file only the host's acknowledgement is one.
        let is_stored = spool.is_stored() || spool.waiting().is_empty();
        if is_stored {
            receipts.drain(..).for_each(|receipt| receipt.acknowledge());
        }
        let (items, bytes) = (input.room, HANDED_BYTES_MAX.min(spool.size / 4));
        let out = spool.bytes_up_to(input.handed_over);
        let mut ready = match out {
            0 => spool.next(input.handed_over, items, bytes, input.now),
            out if out < bytes => spool.next(input.handed_over, items, bytes - out, input.now),
            _ => Vec::new(),
        };
        let last = ready.last().map_or(input.handed_over, |tracked| tracked.seq);
        let left = spool.waiting().back().is_some_and(|newest| newest.seq > last);
        let is_at_limit = spool.bytes_up_to(last) >= bytes;
        if let Some(newest) = ready.last_mut() {
            newest.sender_waits = is_at_limit;
        }
        let done = JobOutput {
            more: left && !is_at_limit,
            nothing_waits: spool.waiting().is_empty(),
            dirty: spool.is_dirty(),
            urgent: spool.is_urgent(),
            untidy: spool.is_untidy(),
            failing: spool.condition.is_failing(),
            ready,
        };
        for (reason, weight) in spool.losses() {
            node.dropped(reason, weight);
        }
        if !acknowledged.is_empty() {
            self.acks.acknowledge(&acknowledged);
        }
        self.publish_status();
        done
    }

    fn publish_status(&self) {
        self.node.buffered(self.spool.weight());
        self.node.queued(self.spool.waiting().len() as u64);
        self.status.state(&self.spool);
    }
}
