//! Reload: how the running service follows its files, and the main loop that does it.
//!
//! ```text
//! SIGHUP · control.sock · watch ─▶ load ─▶ plan ─▶ flow_manager: diff, build, swap ─▶ report ─▶ log, caller, notifier ─▶ host
//!                                  └ invalid: nothing changes ─────────────────────────▲
//! ```
//!
//! # Guarantees
//! - An invalid file, or one whose flow cannot be built, changes nothing.
//! - A flow whose file is unchanged is not touched.
//! - A changed flow loses nothing durable, and keeps its sequence numbers, rates and counters.
//! - Ports stay open, so the host sees no disconnect.
//!
//! # What is diffed
//! The unit is the flow: a metrics pipeline (by name), the command flow, or a port without a command flow (by target).
//! A flow is unchanged when its parsed file is equal to the running one, together with all that it is built from: the
//! restart policy and, for commands, the secret. Settings of the agent are compared by section: `[shutdown]`,
//! `[restart]`, `[reload]` and `[memory]` apply at once, the others are reported as waiting for a restart.
//!
//! # What is carried over
//! | state | from | lives in |
//! |---|---|---|
//! | counters, rates, sequence numbers, the time of the last reading | a metrics flow | its `StateStore`, keyed by stage |
//! | the latest reading | all metrics flows | `Latest`, less the groups that are no longer read |
//! | frames that the host has not read | a metrics flow | the port's `TelemetryMux`, at most as many as the new flow keeps |
//! | request log, audit, running programs, permits, policy | the command flow | [`command_state`](super::command_state) |
//! | durable messages, sessions | the port | its spool and its task, which a reload does not touch |
//!
//! # What is reported to the host
//! One `reload` event in ten seconds at most: pipelines added, changed and removed, settings applied, or the first
//! error of the files. A failed reload is followed by an event once the files are valid again. A reload that changes
//! nothing sends nothing.
//!
//! # Why each part is needed
//! - [`watch`]: an edited file takes effect without a command. It debounces, so a half-written file is not loaded.
//! - [`plan`]: reads files, opens spools and the request log on the blocking pool, and finds every error before a
//!   running flow is touched.
//! - [`command_state`](super::command_state): a request must not run twice or be forgotten because its flow was replaced.
//! - [`flow_manager`]: owns the running flows; compares, builds, and swaps one flow at a time. `flow_tasks` runs their tasks,
//!   `memory_ceiling` bounds their queues, and `host_events` is what the agent tells the host of itself.
//! - [`report`]: one result for the log, for the caller of `infiniservice reload` and for the host.
//! - [`notifier`]: a file that is rewritten in a loop must not fill the spool with events.

mod watch;
mod flow_tasks;
mod host_events;
mod memory_ceiling;
pub(in crate::agent) mod plan;
pub(in crate::agent) mod flow_manager;
pub(in crate::agent) mod report;
pub(in crate::agent) mod notifier;

use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::agent::error::AgentError;
use crate::agent::machine_watch;
use crate::agent::reload::flow_manager::FlowManager;
use crate::agent::reload::notifier::ReloadNotifier;
use crate::agent::reload::plan::{Origin, Plan};
use crate::agent::reload::report::Report;
use crate::agent::reload::watch::FileWatcher;
use crate::agent::systemd;
use crate::commands::notify::drop_report::LOOK_EVERY;
use crate::commands::verify::wall_clock_ms;
use crate::machine_events::MachineEvents;
use crate::tasks::spawn_blocking;

/// Reload requests that may wait while one is handled.
pub(in crate::agent) const REQUESTS_WAITING: usize = 8;

/// The origin of a reload that a changed file has caused.
pub(in crate::agent) const CHANGED_FILE: &str = "a changed file";

/// The origin of a reload that a signal requests.
pub(in crate::agent) const HANG_UP: &str = "SIGHUP";

/// A request to read the files again.
pub(in crate::agent) struct ReloadRequest {
    /// The origin, for the log and the host: [`HANG_UP`], a command, or [`CHANGED_FILE`].
    pub by: &'static str,
    /// Where the result goes, if the caller waits for it.
    pub reply: Option<oneshot::Sender<Report>>,
}

impl ReloadRequest {
    /// A request whose caller does not wait.
    pub(in crate::agent) fn by(by: &'static str) -> Self {
        Self { by, reply: None }
    }

    /// A request whose caller waits for the result.
    pub(in crate::agent) fn with_reply(by: &'static str) -> (Self, oneshot::Receiver<Report>) {
        let (reply, result) = oneshot::channel();
        (Self { by, reply: Some(reply) }, result)
    }
}

/// The main loop and its state.
pub(in crate::agent) struct Main {
    pub flows: FlowManager,
    pub origin: Origin,
    pub stop: CancellationToken,
    pub reloads: mpsc::Sender<ReloadRequest>,
    /// Reports reloads to the host.
    pub notifier: ReloadNotifier,
    /// The last reload failed.
    pub was_invalid: bool,
}

impl Main {
    /// Runs until every flow has ended.
    pub(in crate::agent) async fn run(
        mut self,
        mut requests: mpsc::Receiver<ReloadRequest>,
    ) -> FlowManager {
        let mut watching = FileWatcher::default();
        self.watch(&mut watching);
        let mut closed = false;
        let machine = MachineEvents::new();
        let mut restored_or_cloned = machine.restored_or_cloned();
        let mut machine_events = std::pin::pin!(machine_watch::events(machine));
        let mut check = interval(LOOK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !closed => {
                    closed = true;
                    self.flows.close();
                }
                any = self.flows.ended() => if !any { return self.flows },
                Some(event) = machine_events.next(), if !closed => {
                    if let Some(commands) = &self.flows.command_state {
                        commands.log.look_at_clocks(Instant::now(), wall_clock_ms());
                    }
                    // The spool drops what was queued before the change; this event must not be part of that.
                    if restored_or_cloned.has_changed().unwrap_or(false) {
                        let count = *restored_or_cloned.borrow_and_update();
                        self.flows.machine_changed(&machine_watch::machine(count).await);
                    }
                    self.flows.events.send(event);
                }
                _ = check.tick(), if !closed => self.flows.report_to_host(),
                () = at(self.notifier.due()), if !closed => {
                    self.flows.events.send(self.notifier.take_event(Instant::now()));
                }
                Some(request) = requests.recv(), if !closed => {
                    self.reload(request).await;
                    self.watch(&mut watching);
                }
            }
        }
    }

    async fn reload(&mut self, ReloadRequest { by, reply }: ReloadRequest) {
        // systemd sends SIGHUP to a unit of `Type=notify-reload` and waits for these messages. It does not need them for
        // `ExecReload=`, where it waits for that program, nor for a changed file.
        if by == HANG_UP {
            systemd::reloading().await;
        }
        let report = match self.plan().await {
            Ok(plan) => self.flows.change(plan).await,
            Err(error) => Err(error),
        };
        let report = report.unwrap_or_else(|error| Report::invalid(&error));
        report.log(by, by != CHANGED_FILE || self.was_invalid);
        self.notifier.record(by, &report);
        self.was_invalid = !report.wrong.is_empty();
        if let Some(reply) = reply {
            let _ = reply.send(report); // the caller may have disconnected
        }
        if by == HANG_UP {
            systemd::ready().await;
        }
    }

    /// Reads the files and plans the change, on the blocking pool.
    async fn plan(&self) -> Result<Plan, AgentError> {
        let (origin, settings) = (self.origin.clone(), self.flows.agent.clone());
        let (command_state, stop) = (self.flows.command_state.clone(), self.stop.clone());
        let open = self.flows.open();
        let read = move || {
            let loaded = origin.load()?;
            let before = (command_state.as_ref(), &open[..]);
            origin.plan(loaded, &settings, before, &stop)
        };
        spawn_blocking(read).await?
    }

    fn watch(&self, watching: &mut FileWatcher) {
        watching.set(self.flows.agent.reload.watch, &self.origin.paths, &self.reloads);
    }
}

/// Returns at `due`; never without one.
async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
