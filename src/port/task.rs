//! The port's task: opens the device, runs a session, and opens it again.

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
use super::in_flight::InFlight;
use super::inbound::{Inbound, InboundSender};
use super::retry::Retry;
use super::scheduler::Scheduler;
use super::session::{self, Ended, PortState};
use super::tracked_frame::{Discarded, TrackedFrame, Undelivered};
use super::write_buffer::WriteBuffer;
use crate::model::Frame;
use crate::pipeline::StageCounts;
use crate::pipeline::StageStats;

/// The most frames that are counted as dropped when the port ends with unread channels.
const DISCARD_FRAMES_MAX: usize = 64 * 1024;

/// How long a new socket gets to become ready: it exists before its owner listens.
const SETTLE: Duration = Duration::from_millis(20);

/// The port: one device and the one task that reads and writes it.
///
/// - Replies go first, then durable frames, then telemetry, whose streams take turns. A frame in the write buffer
///   (at most 32 KiB, or one longer frame) is not overtaken any more.
/// - While no host is connected, nothing is pulled from the channels, nothing is tried and nothing wakes.
/// - A line that was cut by a disconnect is written again whole. Of the frames accepted before it, only
///   unacknowledged durable ones are written again, marked; replies are dropped with their host.
/// - At most [`WINDOW_BYTES`](super::WINDOW_BYTES) are unacknowledged, on devices that a full ring would harm.
///
/// # Bounds
/// 64 frames in the replies channel, 16 in the durable one; 4 MiB of durable frames in flight; 16 chunks of at most
/// 4 KiB in the inbound channel; 32 KiB, or one longer frame, in the write buffer, and at most one more frame of
/// each kind. Telemetry streams bound themselves.
///
/// # Limits
/// Where one host follows another so fast that the device never shows the gap, a line of more than 32 KiB that was
/// being written reaches the second one from its middle; if it is durable, the second host's answer acknowledges it
/// all the same. A frame longer than the window is written when everything before it is acknowledged; a host that
/// disconnects in the middle of it may leave the device full.
pub struct Port {
    opener: Box<dyn Opener>,
    core: PortState,
}

/// How the port ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortExit {
    /// Every channel has ended, and the device accepted everything.
    Flushed,
    /// Closing while no host was connected, or after the deadline.
    Abandoned,
    /// The reader is gone for good (standard output is closed).
    Over,
}

/// What the port did. `taken = given + lost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// How the port ended.
    pub end: PortExit,
    /// Readings received from the channels.
    pub received: u64,
    /// Readings that the device accepted.
    pub sent: u64,
    /// Readings dropped, by reason: `shutdown`, `unread`, `session` and others.
    pub dropped: Vec<(&'static str, u64)>,
    /// Device errors that the port survived.
    pub failed: u64,
}

impl Port {
    /// A port without channels that counts in `node`. When `closing` fires, it stops reading, runs until every
    /// channel has ended and is written, and ends at once if no host is connected.
    pub fn new(
        opener: impl Opener + 'static,
        node: Arc<StageStats>,
        closing: CancellationToken,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let acks = AckTracker::starting_at(first_number(SystemTime::now()));
        let core = PortState {
            name: opener.name(),
            scheduler: Scheduler::new(Arc::clone(&node), acks.clone()),
            write_buffer: WriteBuffer::default(),
            inbound: InboundSender::new(Arc::clone(&counters)),
            closing,
            on_written: None,
            clock: SystemTime::now,
            hosts: watch::Sender::new(0),
            window: FlowControl::new(acks.clone()),
            acks,
            in_flight: InFlight::new(),
            control_lines: None,
            breaker: Breaker::default(),
            breaker_reported: BreakerState::Closed,
            node,
            counters,
        };
        Self { opener: Box::new(opener), core }
    }

    /// Replaces the wall clock, which also numbers the barriers. Call it before any channel is opened.
    pub fn with_clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.core.clock = clock;
        self.core.acks = AckTracker::starting_at(first_number(clock()));
        self.core.window = FlowControl::new(self.core.acks.clone());
        self.core.scheduler = Scheduler::new(Arc::clone(&self.core.node), self.core.acks.clone());
        self
    }

    /// Opens the replies channel: 64 frames, first in order. Call it once; clone the sender for more.
    pub fn replies(&mut self) -> mpsc::Sender<Frame> {
        self.core.scheduler.open_replies()
    }

    /// Opens the durable channel: 16 frames, after replies and before telemetry. Call it once. The receiver shows
    /// the sequence number up to which all frames are acknowledged.
    ///
    /// Unacknowledged frames of a host that disconnects are written to the next one, marked with
    /// `"redelivered":true`. For what counts as acknowledged see `FlowControl` in this folder.
    pub fn durable(&mut self) -> (mpsc::Sender<TrackedFrame>, watch::Receiver<u64>) {
        (self.core.scheduler.open_durable(), self.core.in_flight.subscribe())
    }

    /// Discards durable frames in the port that belong to an earlier identity of the machine.
    pub fn discarded(&self) -> Discarded {
        self.core.scheduler.discarded()
    }

    /// Notifies of durable replies that are dropped because the connection that requested them has ended.
    pub fn undelivered(&self) -> Undelivered {
        self.core.scheduler.undelivered()
    }

    /// Sets how the port's own lines are written. Without it the port writes none, and no barriers.
    pub fn control_lines(&mut self, control_lines: impl ControlLines + 'static) {
        self.core.control_lines = Some(Box::new(control_lines));
    }

    /// Reports the host's acknowledgements to the port. Barriers are written only after
    /// [`listen`](AckTracker::listen).
    pub fn acks(&self) -> AckTracker {
        self.core.acks.clone()
    }

    /// Adds a telemetry stream. It is polled only while a host is connected, and decides itself what to keep and
    /// drop meanwhile.
    pub fn telemetry(&mut self, stream: impl Stream<Item = Frame> + Send + 'static) {
        self.core.scheduler.add_telemetry(stream);
    }

    /// Opens the inbound channel: 16 chunks; while it is full, the device is not read. Call it once. It ends when
    /// the port closes. Without it, bytes from the host are dropped and counted.
    pub fn inbound(&mut self) -> mpsc::Receiver<Inbound> {
        self.core.inbound.open()
    }

    /// Calls `seen` with each frame whose last byte the device accepted, and the time. It runs in the port's task,
    /// so it must be short.
    pub fn on_written(&mut self, seen: impl FnMut(&Frame, Instant) + Send + 'static) {
        self.core.on_written = Some(Box::new(seen));
    }

    /// The port's counters, in readings.
    pub fn node(&self) -> Arc<StageStats> {
        Arc::clone(&self.core.node)
    }

    /// The number of host connects; ends with the port.
    pub fn hosts(&self) -> watch::Receiver<u64> {
        self.core.hosts.subscribe()
    }

    /// The device's counters.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.core.counters)
    }

    /// Runs until all channels have ended and are written, until `closing` fires with no host connected, or until
    /// the reader is gone for good. Dropping the future closes the device and loses nothing: call it again, or
    /// [`abandon`](Self::abandon) it.
    pub async fn run(&mut self) -> Summary {
        let end = self.serve().await;
        self.finish(end)
    }

    /// Drops everything in the write buffer and the channels, counted as lost: for a caller whose deadline has
    /// passed.
    pub fn abandon(&mut self) -> Summary {
        self.finish(PortExit::Abandoned)
    }

    async fn serve(&mut self) -> PortExit {
        let closing = self.core.closing.clone();
        let mut retry = Retry::new();
        loop {
            let opened = tokio::select! {
                biased; // flush even when closing, if the device opens at once
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
                            self.core.node.failed();
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
                    // An open breaker rests even if the device appears.
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

    /// The device failed or was refused. Returns the rest that it needs now.
    fn failed(&mut self) -> Option<Duration> {
        let rest = self.core.breaker.failed(Instant::now(), (self.core.clock)());
        if rest.is_some() {
            let failures = self.core.breaker.failures;
            tracing::warn!(port = %self.core.name, failures, "the port failed too often in a row: the next attempt waits longer");
        }
        rest
    }

    fn finish(&mut self, end: PortExit) -> Summary {
        let PortState { scheduler, write_buffer, in_flight, inbound, node, acks, .. } =
            &mut self.core;
        let reason = if end == PortExit::Over { "unread" } else { "shutdown" };
        let mut back = Vec::new();
        write_buffer.take_all(false, |outgoing, _| back.push(outgoing));
        back.into_iter().rev().for_each(|outgoing| scheduler.give_back(outgoing));
        drop(in_flight.take_durable()); // their sender still has them
        let (lost, durable) = scheduler.discard(DISCARD_FRAMES_MAX);
        node.dropped(reason, lost);
        node.discarded("kept", durable);
        *scheduler = Scheduler::new(Arc::clone(node), acks.clone());
        inbound.close();
        node.buffered(0);
        let StageCounts { received, sent, dropped, failed, .. } = node.count();
        Summary { end, received, sent, dropped, failed }
    }
}

/// The first barrier number of this run: a million for each millisecond, below 2^53, so that two runs share none.
/// The host's numbers are doubles.
fn first_number(now: SystemTime) -> u64 {
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    (millis % (1 << 32)) as u64 * 1_000_000
}
