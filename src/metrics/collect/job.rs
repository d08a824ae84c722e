//! A collector's place in a cadence: at home, or out on the blocking pool. Does not know when to read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use futures::FutureExt;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::Collector;
use super::nice::politely;
use crate::model::{CollectError, Group, SystemMetrics};
use crate::pipeline::panic_text;

/// A collector's place. It is empty while the collector is out on the blocking pool.
pub(super) struct CollectJob {
    pub(super) group: Group,
    /// How the collector was asked for: another one may take this one's place only if it is the same.
    pub(super) asked: String,
    /// It has read once, so that what needs an interval has one.
    pub(super) primed: bool,
    home: Option<Box<dyn Collector>>,
    out: Option<JoinHandle<(Box<dyn Collector>, SystemMetrics)>>,
    /// It missed a deadline and has not come back since.
    late: bool,
}

impl CollectJob {
    /// A place with `home` in it.
    pub(super) fn new(home: Box<dyn Collector>) -> Self {
        let (asked, group) = (String::new(), home.group());
        Self { group, asked, primed: false, home: Some(home), out: None, late: false }
    }

    /// Sends the collector to the blocking pool, if it is at home.
    pub(super) fn send_out(&mut self, now: Instant, like: &SystemMetrics) {
        let group = self.group;
        if let Some(out) = &mut self.out
            && let Some(back) = out.now_or_never()
        {
            // It came back after its deadline: what it read is too old, it itself is welcome.
            self.home = back.ok().map(|(collector, _)| collector);
            self.out = None;
            self.late = false;
        }
        let Some(mut collector) = self.home.take() else { return };
        self.primed = true;
        let mut part = SystemMetrics::empty(like.at, like.taken, like.every, like.sequence);
        self.out = Some(spawn_blocking(move || {
            let read = AssertUnwindSafe(|| collector.read(now, &mut part));
            if let Err(panic) = politely(|| catch_unwind(read)) {
                let what = format!("it panicked while reading: {}", panic_text(&*panic));
                part.troubles.push(CollectError { group, what });
            }
            (collector, part)
        }));
    }

    /// Waits for the collector, but not for one that has been late before.
    pub(super) async fn wait(
        &mut self,
        sent: Instant,
        limit: Duration,
    ) -> Result<SystemMetrics, CollectError> {
        let group = self.group;
        let trouble = |what: String| CollectError { group, what };
        let Some(out) = &mut self.out else {
            return Err(trouble("its collector is lost; restart the agent".to_owned()));
        };
        if self.late {
            return Err(trouble("it has not come back yet".to_owned()));
        }
        let Ok(back) = timeout_at(sent + limit, out).await else {
            self.late = true;
            return Err(trouble(format!("it did not come back within {limit:?}")));
        };
        self.out = None;
        let (collector, part) = back.map_err(|error| trouble(error.to_string()))?;
        self.home = Some(collector);
        Ok(part)
    }
}
