//! Hosts that connect and disconnect: what each gets first, and what the next one gets of unacknowledged frames.

use tokio::time::Instant;

use super::{Ended, PortState, Progress, Session};
use crate::port::counters::add;
use crate::port::scheduler::weight;
use crate::port::tracked_frame::{TrackedFrame, Tracking, marked};
use crate::port::write_buffer::{FrameKind, Outgoing};

impl Session<'_> {
    /// The first sign of a host in this session starts it.
    pub(super) fn first_sign_of_host(&mut self) {
        if std::mem::take(&mut self.is_new) {
            // Otherwise the connection may be older than this opening of the device.
            let is_new = self.host == Some(false);
            self.core.scheduler.session_started(Instant::now(), is_new);
            if is_new {
                self.core.acks.host_connected();
            }
        }
    }

    pub(super) fn host_present(&mut self) {
        self.first_sign_of_host();
        if self.host.replace(true) != Some(true) {
            add(&self.core.counters.host_connects, 1);
            self.core.hosts.send_modify(|hosts| *hosts += 1);
            tracing::info!(port = %self.core.name, "a host is connected");
        }
    }

    /// No host is connected. Nothing is written or pulled until the device reports a change, which can take hours.
    /// What the host sent before it disconnected is still read.
    pub(super) fn host_absent(&mut self) -> Progress {
        self.may_write = false;
        match self.host.replace(false) {
            Some(false) => {}
            Some(true) => self.host_left(),
            None => tracing::info!(port = %self.core.name, "no host is connected yet"),
        }
        self.reset();
        Progress::Moved
    }

    pub(super) fn ends(&mut self, ended: Ended) -> Progress {
        if self.host == Some(true) {
            self.host_left();
        }
        self.reset();
        self.core.inbound.host_left();
        Progress::Ends(ended)
    }

    /// Another host is connected, and the device did not show the disconnect.
    pub(super) fn host_was_replaced(&mut self) {
        if self.host.take() == Some(true) {
            self.host_left();
        }
        self.reset();
        self.may_write = true;
        self.host_present();
    }

    pub(super) fn host_left(&mut self) {
        add(&self.core.counters.host_leaves, 1);
        tracing::info!(port = %self.core.name, "the host has left");
    }

    /// Prepares for the next host, which has received nothing, or half, of the line that was being written. It gets
    /// a bare newline and then that line whole. Unacknowledged durable frames are sent again, marked.
    ///
    /// # Why every host gets the newline, not only the first after an open
    /// The host cannot see an open, so half a line of an earlier run may be in its buffer. After a migration, the
    /// tail of a write in flight reaches the next host, and would join with a line longer than one write. One byte
    /// for each connect ends both.
    pub(super) fn reset(&mut self) {
        let PortState {
            write_buffer,
            scheduler,
            window,
            in_flight,
            node,
            control_lines,
            counters,
            ..
        } = &mut *self.core;
        let mut gone = in_flight.take_best_effort();
        let mut back = Vec::new();
        for (mut frame, tracking) in in_flight.take_durable().map(TrackedFrame::split) {
            frame.bytes = marked(&frame.bytes);
            node.received(weight(&frame)); // it was given, and is not
            let what = FrameKind::Durable(Tracking { redelivered: true, ..tracking });
            back.push(Outgoing { frame, what });
        }
        let needs_newline = self.device.needs_newline();
        let was_cut = write_buffer.take_all(needs_newline, |mut outgoing, lines| {
            match &mut outgoing.what {
                FrameKind::Durable(tracking) if lines > 0 => {
                    tracking.redelivered = true;
                    outgoing.frame.bytes = marked(&outgoing.frame.bytes);
                }
                // The rest goes to the next host. In most formats a line is a reading.
                FrameKind::Telemetry if lines > 0 => {
                    let weight = weight(&outgoing.frame);
                    if outgoing.frame.bytes.is_empty() {
                        node.sent(weight);
                        gone += weight;
                        return;
                    }
                    gone += weight.min(lines as u64);
                }
                _ => {}
            }
            back.push(outgoing);
        });
        node.received(gone); // it was given, and may not have been read
        node.dropped("unread", gone);
        for outgoing in back.into_iter().rev() {
            scheduler.give_back(outgoing);
        }
        if was_cut {
            add(&counters.torn_lines_resent, 1);
        }
        window.reset(self.device.window(), needs_newline && control_lines.is_some());
        self.newline_due = needs_newline;
        self.session_line_due = needs_newline;
        self.is_new = true;
        self.is_stalled = false;
    }
}
