//! What goes into the next write, and what becomes of it once it was accepted. Does not touch the device.

use std::task::Context;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Core, Ended, Session, Step};
use crate::model::Frame;
use crate::port::counters::add;
use crate::port::flow_control::{BARRIER_BYTES, Share};
use crate::port::scheduler::{Next, weight};
use crate::port::tracked_frame::TrackedFrame;
use crate::port::write_buffer::{Outgoing, What};

impl Session<'_> {
    /// Fills the empty outbox, or says why it stays empty.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>) -> Option<Step> {
        self.open_session();
        let Core { lanes, outbox, window, answers, unread, afloat, voice, .. } = &mut *self.core;
        let has_ended = loop {
            let (pending, room) = (outbox.pending(), outbox.room().saturating_sub(BARRIER_BYTES));
            let admits = |length, share| {
                (share != Share::Durable || unread.admits(length))
                    && window.admits(pending, length, share)
            };
            match lanes.next(cx, room, admits) {
                Next::Frame(outgoing) => outbox.push(outgoing),
                Next::NoRoom | Next::Nothing => break false,
                Next::Ended => break true,
            }
        };
        let (now, asked) = (Instant::now(), window.asked_up_to());
        let readings = outbox.has_telemetry() || afloat.end() > asked;
        let must = outbox.has_must() || unread.end() > asked;
        let must = must || readings && window.is_time_to_ask(now);
        if let Some(voice) = voice
            && outbox.room() >= BARRIER_BYTES
        {
            if let Some(number) = answers.take_request() {
                outbox.push(own(voice.keep_alive(number), What::Echo(number)));
            } else if window.wants_barrier(now, outbox.pending(), must, unread.end(), has_ended)
                && let Some(number) = window.barrier(now, outbox.pending())
            {
                outbox.push(own(voice.keep_alive(number), What::Barrier(number)));
            }
        }
        self.accepted(0); // a frame of no bytes is written already
        match (self.core.outbox.is_empty(), has_ended) {
            (false, _) => None,
            (true, true) if self.awaits_answer() => Some(Step::Waits),
            (true, true) => Some(Step::Ends(Ended::Flushed)),
            (true, false) => Some(Step::Waits),
        }
    }

    /// Who speaks, as soon as that is understood, and what has become of the breaker, into the empty outbox.
    pub(super) fn open_session(&mut self) {
        let connects = *self.core.hosts.borrow();
        let Core { outbox, answers, voice: Some(voice), breaker, breaker_said, .. } =
            &mut *self.core
        else {
            return;
        };
        if self.opening_due && answers.is_understood() {
            self.opening_due = false;
            outbox.push(own(voice.session(connects), What::Reply));
        }
        if breaker.state != *breaker_said && self.device.greets() {
            *breaker_said = breaker.state;
            outbox.push(own(voice.breaker(breaker), What::Reply));
        }
    }

    pub(super) fn greeted(&mut self, bytes: usize) {
        self.greeting_due = false;
        self.host_is_there();
        self.is_stalled = false;
        self.core.window.accepted(Instant::now(), bytes);
        add(&self.core.counters.bytes_out, bytes as u64);
    }

    pub(super) fn accepted(&mut self, bytes: usize) {
        let Core { outbox, node, on_written, counters, window, unread, afloat, .. } =
            &mut *self.core;
        let now = Instant::now();
        if bytes > 0 {
            window.accepted(now, bytes);
            self.is_stalled = false;
            add(&counters.bytes_out, bytes as u64);
        }
        let written = window.written();
        outbox.accept(bytes, |Outgoing { frame, what }, after| {
            let end = written - after as u64;
            node.gave(weight(&frame));
            if let Some(seen) = on_written {
                seen(&frame, now);
            }
            match what {
                What::Barrier(number) => window.asked(now, number, end, false),
                What::Echo(number) => window.asked(now, number, end, true),
                What::Durable { seq, again, asked, audience } => {
                    unread.push(end, TrackedFrame { seq, frame, again, asked, audience });
                }
                What::Telemetry => afloat.push(end, weight(&frame)),
                What::Reply => {}
            }
        });
    }
}

/// A line of the port's own: it stands for no reading.
fn own(bytes: Bytes, what: What) -> Outgoing {
    Outgoing { frame: Frame { bytes, readings: 0, oldest: Instant::now() }, what }
}
