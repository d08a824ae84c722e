//! Fills the write buffer, and accounts for what the device accepted.

use std::task::Context;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Ended, PortState, Progress, Session};
use crate::model::Frame;
use crate::port::counters::add;
use crate::port::flow_control::{BARRIER_BYTES, Share};
use crate::port::scheduler::{Next, weight};
use crate::port::write_buffer::{FrameKind, Outgoing};

impl Session<'_> {
    /// Fills the empty write buffer. Returns the step to take if it stays empty.
    pub(super) fn fill(&mut self, cx: &mut Context<'_>) -> Option<Progress> {
        self.open_session();
        let PortState { scheduler, write_buffer, window, acks, in_flight, control_lines, .. } =
            &mut *self.core;
        let mut is_full = false;
        let has_ended = loop {
            let (pending, room) =
                (write_buffer.pending(), write_buffer.room().saturating_sub(BARRIER_BYTES));
            let admits = |length, share| {
                if share == Share::Durable && !in_flight.admits_durable(length) {
                    is_full = true;
                    return false;
                }
                window.admits(pending, length, share)
            };
            match scheduler.next(cx, room, admits) {
                Next::Frame(outgoing) => write_buffer.push(outgoing),
                Next::NoRoom | Next::Nothing => break false,
                Next::Ended => break true,
            }
        };
        let (now, barrier_end) = (Instant::now(), window.barrier_end());
        let readings = write_buffer.has_telemetry() || in_flight.best_effort_end() > barrier_end;
        let is_due = write_buffer.has_durable() || in_flight.durable_end() > barrier_end;
        let is_due = is_due || readings && window.is_telemetry_barrier_due(now);
        if let Some(control_lines) = control_lines
            && write_buffer.room() >= BARRIER_BYTES
        {
            if let Some(number) = acks.take_request() {
                write_buffer
                    .push(control_frame(control_lines.keep_alive(number), FrameKind::Echo(number)));
            } else if window.wants_barrier(
                now,
                write_buffer.pending(),
                is_due,
                in_flight.durable_end(),
                has_ended || is_full || scheduler.durable_waits(),
            ) && let Some(number) = window.barrier(now, write_buffer.pending())
            {
                write_buffer.push(control_frame(
                    control_lines.keep_alive(number),
                    FrameKind::Barrier(number),
                ));
            }
        }
        self.accepted(0); // a frame of no bytes is written already
        match (self.core.write_buffer.is_empty(), has_ended) {
            (false, _) => None,
            (true, true) if self.awaits_ack() => Some(Progress::Waits),
            (true, true) => Some(Progress::Ends(Ended::Flushed)),
            (true, false) => Some(Progress::Waits),
        }
    }

    /// Adds the session line with a barrier, once the host understands events, and a changed breaker state.
    pub(super) fn open_session(&mut self) {
        let connects = *self.core.hosts.borrow();
        let PortState {
            write_buffer,
            acks,
            control_lines: Some(control_lines),
            breaker,
            breaker_reported,
            window,
            ..
        } = &mut *self.core
        else {
            return;
        };
        if self.session_line_due && acks.events_understood() {
            self.session_line_due = false;
            write_buffer.push(control_frame(control_lines.session(connects), FrameKind::Reply));
            // The first barrier comes before all data: a host that takes over behind it skips it, or answers over another
            // connection.
            let pending = write_buffer.pending();
            if acks.is_listening()
                && let Some(number) = window.barrier(Instant::now(), pending)
            {
                let barrier = control_lines.keep_alive(number);
                write_buffer.push(control_frame(barrier, FrameKind::Barrier(number)));
            }
        }
        if breaker.state != *breaker_reported && self.device.needs_newline() {
            *breaker_reported = breaker.state;
            write_buffer.push(control_frame(control_lines.breaker(breaker), FrameKind::Reply));
        }
    }

    pub(super) fn newline_written(&mut self, bytes: usize) {
        self.newline_due = false;
        self.host_present();
        self.is_stalled = false;
        self.core.window.accepted(Instant::now(), bytes);
        add(&self.core.counters.bytes_out, bytes as u64);
    }

    pub(super) fn accepted(&mut self, bytes: usize) {
        let PortState { write_buffer, node, on_written, counters, window, in_flight, .. } =
            &mut *self.core;
        let now = Instant::now();
        if bytes > 0 {
            window.accepted(now, bytes);
            self.is_stalled = false;
            add(&counters.bytes_out, bytes as u64);
        }
        let written = window.written();
        write_buffer.accept(bytes, |Outgoing { frame, what }, after| {
            let end = written - after as u64;
            node.sent(weight(&frame));
            if let Some(seen) = on_written {
                seen(&frame, now);
            }
            match what {
                FrameKind::Barrier(number) => window.barrier_written(now, number, end, false),
                FrameKind::Echo(number) => window.barrier_written(now, number, end, true),
                FrameKind::Durable(tracking) => in_flight.push_durable(end, tracking.with(frame)),
                FrameKind::Telemetry => in_flight.push_best_effort(end, weight(&frame)),
                FrameKind::Reply => {}
            }
        });
    }
}

/// A frame of the port's own. It carries no reading.
fn control_frame(bytes: Bytes, what: FrameKind) -> Outgoing {
    Outgoing { frame: Frame::new(bytes, 0, Instant::now()), what }
}
