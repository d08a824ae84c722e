//! One session: from the opening of the device until it is gone. It reads and writes in one task and never blocks.

mod fill;
mod peer;
mod acks;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use self::acks::FAR;
use super::ack_tracker::AckTracker;
use super::breaker::{Breaker, BreakerState};
use super::control_lines::ControlLines;
use super::counters::{Counters, add};
use super::device::{Device, Received, Sent};
use super::flow_control::FlowControl;
use super::in_flight::InFlight;
use super::inbound::{CHUNK_BYTES_MAX, InboundSender};
use super::scheduler::Scheduler;
use super::write_buffer::WriteBuffer;
use crate::model::Frame;
use crate::pipeline::StageStats;

/// A callback for each frame whose last byte the device accepted, with the time.
pub(super) type OnWritten = Box<dyn FnMut(&Frame, Instant) + Send>;

/// State that outlives a session.
pub(super) struct PortState {
    pub(super) name: String,
    pub(super) scheduler: Scheduler,
    pub(super) write_buffer: WriteBuffer,
    pub(super) inbound: InboundSender,
    pub(super) closing: CancellationToken,
    pub(super) on_written: Option<OnWritten>,
    /// The wall clock, for control lines.
    pub(super) clock: fn() -> SystemTime,
    pub(super) node: Arc<StageStats>,
    pub(super) counters: Arc<Counters>,
    /// The number of host connects in this run.
    pub(super) hosts: watch::Sender<u64>,
    pub(super) window: FlowControl,
    pub(super) acks: AckTracker,
    pub(super) in_flight: InFlight,
    pub(super) control_lines: Option<Box<dyn ControlLines>>,
    pub(super) breaker: Breaker,
    /// The breaker state that was last sent to a host.
    pub(super) breaker_reported: BreakerState,
}

/// How a session ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every channel has ended, and everything was written.
    Flushed,
    /// Closing, and no host is connected.
    Abandoned,
    /// The device is gone and may come back.
    Gone,
    /// The reader is gone for good.
    Over,
}

/// Moves bytes both ways until the device is gone or nothing is left to do. Dropping the future loses nothing: the
/// next session starts at the first byte of the line that was cut.
pub(super) async fn run(core: &mut PortState, device: Box<dyn Device>) -> io::Result<Ended> {
    let mut session = Session::new(core, device);
    poll_fn(|cx| session.poll(cx)).await
}

/// The most rounds of reading and writing before other tasks get a turn; with [`WRITES`] at most 512 KiB.
const ROUNDS: usize = 4;
/// The most writes in a round.
const WRITES: usize = 4;
/// The most reads in a round.
const READS: usize = 16;

struct Session<'a> {
    core: &'a mut PortState,
    device: Box<dyn Device>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    is_closing: bool,
    /// Whether a host is connected; `None` until the device has shown it.
    host: Option<bool>,
    /// Whether a read or a write is worth a try: cleared when it finds nothing, set by a readiness change.
    may_read: bool,
    may_write: bool,
    /// A bare newline, then the session line, must be written first.
    newline_due: bool,
    session_line_due: bool,
    /// No sign of this host yet: replies that wait belong to an earlier one.
    is_new: bool,
    is_stalled: bool,
    opened: Instant,
    /// Until when the host may acknowledge the last frames.
    drain_deadline: Option<Instant>,
    /// The next deadline of the window or the breaker.
    alarm: Pin<Box<Sleep>>,
    is_alarm_set: bool,
    buffer: Box<[u8; CHUNK_BYTES_MAX]>,
}

/// The result of one read or write step.
enum Progress {
    /// Something changed: poll again before waiting.
    Moved,
    /// Nothing to do; a registered waker continues.
    Waits,
    Ends(Ended),
}

impl<'a> Session<'a> {
    fn new(core: &'a mut PortState, device: Box<dyn Device>) -> Self {
        let mut session = Self {
            closing: Box::pin(core.closing.clone().cancelled_owned()),
            is_closing: false,
            host: None,
            may_read: true,
            may_write: true,
            newline_due: false,
            session_line_due: false,
            is_new: true,
            is_stalled: false,
            opened: Instant::now(),
            drain_deadline: None,
            alarm: Box::pin(sleep_until(Instant::now() + FAR)),
            is_alarm_set: false,
            buffer: Box::new([0; CHUNK_BYTES_MAX]),
            core,
            device,
        };
        session.reset();
        session.core.inbound.host_left();
        session
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Ended>> {
        add(&self.core.counters.wakeups, 1);
        self.core.acks.wake_on_ack(cx.waker());
        self.take_acks();
        let result = self.poll_rounds(cx);
        let held = self.core.write_buffer.held() + self.core.scheduler.held();
        self.core.node.buffered(held);
        let (window, counters) = (&self.core.window, &self.core.counters);
        let unacknowledged = window.written().saturating_sub(window.read());
        counters.unacknowledged.store(unacknowledged, Relaxed);
        counters.is_waiting.store(window.is_waiting(), Relaxed);
        counters.never_acked.store(self.core.acks.never_acked(), Relaxed);
        counters.is_full.store(self.is_stalled, Relaxed);
        if result.is_pending() {
            self.set_alarm(cx);
        }
        result
    }

    fn poll_rounds(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Ended>> {
        for _ in 0..ROUNDS {
            let has_changed = self.device.poll_changed(cx)?.is_ready();
            self.may_read |= has_changed;
            self.may_write |= has_changed;
            if !self.is_closing && self.closing.as_mut().poll(cx).is_ready() {
                self.is_closing = true;
            }
            let mut has_moved = has_changed;
            for step in [Self::read, Self::write] {
                match step(self, cx)? {
                    Progress::Moved => has_moved = true,
                    Progress::Waits => {}
                    Progress::Ends(ended) => return Poll::Ready(Ok(ended)),
                }
            }
            if self.is_closing && self.host == Some(false) {
                return Poll::Ready(Ok(Ended::Abandoned));
            }
            if !has_moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<Progress> {
        for _ in 0..READS {
            if !self.may_read || !self.core.inbound.is_ready(cx) {
                return Ok(Progress::Waits);
            }
            match self.device.read(&mut self.buffer[..])? {
                // These bytes do not show that a host is connected: it may have left after it sent them.
                Received::Bytes(bytes) => {
                    self.first_sign_of_host();
                    self.core.window.host_sent(Instant::now());
                    self.core.inbound.push(&self.core.name, &self.buffer[..bytes]);
                }
                Received::Idle => {
                    self.host_present();
                    self.may_read = false;
                    return Ok(Progress::Moved);
                }
                Received::Away => {
                    self.may_read = false;
                    self.core.inbound.host_left();
                    return Ok(self.host_absent());
                }
                Received::Gone => return Ok(self.ends(Ended::Gone)),
            }
        }
        Ok(Progress::Moved)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Progress> {
        for _ in 0..WRITES {
            if !self.may_write {
                return Ok(Progress::Waits);
            }
            if self.newline_due {
                match self.device.write(b"\n")? {
                    Sent::Took(bytes) => self.newline_written(bytes),
                    other => return Ok(self.blocked(other)),
                }
            }
            if self.core.write_buffer.is_empty()
                && let Some(nothing_to_write) = self.fill(cx)
            {
                return Ok(nothing_to_write);
            }
            match self.device.write(self.core.write_buffer.next_chunk())? {
                Sent::Took(bytes) => self.accepted(bytes),
                other => return Ok(self.blocked(other)),
            }
        }
        Ok(Progress::Moved)
    }

    /// The device did not accept a write.
    fn blocked(&mut self, why: Sent) -> Progress {
        match why {
            Sent::Took(_) => Progress::Moved,
            Sent::Full => {
                self.may_write = false;
                self.host_present();
                if !std::mem::replace(&mut self.is_stalled, true) {
                    add(&self.core.counters.stalls, 1);
                }
                Progress::Moved
            }
            Sent::Away => self.host_absent(),
            Sent::Gone => self.ends(Ended::Gone),
            Sent::Over => self.ends(Ended::Over),
        }
    }
}
