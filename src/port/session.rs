//! One opening of the device, from open to gone: reads and writes at once, in one task, without ever
//! blocking. Does not open anything.

mod fill;
mod peer;
mod acks;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
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
use super::inbound::{CHUNK_BYTES_MAX, InboundSender};
use super::presumed::Presumed;
use super::scheduler::Scheduler;
use super::unread::Unacknowledged;
use super::write_buffer::WriteBuffer;
use crate::model::Frame;
use crate::pipeline::StageStats;

/// Sees each frame when its last byte was accepted, and when that was.
pub(super) type OnWritten = Box<dyn FnMut(&Frame, Instant) + Send>;

/// What outlives one opening of the device.
pub(super) struct Core {
    pub(super) name: String,
    pub(super) lanes: Scheduler,
    pub(super) outbox: WriteBuffer,
    pub(super) inlet: InboundSender,
    pub(super) closing: CancellationToken,
    pub(super) on_written: Option<OnWritten>,
    /// The wall clock, for what is told.
    pub(super) clock: fn() -> SystemTime,
    pub(super) node: Arc<StageStats>,
    pub(super) counters: Arc<Counters>,
    /// How many hosts have come.
    pub(super) hosts: watch::Sender<u64>,
    pub(super) window: FlowControl,
    pub(super) answers: AckTracker,
    /// Written, must be read, and not known to be.
    pub(super) unread: Unacknowledged,
    /// Written, kept nowhere, and not known to be read.
    pub(super) afloat: Presumed,
    pub(super) voice: Option<Box<dyn ControlLines>>,
    pub(super) breaker: Breaker,
    /// The last state of the breaker that a host was told.
    pub(super) breaker_said: BreakerState,
}

/// How one opening of the device ended, short of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Every lane has ended, and everything was written.
    Flushed,
    /// Closing, and nobody is there to write to.
    Abandoned,
    /// The device is gone and may come again.
    Gone,
    /// Nobody will ever read again.
    Over,
}

/// Moves bytes both ways until the device is gone or nothing is left to do. Dropping the future loses
/// nothing: the next session starts at the first byte of the line that was cut.
pub(super) async fn run(core: &mut Core, device: Box<dyn Device>) -> io::Result<Ended> {
    let mut session = Session::new(core, device);
    poll_fn(|cx| session.poll(cx)).await
}

/// Rounds of reading and writing before other tasks get their turn; with [`WRITES`] at most 512 KiB.
const ROUNDS: usize = 4;
/// Writes before reading gets its turn.
const WRITES: usize = 4;
/// Reads before writing gets its turn.
const READS: usize = 16;

struct Session<'a> {
    core: &'a mut Core,
    device: Box<dyn Device>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    is_closing: bool,
    /// Whether a host is there; `None` until the device has told.
    host: Option<bool>,
    /// A read, or a write, may find something to do: cleared when it does not, set by a change.
    may_read: bool,
    may_write: bool,
    /// A bare newline, and then the first line of the session, are due.
    greeting_due: bool,
    opening_due: bool,
    /// Nothing was heard of the host yet: replies that wait are for somebody else.
    is_new: bool,
    is_stalled: bool,
    opened: Instant,
    /// Until when the host has time to answer, once all is said.
    goodbye: Option<Instant>,
    /// When the window, or the breaker, wants to be looked at.
    alarm: Pin<Box<Sleep>>,
    is_alarm_set: bool,
    buffer: Box<[u8; CHUNK_BYTES_MAX]>,
}

/// What one side of a round came to.
enum Step {
    /// Something changed: look again before waiting.
    Moved,
    /// Nothing to do; whoever brings more wakes the task.
    Waits,
    Ends(Ended),
}

impl<'a> Session<'a> {
    fn new(core: &'a mut Core, device: Box<dyn Device>) -> Self {
        let mut session = Self {
            closing: Box::pin(core.closing.clone().cancelled_owned()),
            is_closing: false,
            host: None,
            may_read: true,
            may_write: true,
            greeting_due: false,
            opening_due: false,
            is_new: true,
            is_stalled: false,
            opened: Instant::now(),
            goodbye: None,
            alarm: Box::pin(sleep_until(Instant::now() + FAR)),
            is_alarm_set: false,
            buffer: Box::new([0; CHUNK_BYTES_MAX]),
            core,
            device,
        };
        session.start_anew();
        session.core.inlet.host_left();
        session
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Ended>> {
        add(&self.core.counters.wakeups, 1);
        self.core.answers.wake_on_answer(cx.waker());
        self.take_stock();
        let result = self.poll_rounds(cx);
        let held = self.core.outbox.held() + self.core.lanes.held();
        self.core.node.holds(held);
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
                    Step::Moved => has_moved = true,
                    Step::Waits => {}
                    Step::Ends(ended) => return Poll::Ready(Ok(ended)),
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

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        for _ in 0..READS {
            if !self.may_read || !self.core.inlet.is_ready(cx) {
                return Ok(Step::Waits);
            }
            match self.device.read(&mut self.buffer[..])? {
                // No sign of a host: it may have left after it sent them.
                Received::Bytes(bytes) => {
                    self.is_somebody();
                    self.core.window.is_alive(Instant::now());
                    self.core.inlet.give(&self.core.name, &self.buffer[..bytes]);
                }
                Received::Idle => {
                    self.host_is_there();
                    self.may_read = false;
                    return Ok(Step::Moved);
                }
                Received::Away => {
                    self.may_read = false;
                    self.core.inlet.host_left();
                    return Ok(self.host_is_away());
                }
                Received::Gone => return Ok(self.ends(Ended::Gone)),
            }
        }
        Ok(Step::Moved)
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        for _ in 0..WRITES {
            if !self.may_write {
                return Ok(Step::Waits);
            }
            if self.greeting_due {
                match self.device.write(b"\n")? {
                    Sent::Took(bytes) => self.greeted(bytes),
                    other => return Ok(self.blocked(other)),
                }
            }
            if self.core.outbox.is_empty()
                && let Some(nothing_to_write) = self.gather(cx)
            {
                return Ok(nothing_to_write);
            }
            match self.device.write(self.core.outbox.piece())? {
                Sent::Took(bytes) => self.accepted(bytes),
                other => return Ok(self.blocked(other)),
            }
        }
        Ok(Step::Moved)
    }

    /// The device did not take a write.
    fn blocked(&mut self, why: Sent) -> Step {
        match why {
            Sent::Took(_) => Step::Moved,
            Sent::Full => {
                self.may_write = false;
                self.host_is_there();
                if !std::mem::replace(&mut self.is_stalled, true) {
                    add(&self.core.counters.stalls, 1);
                }
                Step::Moved
            }
            Sent::Away => self.host_is_away(),
            Sent::Gone => self.ends(Ended::Gone),
            Sent::Over => self.ends(Ended::Over),
        }
    }
}
