//! What time and answers change: what was read, and whether the session has been a healthy one. Sets the
//! alarm for it, and an alarm only where something waits.

use std::future::Future;
use std::task::Context;
use std::time::Duration;

use tokio::time::Instant;

use super::{Core, Session};

/// When an alarm that is not set would go off.
pub(super) const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a host that answers has, when all is said, to say that it has read what must be read. Without that it
/// would come again.
const GOODBYE: Duration = Duration::from_secs(1);

impl Session<'_> {
    /// All is said: whether the last answer may still come.
    pub(super) fn awaits_answer(&mut self) -> bool {
        let Core { unread, answers, .. } = &*self.core;
        let now = Instant::now();
        !unread.is_empty() && answers.heard().1 && now < *self.goodbye.get_or_insert(now + GOODBYE)
    }

    /// What was answered, what has been read by now, and whether the session has been a healthy one.
    pub(super) fn take_stock(&mut self) {
        let now = Instant::now();
        if self.core.answers.take_skipped() {
            self.host_was_replaced();
        }
        let Core { window, unread, afloat, breaker, .. } = &mut *self.core;
        if window.is_waiting() || !unread.is_empty() || !afloat.is_empty() {
            window.credit(now, self.is_stalled);
            unread.read_up_to(window.delivered());
            afloat.read_up_to(window.read());
        }
        if breaker.healthy_at(self.opened).is_some_and(|at| at <= now) {
            breaker.healthy();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let Core { window, unread, breaker, .. } = &*self.core;
        // While the device has no room nothing is known to be read, and room wakes the task.
        let by_window = window.deadline(Instant::now(), unread.end()).filter(|_| !self.is_stalled);
        let goodbye = self.goodbye.filter(|at| *at > Instant::now());
        [by_window, goodbye, breaker.healthy_at(self.opened)].into_iter().flatten().min()
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
