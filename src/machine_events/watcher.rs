//! Looks at the machine when it may have been away, and tells the host. Decides nothing about what is
//! queued: it says when that is another life's.

use std::path::PathBuf;
use std::time::Duration;

use futures::Stream;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::detect::{Clocks, Detector, MachineEvent};
use super::linux::{ClockChanges, Generations, monotonic_ns, read_clocks};
use crate::pipeline::StageError;
use crate::tasks::spawn_blocking;
use crate::wire::outbound::{AgentEvent, Severity};

/// How often it is looked when nothing asks for it: for what causes no event (a stop by the host, a new id).
///
/// # Why no oftener
/// Each look wakes the agent twice, which makes 0.017 wake-ups a second beside the 0.29 of the readings.
pub(crate) const INTERVAL: Duration = Duration::from_secs(120);

/// Tells what has happened to the machine, one [`AgentEvent`] for each time.
///
/// It looks when the kernel says that the wall clock jumped or the machine came back, when it reports a new
/// generation, and every `INTERVAL`. The event goes at once: its time stamp is what teaches the host the
/// clock that it signs with.
#[derive(Debug)]
pub struct MachineEvents {
    root: PathBuf,
    every: Duration,
    detector: Detector,
    /// New generations that the kernel has reported.
    generations_reported: u64,
    restored_or_cloned: watch::Sender<u64>,
}

impl MachineEvents {
    /// Has not looked yet.
    pub fn new() -> Self {
        Self {
            root: "/".into(),
            every: INTERVAL,
            detector: Detector::default(),
            generations_reported: 0,
            restored_or_cloned: watch::Sender::new(0),
        }
    }

    /// Reads every so often instead of [`INTERVAL`], at files below `root` instead of `/`: for a test.
    pub fn reading(mut self, root: impl Into<PathBuf>, every: Duration) -> Self {
        (self.root, self.every) = (root.into(), every);
        self
    }

    /// Counts how often the machine became another one, or went on from an earlier moment, while this ran.
    /// What is kept for the host is dropped when this changes; what was kept over a start
    /// of the agent is for [`is_same_machine`](super::is_same_machine) to judge.
    pub fn restored_or_cloned(&self) -> watch::Receiver<u64> {
        self.restored_or_cloned.subscribe()
    }

    /// Looks once. The blocking pool is where files are read.
    async fn look(&mut self, due_ns: i64) -> Option<AgentEvent> {
        let (root, reported) = (self.root.clone(), self.generations_reported);
        let clocks: Clocks =
            spawn_blocking(move || read_clocks(&root, reported, due_ns)).await.ok()?;
        let happened = self.detector.observe(clocks)?;
        if happened.is_restored_or_cloned() {
            self.restored_or_cloned.send_modify(|count| *count += 1);
        }
        let event = agent_event(&happened);
        tracing::info!(what = event.message, "the machine or its clock has jumped");
        Some(event)
    }
}

impl Default for MachineEvents {
    fn default() -> Self {
        Self::new()
    }
}

impl MachineEvents {
    /// One event for each time that something has happened, without an end.
    ///
    /// # Errors
    /// The kernel's notices cannot be had; nothing comes after.
    pub fn events(&mut self) -> impl Stream<Item = Result<AgentEvent, StageError>> + Send + '_ {
        async_stream::stream! {
            let wakeups = match Wakeups::new() {
                Ok(wakeups) => wakeups,
                Err(fault) => {
                    yield Err(fault);
                    return;
                }
            };
            let mut due_ns = 0;
            loop {
                if let Some(event) = self.look(due_ns).await {
                    yield Ok(event);
                }
                let every = i64::try_from(self.every.as_nanos()).unwrap_or(i64::MAX);
                due_ns = monotonic_ns().saturating_add(every);
                match wakeups.next(self.every).await {
                    Ok(new_generation) => self.generations_reported += u64::from(new_generation),
                    Err(fault) => {
                        yield Err(fault);
                        return;
                    }
                }
            }
        }
    }
}

/// What wakes besides the time.
struct Wakeups {
    jumps: ClockChanges,
    /// None where it may not be listened, as in some containers: then only its id tells a new generation.
    generations: Option<Generations>,
}

impl Wakeups {
    fn new() -> Result<Self, StageError> {
        let jumps = ClockChanges::new().map_err(unwatched)?;
        let generations = Generations::new()
            .inspect_err(|error| tracing::debug!(%error, "events of the kernel cannot be heard"));
        Ok(Self { jumps, generations: generations.ok() })
    }

    /// Comes back when it is time to look, or something asks for it; whether a new generation was reported.
    async fn next(&self, every: Duration) -> Result<bool, StageError> {
        tokio::select! {
            jumped = self.jumps.next() => jumped.map(|()| false).map_err(unwatched),
            new = next_of(self.generations.as_ref()) => new.map(|()| true).map_err(unwatched),
            () = sleep(every) => Ok(false),
        }
    }
}

fn unwatched(error: std::io::Error) -> StageError {
    StageError::new(format!("the clocks of the machine cannot be watched: {error}"))
}

/// Never comes back where there is nothing to listen to.
async fn next_of(generations: Option<&Generations>) -> std::io::Result<()> {
    match generations {
        Some(generations) => generations.next().await,
        None => std::future::pending().await,
    }
}

/// What has happened as one sentence for people, and as numbers for programs.
pub(crate) fn agent_event(happened: &MachineEvent) -> AgentEvent {
    let MachineEvent { suspended, stopped, stalled, set_forward, set_back, restored, cloned } =
        happened;
    let mut said = Vec::new();
    let mut say = |is: bool, what: String| said.extend(is.then_some(what));
    let long = |time: &Duration| {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        humantime::format_duration(Duration::from_millis(millis)).to_string()
    };
    say(*cloned, "this is another machine than before".to_owned());
    say(*restored, "the machine goes on from a snapshot".to_owned());
    say(!suspended.is_zero(), format!("the machine was suspended for {}", long(suspended)));
    say(!stopped.is_zero(), format!("the machine stood still for {}", long(stopped)));
    say(!stalled.is_zero(), format!("nothing ran for {}", long(stalled)));
    say(!set_forward.is_zero(), format!("the clock was set forward by {}", long(set_forward)));
    say(!set_back.is_zero(), format!("the clock was set back by {}", long(set_back)));
    let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let step = i64::try_from(set_forward.as_millis()).unwrap_or(i64::MAX)
        - i64::try_from(set_back.as_millis()).unwrap_or(i64::MAX);
    let is_grave = happened.is_restored_or_cloned();
    AgentEvent {
        severity: if is_grave { Severity::Warn } else { Severity::Info },
        source: "life",
        message: said.join("; "),
        execution_id: None,
        context: Some(json!({
            "gap_ms": millis(&happened.gap()),
            "suspended_ms": millis(suspended),
            "stopped_ms": millis(stopped),
            "stalled_ms": millis(stalled),
            "clock_step_ms": step,
            "restored": restored,
            "cloned": cloned,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::path::Path;

    #[test]
    fn an_event_tells_the_gap_to_people_and_to_programs() {
        let seconds = Duration::from_secs;
        let happened = MachineEvent {
            suspended: seconds(3_661),
            set_back: Duration::from_millis(1_500),
            ..MachineEvent::default()
        };
        let event = agent_event(&happened);
        let message = "the machine was suspended for 1h 1m 1s; the clock was set back by 1s 500ms";
        assert_eq!((event.severity, event.message.as_str()), (Severity::Info, message));
        let context = event.context.unwrap();
        assert_eq!(
            (&context["gap_ms"], &context["clock_step_ms"]),
            (&json!(3_661_000), &json!(-1_500))
        );
        let clone = MachineEvent { cloned: true, ..MachineEvent::default() };
        assert_eq!(agent_event(&clone).severity, Severity::Warn);
    }

    fn machine_id(root: &Path, id: &str) {
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/machine-id"), id.repeat(32)).unwrap();
    }

    #[tokio::test]
    async fn a_machine_that_becomes_another_one_is_reported_once_and_its_queue_belongs_to_the_other()
     {
        let root = tempfile::tempdir().unwrap();
        machine_id(root.path(), "a");
        let mut machine = MachineEvents::new().reading(root.path(), Duration::from_millis(5));
        let count = machine.restored_or_cloned();
        let mut events = std::pin::pin!(machine.events());
        let quiet = tokio::time::timeout(Duration::from_millis(100), events.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        assert_eq!(*count.borrow(), 0);
        machine_id(root.path(), "b");
        let Some(Ok(event)) = events.next().await else { panic!("no event") };
        assert_eq!(event.context.unwrap()["cloned"], true);
        assert_eq!(*count.borrow(), 1);
        let quiet = tokio::time::timeout(Duration::from_millis(100), events.next()).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
}
