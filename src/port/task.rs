//! The port as one task: opens the device, moves bytes while it lives, and opens it again. Does not know
//! what the bytes mean.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ack_tracker::AckTracker;
use super::breaker::{Breaker, BreakerState};
use super::control_lines::ControlLines;
use super::counters::Counters;
use super::device::{NotOpen, Opener};
use super::flow_control::FlowControl;
use super::inbound::{Inbound, InboundSender};
use super::presumed::Presumed;
use super::retry::Retry;
use super::scheduler::Scheduler;
use super::session::{self, Core, Ended};
use super::tracked_frame::{Discarded, TrackedFrame, Undelivered};
use super::unread::Unacknowledged;
use super::write_buffer::WriteBuffer;
use crate::model::{Frame, NodeCount};
use crate::pipeline::StageStats;

/// The most frames that are counted one by one when the port ends with its lanes unread.
const DISCARD_FRAMES_MAX: usize = 64 * 1024;

/// How long what has appeared has to become ready: a socket is there before anybody listens.
const SETTLE: Duration = Duration::from_millis(20);

/// The port: one device, one task that reads and writes it, lanes on this side of it.
///
/// - Replies leave first, then what must be read, then telemetry, whose lanes take turns. What is gathered for
///   a write, at most 32 KiB or one longer frame, is not overtaken any more.
/// - While no host is there nothing is pulled from the lanes, nothing is tried and nothing wakes.
/// - A line that was cut when the host left is written again whole. Of what was accepted before, only what must
///   be read is, marked; replies are for the host that asked, and are dropped with it.
/// - At most [`WINDOW_BYTES`](super::WINDOW_BYTES) are written and not known to be read, where a full
///   device comes to harm.
///
/// # Bounds
/// 64 frames in the replies lane, 16 in that of what must be read; 4 MiB written and not known to be read; 16
/// chunks of at most 4 KiB in the inbound lane; 32 KiB, or one longer frame, in hand, and at most one frame
/// more of each kind. The telemetry lanes bound themselves.
///
/// # Limits
/// Where one host follows another so fast that the device never shows the gap, a line of more than
/// 32 KiB that was being written reaches the second one from its middle; if it must be read, the answer of that
/// one stands for it all the same. A frame longer than the window is
/// written when all before it was read; a host that leaves in the middle of it may find the device full.
pub struct Port {
    opener: Box<dyn Opener>,
    core: Core,
}

/// How the port ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortExit {
    /// Every lane has ended, and the device accepted all there was.
    Flushed,
    /// Closing, while nobody was there to write to, or while the deadline passed.
    Abandoned,
    /// Nobody will ever read again (standard output is closed).
    Over,
}

/// What the port did, when it ended. `taken = given + lost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub end: PortExit,
    /// Readings that came in from the lanes.
    pub taken: u64,
    /// Readings accepted by the device.
    pub given: u64,
    /// Readings lost, by reason: `shutdown`, `unread`.
    pub lost: Vec<(&'static str, u64)>,
    /// Faults of the device that were survived.
    pub faults: u64,
}

impl Port {
    /// A port without lanes, with its books in `node`. When `closing` fires it stops reading, goes on
    /// until every lane has ended and is written, and ends at once where nobody is there to write to.
    pub fn new(
        opener: impl Opener + 'static,
        node: Arc<StageStats>,
        closing: CancellationToken,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let answers = AckTracker::starting_at(first_number(SystemTime::now()));
        let core = Core {
            name: opener.name(),
            lanes: Scheduler::new(Arc::clone(&node), answers.clone()),
            outbox: WriteBuffer::default(),
            inlet: InboundSender::new(Arc::clone(&counters)),
            closing,
            on_written: None,
            clock: SystemTime::now,
            hosts: watch::Sender::new(0),
            window: FlowControl::new(answers.clone()),
            answers,
            unread: Unacknowledged::new(),
            afloat: Presumed::default(),
            voice: None,
            breaker: Breaker::default(),
            breaker_said: BreakerState::Closed,
            node,
            counters,
        };
        Self { opener: Box::new(opener), core }
    }

    /// With another wall clock, from which its barriers are numbered too; before anything else is opened.
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.core.clock = clock;
        self.core.answers = AckTracker::starting_at(first_number(clock()));
        self.core.window = FlowControl::new(self.core.answers.clone());
        self.core.lanes = Scheduler::new(Arc::clone(&self.core.node), self.core.answers.clone());
        self
    }

    /// Opens the replies lane: 64 frames, lossless, first. Made once; clone the sender for more.
    pub fn replies(&mut self) -> mpsc::Sender<Frame> {
        self.core.lanes.open_replies()
    }

    /// Opens the lane of what must be read by some host: 16 frames, after replies and before telemetry.
    /// Made once. The other end tells up to which number all were read.
    ///
    /// What was written and not known to be read when a host leaves is written again to the next one,
    /// marked with `"redelivered":true`. How it is known: `FlowControl` in this folder.
    pub fn must(&mut self) -> (mpsc::Sender<TrackedFrame>, watch::Receiver<u64>) {
        (self.core.lanes.open_must(), self.core.unread.subscribe())
    }

    /// Where to say that what the port has of that lane is another life's.
    pub fn void(&self) -> Discarded {
        self.core.lanes.void()
    }

    /// Where to hear of answers in that lane that go to nobody, because the connection that asked for them has ended.
    pub fn undelivered(&self) -> Undelivered {
        self.core.lanes.undelivered()
    }

    /// What the port says on its own account. Without it, it says nothing, and asks no host how far it
    /// has read.
    pub fn voice(&mut self, voice: impl ControlLines + 'static) {
        self.core.voice = Some(Box::new(voice));
    }

    /// Where to tell the answers of the host; none is asked for until somebody [listens](AckTracker::listen).
    pub fn answers(&self) -> AckTracker {
        self.core.answers.clone()
    }

    /// Adds a telemetry lane. It is pulled only while a host is there to read, so what it keeps and
    /// what it lets go meanwhile is its own affair.
    pub fn telemetry(&mut self, lane: impl Stream<Item = Frame> + Send + 'static) {
        self.core.lanes.add_telemetry(lane);
    }

    /// Opens the inbound lane: 16 chunks; while it is full the device is not read. Made once. It ends
    /// when the port closes. Without it what comes in is dropped and counted.
    pub fn inbound(&mut self) -> mpsc::Receiver<Inbound> {
        self.core.inlet.open()
    }

    /// Calls `seen` with each frame whose last byte the device accepted, and when that was. It runs
    /// in the port's task, so it must be short.
    pub fn on_written(&mut self, seen: impl FnMut(&Frame, Instant) + Send + 'static) {
        self.core.on_written = Some(Box::new(seen));
    }

    /// The books, in readings.
    pub fn node(&self) -> Arc<StageStats> {
        Arc::clone(&self.core.node)
    }

    /// Counts the hosts that have come; ends with the port.
    pub fn hosts(&self) -> watch::Receiver<u64> {
        self.core.hosts.subscribe()
    }

    /// What happens at the device.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.core.counters)
    }

    /// Runs until the lanes have ended and are written, until `closing` finds nobody to write to, or
    /// until nobody will ever read again. Dropping the future closes the device and loses nothing:
    /// call it again, or [`abandon`](Self::abandon) it.
    pub async fn run(&mut self) -> Summary {
        let end = self.serve().await;
        self.finish(end)
    }

    /// Gives up what is in hand and in the lanes, counted as lost: for a caller whose deadline passed.
    pub fn abandon(&mut self) -> Summary {
        self.finish(PortExit::Abandoned)
    }

    async fn serve(&mut self) -> PortExit {
        let closing = self.core.closing.clone();
        let mut retry = Retry::new();
        loop {
            let opened = tokio::select! {
                biased; // a device that opens at once is still flushed to
                opened = self.opener.open() => opened,
                () = closing.cancelled() => return PortExit::Abandoned,
            };
            let (delay, rest) = match opened {
                Err(why) => {
                    let rest = match &why {
                        NotOpen::Absent(_) => None,
                        NotOpen::Busy(_) | NotOpen::Refused(_) => self.failed(),
                    };
                    (retry.after(&self.core.name, why), rest)
                }
                Ok(device) => {
                    let mut rest = None;
                    retry.opened(&self.core.name);
                    super::counters::add(&self.core.counters.opens, 1);
                    let opened = Instant::now();
                    match session::run(&mut self.core, device).await {
                        Ok(Ended::Flushed) => return PortExit::Flushed,
                        Ok(Ended::Abandoned) => return PortExit::Abandoned,
                        Ok(Ended::Over) => return PortExit::Over,
                        Ok(Ended::Gone) => {
                            tracing::info!(port = %self.core.name, "the port is gone")
                        }
                        Err(error) => {
                            self.core.node.faulted();
                            rest = self.failed();
                            tracing::warn!(port = %self.core.name, %error, "the port failed, opening it again");
                        }
                    }
                    (retry.after_session(opened.elapsed()), rest)
                }
            };
            let opener = &mut self.opener;
            let waited = async {
                match rest {
                    // What has to rest does so whatever appears.
                    Some(rest) => tokio::time::sleep(delay.max(rest)).await,
                    None => tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = opener.appears() => tokio::time::sleep(SETTLE).await,
                    },
                }
            };
            if closing.run_until_cancelled(waited).await.is_none() {
                return PortExit::Abandoned;
            }
            self.core.breaker.tries();
        }
    }

    /// The device failed, or was refused: the rest it must have now.
    fn failed(&mut self) -> Option<Duration> {
        let rest = self.core.breaker.failed(Instant::now(), (self.core.clock)());
        if rest.is_some() {
            let failures = self.core.breaker.failures;
            tracing::warn!(port = %self.core.name, failures, "the port failed too often in a row, and is given a rest");
        }
        rest
    }

    fn finish(&mut self, end: PortExit) -> Summary {
        let Core { lanes, outbox, unread, inlet, node, answers, .. } = &mut self.core;
        let reason = if end == PortExit::Over { "unread" } else { "shutdown" };
        let mut back = Vec::new();
        outbox.dissolve(|outgoing, _| back.push(outgoing));
        back.into_iter().rev().for_each(|outgoing| lanes.give_back(outgoing));
        unread.take(); // whoever keeps them has them
        let (lost, kept) = lanes.discard(DISCARD_FRAMES_MAX);
        node.lost(reason, lost);
        node.lost("kept", kept);
        *lanes = Scheduler::new(Arc::clone(node), answers.clone());
        inlet.close();
        node.holds(0);
        let NodeCount { taken, given, lost, faults, .. } = node.count();
        Summary { end, taken, given, lost, faults }
    }
}

/// The first number of this run's barriers: a million for each millisecond, below 2^53, so that no run
/// uses those of another. The host counts in doubles.
fn first_number(now: SystemTime) -> u64 {
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    (millis % (1 << 32)) as u64 * 1_000_000
}
