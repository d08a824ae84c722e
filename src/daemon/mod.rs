//! The daemon: from loaded files to a running service, and its orderly end.
//!
//! It puts the parts together and waits. It does not read the machine, touch the device or decide what
//! a stage does.

mod allocator;
mod assemble;
mod command_flow;
mod identity;
mod log;
mod ports;
mod runtime;
mod signals;
mod systemd;

use tokio_util::sync::CancellationToken;

pub use allocator::settle as settle_memory;
pub use assemble::{Assembly, assemble, file_sink, stages};
pub use log::start as start_log;
pub use ports::Ports;
pub use runtime::build as build_runtime;

use crate::config::{Loaded, Target};
use crate::pipeline::{self, End, Health, Outcome, Restart};
use crate::port;

/// Runs everything that `loaded` asks for until a signal, or until it cannot go on.
///
/// Flows, signals and the watchdog run side by side; one of them failing never stops the others. After
/// the stop, what is held has the shutdown deadline of the settings to be written.
pub async fn run(loaded: Loaded, port: Option<port::Target>) -> Result<Outcome, String> {
    let (health, stop) = (Health::default(), CancellationToken::new());
    if let Some(made_up) = loaded.pipelines.iter().find(|made| made.file.generate.is_some()) {
        return Err(format!(
            "{} has made-up readings; measure it with `infiniservice bench`",
            made_up.origin
        ));
    }
    if loaded.pipelines.is_empty() && loaded.commands.is_none() {
        return Err("no pipeline was found, so there is nothing to run".to_owned());
    }
    files_are_apart(&loaded)?;
    let mut ports = Ports::new(port.clone(), &health, &stop);
    let assembly = assemble(&loaded, &mut ports, &health, &stop)?;
    if let (Some(port), true) = (port, ports.is_empty()) {
        return Err(format!("no pipeline writes to a port, so there is nothing to send to {port}"));
    }
    for pipeline in &loaded.pipelines {
        tracing::info!(pipeline = pipeline.name, from = pipeline.origin, "pipeline runs");
    }
    if let Some(commands) = &loaded.commands {
        let lock = commands.file.lock(&|name| std::env::var(name).ok());
        tracing::info!(from = commands.origin, "command flow runs; {lock}");
    }
    for pipeline in &loaded.skipped {
        tracing::info!(
            from = pipeline.origin,
            "made-up readings are for `bench`; file is left out"
        );
    }
    let mut tasks = assembly.tasks;
    tasks.extend(ports.into_tasks());

    let beside = tokio::spawn(beside(stop.clone()));
    let stopping = tokio::spawn({
        let stop = stop.clone();
        async move {
            stop.cancelled().await;
            systemd::stopping().await;
        }
    });
    let restart = restart(&loaded);
    let drain = loaded.agent.shutdown.deadline.get();
    let outcome = pipeline::run(tasks, &restart, &stop, drain).await;
    stop.cancel(); // the flows may have ended by themselves
    if let Err(error) = stopping.await {
        tracing::error!(%error, "systemd was not told of the end");
    }
    beside.abort();
    tell(&outcome, &health);
    Ok(outcome)
}

/// Two writers of one file would turn it over under each other's hands.
fn files_are_apart(loaded: &Loaded) -> Result<(), String> {
    let mut known = std::collections::BTreeMap::new();
    for pipeline in &loaded.pipelines {
        for write in &pipeline.file.write {
            let Target::File(file) = &write.target else { continue };
            if std::fs::metadata(&file.path).is_ok_and(|found| !found.is_file()) {
                let path = file.path.display();
                return Err(format!("{}: {path} is not a regular file", pipeline.origin));
            }
            let whole = std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone());
            let whole = whole.canonicalize().unwrap_or(whole);
            if let Some(other) = known.insert(whole, &pipeline.origin) {
                let (path, origin) = (file.path.display(), &pipeline.origin);
                return Err(format!("{origin}: {other} writes to {path} too; give each its own"));
            }
        }
    }
    Ok(())
}

/// What goes on beside the flows: signals, and systemd's questions.
async fn beside(stop: CancellationToken) {
    systemd::ready().await;
    let (signals, ()) = tokio::join!(signals::listen(stop), systemd::watchdog());
    if let Err(error) = signals {
        tracing::error!(%error, "signals cannot be heard; stop the agent with SIGKILL");
    }
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
