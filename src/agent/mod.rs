//! The daemon: from loaded files to a running service, its changes while it runs, and its orderly end.
//!
//! ```text
//!  files ──▶ plan ──▶ generation ──▶ flows of its pipelines ──▶ ports, which stay
//!    ▲                     ▲
//!    └──── reload ◀── SIGHUP · control.sock · a changed file
//! ```
//!
//! It puts the parts together and waits. It does not read the machine, touch the device or decide what
//! a stage does.

mod allocator;
mod assemble;
mod clients;
mod command_flow;
pub mod control;
mod identity;
pub mod init;
mod durable_port;
mod log;
mod port_registry;
mod telemetry_mux;
mod reload;
mod resources;
mod runtime;
mod signals;
mod systemd;
mod machine_news;

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use allocator::settle as settle_memory;
pub use assemble::{Assembly, assemble, file_sink, stages};
pub use log::{Log, Writing, say, start as start_log};
pub use port_registry::{Connection, Ports};
pub use reload::report::Report;
pub use resources::raise_stack;
pub use runtime::build as build_runtime;
pub use signals::unblock as unblock_signals;
pub use telemetry_mux::{Lane, TelemetryMux};

use crate::commands::actions::golden;
use crate::commands::notify::agent_events::AgentEvents;
use crate::config::Loaded;
use crate::files::StateFolder;
use crate::pipeline::{ExitStatus, Outcome, StatsRegistry};
use crate::port;
use reload::flow_manager::FlowManager;
use reload::notifier::ReloadNotifier;
use reload::plan::Origin;
use reload::{Main, ReloadRequest};
use signals::Signals;

/// How long the end waits for systemd, once all else has ended.
const LAST_WORD: Duration = Duration::from_millis(100);

/// Runs everything that `loaded` asks for until a signal, or until it cannot go on; and what `paths`, where
/// it came from, ask for later. `port` takes the place of every port that a file names, `state` of the state folder.
///
/// Flows, signals and the watchdog run side by side; one of them failing never stops the others. After
/// the stop, what is held has the shutdown deadline of the settings to be written.
pub async fn run(
    mut loaded: Loaded,
    paths: Vec<PathBuf>,
    port: Option<port::Target>,
    state: Option<PathBuf>,
) -> Result<Outcome, String> {
    // Before anything runs: a SIGHUP that nobody hears ends a program.
    let signals = signals::hear();
    let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
    let (news, heard) = AgentEvents::new(&health);
    if let Some(folder) = &state {
        loaded.agent.state.folder.clone_from(folder);
    }
    let settings = loaded.agent.clone();
    let mut flows = FlowManager::new(settings.clone(), port.clone(), &health, heard, &stop);
    let chosen = state;
    let state = StateFolder::at(&settings.state.folder);
    let origin = Origin { paths, port, state: state.clone(), chosen };
    let plan = {
        let (origin, settings, stop) = (origin.clone(), settings.clone(), stop.clone());
        let plan = move || {
            is_safe(&origin.state)?;
            if golden::forget(&origin.state)? {
                tracing::warn!("this machine was made an image: what the agent knew is forgotten");
            }
            origin.plan(loaded, &settings, (None, &[]), &stop)
        };
        spawn_blocking(plan).await.map_err(|error| error.to_string())??
    };
    let skipped = plan.skipped.clone();
    flows.change(plan).await?;
    for file in skipped {
        tracing::info!(file, "not run: it makes readings up, for `infiniservice bench`");
    }

    let (asks, asked) = mpsc::channel(reload::REQUESTS_WAITING);
    let beside = tokio::spawn(beside(signals, stop.clone(), asks.clone()));
    let control = tokio::spawn(control::serve(state, asks.clone(), flows.spools()));
    let stopping = tokio::spawn({
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            systemd::stopping().await;
        }
    });
    let mut flows = Main {
        flows,
        origin,
        news,
        stop: stop.clone(),
        asks,
        telling: ReloadNotifier::default(),
        were_wrong: false,
    }
    .run(asked)
    .await;
    stop.cancel(); // the flows may have ended by themselves
    flows.ended_all().await;
    if timeout(LAST_WORD, stopping).await.is_err() {
        tracing::warn!("systemd was not told of the end: it does not read");
    }
    beside.abort();
    control.abort();
    let _ = control.await; // it is aborted; the socket goes with it
    let outcome = flows.outcome();
    tell(&outcome, &health);
    Ok(outcome)
}

/// Refuses a state folder that somebody else can change.
///
/// One of another user (the service's, mostly) is no harm to an agent that is not root and keeps nothing there, so it
/// may run beside; what needs the folder is refused when it opens it.
fn is_safe(state: &StateFolder) -> Result<(), String> {
    match state.judge() {
        Err(untrusted) if untrusted.is_foreign && !rustix::process::geteuid().is_root() => {
            tracing::warn!(%untrusted, "the state folder is not used");
        }
        judged => judged.map_err(|why| format!("cannot use the state folder: {why}"))?,
    }
    if let Some(mend) = state.is_listed() {
        tracing::warn!(
            "others can list the state folder, though not read its files; `{mend}` ends that"
        );
    }
    Ok(())
}

/// What goes on beside the flows: signals, and systemd's questions.
async fn beside(
    signals: std::io::Result<Signals>,
    stop: CancellationToken,
    asks: mpsc::Sender<ReloadRequest>,
) {
    let signals = async {
        match signals {
            Ok(signals) => signals::listen(signals, stop, asks).await,
            Err(error) => {
                tracing::error!(%error, "signals cannot be heard; stop the agent with SIGKILL");
            }
        }
    };
    tokio::join!(signals, systemd::ready(), systemd::watchdog());
}

/// What the run came to, as the last line of the log.
fn tell(outcome: &Outcome, health: &StatsRegistry) {
    match (outcome.end, outcome.drained) {
        (ExitStatus::Spent, _) => tracing::error!("ended: a stage failed too often"),
        (_, false) => tracing::warn!("ended at the shutdown deadline; what was held is lost"),
        _ => tracing::info!("the agent has ended"),
    }
    for node in health.counts() {
        tracing::debug!(?node, "books");
    }
}
