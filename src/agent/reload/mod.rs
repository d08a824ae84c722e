//! The daemon's main loop: runs the flows, and changes them when it is asked to. Does not know who asks, nor
//! how a flow is changed.

pub(in crate::agent) mod command_state;
pub(in crate::agent) mod flow_manager;
pub(in crate::agent) mod notifier;
pub(in crate::agent) mod plan;
pub(in crate::agent) mod report;
mod watch;

use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::agent::machine_news;
use crate::agent::reload::flow_manager::FlowManager;
use crate::agent::reload::notifier::ReloadNotifier;
use crate::agent::reload::plan::{Origin, Plan};
use crate::agent::reload::report::Report;
use crate::agent::reload::watch::FileWatcher;
use crate::agent::systemd;
use crate::commands::notify::agent_events::AgentEvents;
use crate::commands::notify::drop_report::LOOK_EVERY;
use crate::machine_events::MachineEvents;

/// Requests that wait while one is answered.
pub(in crate::agent) const REQUESTS_WAITING: usize = 8;

/// Who asks where nobody does: a file has changed.
pub(in crate::agent) const CHANGED_FILE: &str = "a changed file";

/// Somebody wants the files to be read again.
pub(in crate::agent) struct ReloadRequest {
    pub by: &'static str,
    pub answer: Option<oneshot::Sender<Report>>,
}

impl ReloadRequest {
    /// Nobody waits for an answer.
    pub(in crate::agent) fn by(by: &'static str) -> Self {
        Self { by, answer: None }
    }

    /// With somebody who waits.
    pub(in crate::agent) fn answered(by: &'static str) -> (Self, oneshot::Receiver<Report>) {
        let (answer, waits) = oneshot::channel();
        (Self { by, answer: Some(answer) }, waits)
    }
}

/// The main loop, and what it needs.
pub(in crate::agent) struct Main {
    pub flows: FlowManager,
    pub origin: Origin,
    pub news: AgentEvents,
    pub stop: CancellationToken,
    pub asks: mpsc::Sender<ReloadRequest>,
    /// What the host is told of it.
    pub telling: ReloadNotifier,
    /// The files were wrong when they were read last.
    pub were_wrong: bool,
}

impl Main {
    /// Runs until every flow has ended.
    pub(in crate::agent) async fn run(
        mut self,
        mut asked: mpsc::Receiver<ReloadRequest>,
    ) -> FlowManager {
        let mut watching = FileWatcher::default();
        self.watch(&mut watching);
        let mut closed = false;
        let life = MachineEvents::new();
        let mut lives = life.lives();
        let mut told = std::pin::pin!(machine_news::life(life));
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !closed => {
                    closed = true;
                    self.flows.close();
                }
                any = self.flows.ended() => if !any { return self.flows },
                Some(event) = told.next(), if !closed => {
                    // First what was queued goes, so that this is not among it.
                    if lives.has_changed().unwrap_or(false) {
                        let life = *lives.borrow_and_update();
                        self.flows.became(&machine_news::machine(life).await);
                    }
                    self.news.tell(event);
                }
                _ = look.tick(), if !closed => {
                    if let Some(event) = self.flows.losses() {
                        self.news.tell(event);
                    }
                    for event in self.flows.spool_news() {
                        self.news.tell(event);
                    }
                }
                () = at(self.telling.due()), if !closed => {
                    self.news.tell(self.telling.tell(Instant::now()));
                }
                Some(asked) = asked.recv(), if !closed => {
                    self.reload(asked).await;
                    self.watch(&mut watching);
                }
            }
        }
    }

    async fn reload(&mut self, ReloadRequest { by, answer }: ReloadRequest) {
        systemd::reloading().await;
        let report = match self.plan().await {
            Ok(plan) => self.flows.change(plan).await.map_err(|why| vec![why]),
            Err(wrong) => Err(wrong),
        };
        let report = report.unwrap_or_else(Report::of_wrong);
        report.log(by, by != CHANGED_FILE || self.were_wrong);
        self.telling.heard(by, &report);
        self.were_wrong = !report.wrong.is_empty();
        if let Some(answer) = answer {
            let _ = answer.send(report); // who asked may have gone
        }
        systemd::ready().await;
    }

    /// What the files want now.
    async fn plan(&self) -> Result<Plan, Vec<String>> {
        let (origin, settings) = (self.origin.clone(), self.flows.agent.clone());
        let (carried, stop) = (self.flows.carried.clone(), self.stop.clone());
        let open = self.flows.open();
        let read = move || {
            let loaded = origin.load()?;
            let before = (carried.as_ref(), &open[..]);
            origin.plan(loaded, &settings, before, &stop).map_err(|why| vec![why])
        };
        spawn_blocking(read).await.unwrap_or_else(|error| Err(vec![error.to_string()]))
    }

    fn watch(&self, watching: &mut FileWatcher) {
        watching.set(self.flows.agent.reload.watch, &self.origin.paths, &self.asks);
    }
}

/// Returns at `due`, which may never come.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
