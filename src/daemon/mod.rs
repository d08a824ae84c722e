//! The daemon: from loaded files to a running service, and its orderly end.
//!
//! It puts the parts together and waits. It does not read the machine, touch the device or decide what
//! a stage does.

mod assemble;
mod identity;
mod log;
mod ports;
mod runtime;
mod signals;
mod systemd;

use tokio_util::sync::CancellationToken;

pub use assemble::{Assembly, assemble, file_sink, stages};
pub use log::start as start_log;
pub use ports::Ports;
pub use runtime::build as build_runtime;

use crate::config::Loaded;
use crate::pipeline::{self, End, Health, Outcome, Restart};
use crate::port::Target;

/// Runs everything that `loaded` asks for until a signal, or until it cannot go on.
///
/// Flows, signals and the watchdog run side by side; one of them failing never stops the others. After
/// the stop, what is held has the shutdown deadline of the settings to be written.
pub async fn run(loaded: Loaded, port: Option<Target>) -> Result<Outcome, String> {
    let (health, stop) = (Health::default(), CancellationToken::new());
    let mut ports = Ports::new(port.clone(), &health, &stop);
    let assembly = assemble(&loaded, &mut ports, &health, &stop)?;
    if let (Some(port), true) = (port, ports.is_empty()) {
        return Err(format!("no pipeline writes to a port, so there is nothing to send to {port}"));
    }
    for pipeline in &loaded.pipelines {
        tracing::info!(pipeline = pipeline.name, from = pipeline.origin, "pipeline runs");
    }
    for pipeline in &loaded.skipped {
        tracing::info!(
            from = pipeline.origin,
            "made-up readings are for `bench`; file is left out"
        );
    }
    let mut tasks = assembly.tasks;
    tasks.extend(ports.into_tasks());

    let beside = tokio::spawn({
        let stop = stop.clone();
        async move {
            let signals = signals::listen(stop.clone());
            let watchdog = systemd::watchdog();
            let stopping = async {
                stop.cancelled().await;
                systemd::stopping().await;
            };
            systemd::ready().await;
            let (signals, (), ()) = tokio::join!(signals, watchdog, stopping);
            if let Err(error) = signals {
                tracing::error!(%error, "signals cannot be heard; stop the agent with SIGKILL");
            }
        }
    });
    let restart = restart(&loaded);
    let outcome = pipeline::run(tasks, &restart, &stop, loaded.agent.shutdown.deadline.get()).await;
    beside.abort();
    tell(&outcome, &health);
    Ok(outcome)
}

/// What the run came to, as the last line of the log.
fn tell(outcome: &Outcome, health: &Health) {
    match (outcome.end, outcome.drained) {
        (End::Spent, _) => tracing::error!("ended: a stage failed too often"),
        (_, false) => tracing::warn!("ended at the shutdown deadline; what was held is lost"),
        _ => tracing::info!("ended"),
    }
    for node in health.counts() {
        tracing::debug!(?node, "books");
    }
}

fn restart(loaded: &Loaded) -> Restart {
    let settings = &loaded.agent.restart;
    Restart {
        budget: settings.budget.items(),
        within: settings.within.get(),
        base: settings.base.get(),
        max: settings.max.get(),
    }
}
