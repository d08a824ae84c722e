//! A collector's place in a cadence, and the queue that a round of reading works off on the blocking pool. Does not know
//! when to read.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Collector;
use super::nice::politely;
use crate::model::{CollectError, Group, SystemMetrics};
use crate::pipeline::panic_text;
use crate::sync::IgnorePoison;
use crate::tasks::spawn_blocking;

/// How long one thread may take over a queue before another one helps, so that a collector that hangs does not stop those
/// behind it.
const HELP_AFTER: Duration = Duration::from_millis(100);

/// A collector's place. It is empty while the collector is out.
pub(super) struct CollectJob {
    pub(super) group: Group,
    /// How the collector was asked for: another one may take this one's place only if it is the same.
    pub(super) asked: String,
    /// It has read once, so that what needs an interval has one.
    pub(super) primed: bool,
    home: Option<Box<dyn Collector>>,
    out: Option<oneshot::Receiver<Returned>>,
    /// What it brought back in this round.
    part: Option<SystemMetrics>,
    /// It missed a deadline and has not come back since.
    late: bool,
}

/// A collector on its way, with the place that it goes back to.
struct LentCollector {
    collector: Box<dyn Collector>,
    part: SystemMetrics,
    home: oneshot::Sender<Returned>,
}

/// A collector that is back, and what it read; nothing where it had not begun.
struct Returned {
    collector: Box<dyn Collector>,
    part: Option<SystemMetrics>,
}

impl CollectJob {
    /// A place with `home` in it.
    pub(super) fn new(home: Box<dyn Collector>) -> Self {
        let (asked, group) = (String::new(), home.group());
        let (out, part, home) = (None, None, Some(home));
        Self { group, asked, primed: false, home, out, part, late: false }
    }

    /// Sends the collector on its way, if it is at home.
    fn send_out(&mut self, like: &SystemMetrics) -> Option<LentCollector> {
        // If it came back after its deadline, what it read is too old, and it itself is welcome.
        if self.is_back() {
            (self.part, self.late) = (None, false);
        }
        let collector = self.home.take()?;
        let (home, out) = oneshot::channel();
        (self.primed, self.out) = (true, Some(out));
        let part = SystemMetrics::empty(like.at, like.taken, like.every, like.sequence);
        Some(LentCollector { collector, part, home })
    }

    /// Whether it is not out, or was and has just come back.
    fn is_back(&mut self) -> bool {
        let Some(out) = &mut self.out else { return true };
        match out.try_recv() {
            Ok(back) => (self.home, self.part) = (Some(back.collector), back.part),
            Err(TryRecvError::Empty) => return false,
            Err(TryRecvError::Closed) => {} // it is lost
        }
        self.out = None;
        true
    }

    /// What it brought, or why there is nothing, when the time of a round is over.
    fn take(&mut self, limit: Duration) -> Result<SystemMetrics, CollectError> {
        let what = if self.late {
            "it has not come back yet".to_owned()
        } else if self.out.is_some() {
            self.late = true;
            format!("it did not come back within {limit:?}")
        } else if let Some(part) = self.part.take() {
            return Ok(part);
        } else if self.home.is_some() {
            format!("its turn did not come within {limit:?}")
        } else {
            "its collector is lost; restart the agent".to_owned()
        };
        Err(CollectError { group: self.group, what })
    }
}

/// Reads the collectors of `slots` one after the other, and gives what each brought. One that hangs is waited for `limit`,
/// once; meanwhile another thread goes on with those behind it.
///
/// Dropping it loses nothing but what was read.
///
/// # Why not each by itself
/// Ten jobs cost 601 µs of processor time and 17 changes of thread, one 356 and 3.3 (2 cores, Linux 6.18, 90 processes).
pub(super) async fn read_round(
    slots: &mut [&mut CollectJob],
    like: &SystemMetrics,
    limit: Duration,
) -> Vec<Result<SystemMetrics, CollectError>> {
    let errands: VecDeque<_> = slots.iter_mut().filter_map(|slot| slot.send_out(like)).collect();
    let (deadline, pause) = (like.taken + limit, HELP_AFTER.min(limit / 4));
    let queue = Queue(Arc::new(Shared { errands: Mutex::new(errands), done: Notify::new() }));
    let mut next = like.taken;
    while slots.iter_mut().any(|slot| !slot.late && !slot.is_back()) {
        let (now, has_begun) = (Instant::now(), next > like.taken);
        if has_begun && now >= deadline {
            break;
        }
        if now >= next {
            if !queue.is_empty() {
                queue.help(like.taken);
            }
            next = now + pause;
        }
        tokio::select! {
            () = queue.0.done.notified() => {}
            () = sleep_until(next.min(deadline)) => {}
        }
    }
    slots.iter_mut().map(|slot| slot.take(limit)).collect()
}

/// The collectors of a round. Those that have not begun go home when the round is over.
struct Queue(Arc<Shared>);

struct Shared {
    errands: Mutex<VecDeque<LentCollector>>,
    /// A thread found nothing more to do.
    done: Notify,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.0.errands.lock().ignore_poison().is_empty()
    }

    /// One more thread for the queue. There are never more than collectors: each has one of them, or ends.
    fn help(&self, now: Instant) {
        let shared = self.0.clone();
        spawn_blocking(move || {
            politely(|| {
                while let Some(errand) = shared.next() {
                    errand.run(now);
                }
            });
            shared.done.notify_one();
        });
    }
}

impl Shared {
    fn next(&self) -> Option<LentCollector> {
        self.errands.lock().ignore_poison().pop_front()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        while let Some(LentCollector { collector, home, .. }) = self.0.next() {
            let _ = home.send(Returned { collector, part: None });
        }
    }
}

impl LentCollector {
    fn run(mut self, now: Instant) {
        let group = self.collector.group();
        let read = AssertUnwindSafe(|| self.collector.read(now, &mut self.part));
        if let Err(panic) = catch_unwind(read) {
            let what = format!("it panicked while reading: {}", panic_text(&*panic));
            self.part.troubles.push(CollectError { group, what });
        }
        // The source may have ended meanwhile.
        let _ = self.home.send(Returned { collector: self.collector, part: Some(self.part) });
    }
}
