//! Acknowledgements and timers of a session: releases what was acknowledged, notes a healthy session, and sets a
//! timer only where something waits.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::{PortState, Session};

/// The deadline of a timer that is not set.
pub(super) const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a closing port waits for the last acknowledgement. Without it, durable frames would be sent again.
const DRAIN_MAX: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// Everything is written: whether the last acknowledgement may still come.
    pub(super) fn awaits_ack(&mut self) -> bool {
        let PortState { in_flight, acks, .. } = &*self.core;
        let now = Instant::now();
        in_flight.has_durable()
            && acks.acknowledged().1
            && now < *self.drain_deadline.get_or_insert(now + DRAIN_MAX)
    }

    /// Applies new acknowledgements, and notes when the session has become healthy.
    pub(super) fn take_acks(&mut self) {
        let now = Instant::now();
        if self.core.acks.take_host_replaced() {
            self.host_was_replaced();
        }
        let PortState { window, in_flight, breaker, scheduler, .. } = &mut *self.core;
        if window.is_waiting() || !in_flight.is_empty() {
            window.credit(now, self.is_stalled);
            if in_flight.acknowledge(window.delivered(), window.read()) {
                scheduler.acknowledged();
            }
        }
        if breaker.healthy_at(self.opened).is_some_and(|at| at <= now) {
            breaker.healthy();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let PortState { window, in_flight, breaker, .. } = &*self.core;
        // A stalled device acknowledges nothing by time, and room wakes the task.
        let by_window =
            window.deadline(Instant::now(), in_flight.durable_end()).filter(|_| !self.is_stalled);
        let drain_deadline = self.drain_deadline.filter(|at| *at > Instant::now());
        [by_window, drain_deadline, breaker.healthy_at(self.opened)].into_iter().flatten().min()
    }

    pub(super) fn set_alarm(&mut self, cx: &mut Context<'_>) {
        match self.deadline() {
            None if !std::mem::take(&mut self.is_alarm_set) => {}
            None => self.alarm.as_mut().reset(Instant::now() + FAR),
            Some(deadline) => {
                self.is_alarm_set = true;
                self.alarm.as_mut().reset(deadline);
                if self.alarm.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
        }
    }
}
