//! The daemon: builds a running service from files, changes it while it runs, and ends it in order.
//!
//! ```text
//!  files ──▶ plan ──▶ flow manager ──▶ flows ──▶ ports, which outlive them
//!    ▲                     ▲
//!    └──── reload ◀── SIGHUP · control.sock · a changed file
//! ```

mod same_program;
mod allocator;
mod error;
pub(crate) mod init;
mod resources;
mod runtime;
pub(crate) mod log;
mod signals;
mod systemd;
pub(crate) mod control;
pub(crate) mod status;
mod clients;
mod machine_watch;
mod reload;
mod flow;
mod assemble;
mod command_flow;
mod command_state;
mod port_registry;
mod durable_port;
mod telemetry_mux;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use allocator::settle as settle_memory;
pub(crate) use assemble::assemble_trial;
pub use assemble::{assemble, record_stages, stages};
pub(crate) use error::AgentError;
pub(crate) use flow::Trial;
pub(crate) use log::start as start_log;
pub(crate) use log::{Log, say};
pub use port_registry::Ports;
pub(crate) use resources::{close_inherited, raise_stack, suffice_descriptors};
pub(crate) use runtime::build as build_runtime;
pub(crate) use signals::unblock as unblock_signals;
pub use telemetry_mux::TelemetryMux;

use crate::commands::actions::golden;
use crate::config::Loaded;
use crate::files::StateFolder;
use crate::pipeline::{ExitStatus, Outcome, StatsRegistry};
use crate::port;
use crate::tasks::{spawn, spawn_blocking};
use reload::flow_manager::FlowManager;
use reload::notifier::ReloadNotifier;
use reload::plan::Origin;
use reload::{Main, ReloadRequest};
use signals::Signals;

/// How long the end waits for systemd.
const SYSTEMD_PATIENCE: Duration = Duration::from_millis(100);

/// Runs the flows of `loaded` until a signal or a fatal failure, and reloads `paths`, where `loaded` came from. `port`
/// replaces every port that a file names, `state` the state folder.
///
/// Flows, signals and the watchdog run side by side; a failure of one does not stop the others. After the stop, buffered
/// data has the shutdown deadline of the settings to be written.
pub(crate) async fn run(
    mut loaded: Loaded,
    paths: Vec<PathBuf>,
    port: Option<port::Target>,
    state: Option<PathBuf>,
) -> Result<Outcome, AgentError> {
    // First, because SIGHUP ends a program that does not handle it.
    let signals = signals::register();
    let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
    if let Some(folder) = &state {
        loaded.agent.state.folder.clone_from(folder);
    }
    let settings = loaded.agent.clone();
    let mut flows = FlowManager::new(settings.clone(), port.clone(), &health, &stop);
    let chosen = state;
    let state = StateFolder::at(&settings.state.folder);
    let origin = Origin { paths, port, state: state.clone(), chosen };
    let plan = {
        let (origin, settings, stop) = (origin.clone(), settings.clone(), stop.clone());
        let plan = move || {
            is_safe(&origin.state)?;
            if golden::forget(&origin.state)? {
                tracing::warn!(
                    "this machine starts from a prepared image: the state of the agent is cleared"
                );
            }
            origin.plan(loaded, &settings, (None, &[]), &stop)
        };
        spawn_blocking(plan).await??
    };
    let skipped = plan.skipped.clone();
    flows.change(plan).await?;
    for file in skipped {
        tracing::info!(
            file,
            "pipeline skipped: its readings are made up, for `infiniservice bench`"
        );
    }

    let (reloads, requests) = mpsc::channel(reload::REQUESTS_WAITING);
    let side_tasks = spawn(side_tasks(signals, stop.clone(), reloads.clone()));
    let control = spawn(control::serve(state, reloads.clone(), flows.status()));
    let stopping = spawn({
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            systemd::stopping().await;
        }
    });
    let mut flows = Main {
        flows,
        origin,
        stop: stop.clone(),
        reloads,
        notifier: ReloadNotifier::default(),
        was_invalid: false,
    }
    .run(requests)
    .await;
    stop.cancel(); // the flows may have ended by themselves
    flows.close_request_log().await;
    if timeout(SYSTEMD_PATIENCE, stopping).await.is_err() {
        tracing::warn!("systemd was not notified of the end: it does not read its socket");
    }
    side_tasks.abort();
    control.abort();
    let _ = control.await; // it is aborted; the socket goes with it
    let outcome = flows.outcome();
    log_outcome(&outcome, &health);
    Ok(outcome)
}

/// Refuses a state folder that another user can change.
///
/// A folder that belongs to another user (mostly the service's) is no harm to an agent that is not root: it runs without
/// the folder, and a part that needs it fails when it opens it.
fn is_safe(state: &StateFolder) -> Result<(), AgentError> {
    match state.check() {
        Err(untrusted) if untrusted.is_foreign && !rustix::process::geteuid().is_root() => {
            tracing::warn!(%untrusted, "the state folder is not used");
        }
        judged => judged.map_err(AgentError::State)?,
    }
    if let Some(remedy) = state.listing_remedy() {
        tracing::warn!(
            "others can list the state folder, though not read its files; `{remedy}` ends that"
        );
    }
    Ok(())
}

/// Handles signals, and notifies systemd.
async fn side_tasks(
    signals: std::io::Result<Signals>,
    stop: CancellationToken,
    reloads: mpsc::Sender<ReloadRequest>,
) {
    let signals = async {
        match signals {
            Ok(signals) => signals::listen(signals, stop, reloads).await,
            Err(error) => {
                tracing::error!(%error, "signals cannot be handled; stop the agent with SIGKILL");
            }
        }
    };
    tokio::join!(signals, systemd::ready(), systemd::watchdog());
}

/// Logs the outcome of the run, as the last line.
fn log_outcome(outcome: &Outcome, health: &StatsRegistry) {
    match (outcome.end, outcome.drained) {
        (ExitStatus::Spent, _) => {
            tracing::error!("the agent has stopped: a stage failed too often")
        }
        (_, false) => tracing::warn!(
            "the agent has stopped at the shutdown deadline; what it still held is lost"
        ),
        _ => tracing::info!("the agent has stopped"),
    }
    for node in health.counts() {
        tracing::debug!(?node, "counters at the end");
    }
}
