//! Hosts that come and go: what each is told first, and what the next one gets of what the last one did not
//! read. Does not read or write.

use tokio::time::Instant;

use super::{Core, Ended, Session, Step};
use crate::port::counters::add;
use crate::port::scheduler::weight;
use crate::port::tracked_frame::{TrackedFrame, marked};
use crate::port::write_buffer::{Outgoing, What};

impl Session<'_> {
    /// Whoever is there has not been told anything yet.
    pub(super) fn is_somebody(&mut self) {
        if std::mem::take(&mut self.is_new) {
            // Else it may be the connection that was there when an earlier agent, or opening, ended.
            let is_new = self.host == Some(false);
            self.core.lanes.begin(Instant::now(), is_new);
            if is_new {
                self.core.answers.begun();
            }
        }
    }

    pub(super) fn host_is_there(&mut self) {
        self.is_somebody();
        if self.host.replace(true) != Some(true) {
            add(&self.core.counters.host_connects, 1);
            self.core.hosts.send_modify(|hosts| *hosts += 1);
            tracing::info!(port = %self.core.name, "a host is connected");
        }
    }

    /// Nothing is written, and nothing pulled from the lanes, until the device says that something
    /// changed: the level stays as it is for hours. What the host sent before it left is still read.
    pub(super) fn host_is_away(&mut self) -> Step {
        self.may_write = false;
        match self.host.replace(false) {
            Some(false) => {}
            Some(true) => self.host_left(),
            None => tracing::info!(port = %self.core.name, "no host is connected yet"),
        }
        self.start_anew();
        Step::Moved
    }

    pub(super) fn ends(&mut self, ended: Ended) -> Step {
        if self.host == Some(true) {
            self.host_left();
        }
        self.start_anew();
        self.core.inlet.host_left();
        Step::Ends(ended)
    }

    /// Another host is there, and nothing showed that the last one left.
    pub(super) fn host_was_replaced(&mut self) {
        if self.host.take() == Some(true) {
            self.host_left();
        }
        self.start_anew();
        self.may_write = true;
        self.host_is_there();
    }

    pub(super) fn host_left(&mut self) {
        add(&self.core.counters.host_leaves, 1);
        tracing::info!(port = %self.core.name, "the host has left");
    }

    /// Whoever comes next has seen nothing of the line that was being written, or half of it: a bare
    /// newline, and then that line whole. What must be read, and is not known to be, goes once more.
    ///
    /// # Why the newline goes to every host that comes, not only after an open
    /// An open is invisible to the host, so half a line of an earlier run may wait in its buffer. After
    /// a migration the tail of a write that was in flight reaches the next host, and a line
    /// of more than one write would be glued to it. One byte for each connect ends both.
    pub(super) fn start_anew(&mut self) {
        let Core { outbox, lanes, window, unread, afloat, node, voice, counters, .. } =
            &mut *self.core;
        let mut gone = afloat.take();
        let mut back = Vec::new();
        for (_, TrackedFrame { seq, mut frame, asked, audience, .. }) in unread.take() {
            frame.bytes = marked(&frame.bytes);
            node.took(weight(&frame)); // it was given, and is not
            back.push(Outgoing {
                frame,
                what: What::Durable { seq, again: true, asked, audience },
            });
        }
        let was_cut = outbox.dissolve(|mut outgoing, lines| {
            match &mut outgoing.what {
                What::Durable { again, .. } if lines > 0 => {
                    *again = true;
                    outgoing.frame.bytes = marked(&outgoing.frame.bytes);
                }
                // The rest of it goes to the next host; in most formats a line is a reading.
                What::Telemetry => gone += weight(&outgoing.frame).min(lines as u64),
                _ => {}
            }
            back.push(outgoing);
        });
        node.took(gone); // it was given, and may not have been read
        node.lost("unread", gone);
        for outgoing in back.into_iter().rev() {
            lanes.give_back(outgoing);
        }
        if was_cut {
            add(&counters.torn_lines_resent, 1);
        }
        let greets = self.device.greets();
        window.start_anew(self.device.window(), greets && voice.is_some());
        self.greeting_due = greets;
        self.opening_due = greets;
        self.is_new = true;
        self.is_stalled = false;
    }
}
