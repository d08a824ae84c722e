//! Runs a pipeline for a few readings, as the agent would, with its outputs gathered in memory. Nothing is opened.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{EXIT_INTERRUPTED, EXIT_SPENT, cannot_start, complain, interrupted, refuse};
use crate::agent::{self, Trial, assemble_trial};
use crate::config::{Loaded, Pipeline, Target};
use crate::model::Frame;
use crate::pipeline::{BoxSink, Restart, Sink, StageError, StatsRegistry, run};
use crate::sync::IgnorePoison;

/// How long a trial may take beyond its readings: a collector that hangs is given up after 5 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what is held at the end may take.
const DRAIN: Duration = Duration::from_secs(1);

/// The frames of each output of a pipeline, in the order of the file.
pub(super) type Outputs = Vec<Vec<Frame>>;

/// Takes `readings` of each cadence of each of `pipelines`, side by side. Logs warnings.
///
/// # Errors
/// The exit code, after the reason was reported.
pub(super) fn try_out(
    loaded: &Loaded,
    pipelines: &[Pipeline],
    readings: u32,
) -> Result<Vec<Outputs>, ExitCode> {
    let runtime = agent::build_runtime(&loaded.agent.runtime);
    let runtime = runtime.map_err(cannot_start)?;
    let log = agent::start_log("warn").map_err(refuse)?.write_on(&runtime);
    let stop = CancellationToken::new();
    let mut all = Vec::new();
    let mut trials = Vec::new();
    for pipeline in pipelines {
        let health = StatsRegistry::default();
        let gathered: Vec<Gather> = pipeline.file.write.iter().map(|_| Gather::default()).collect();
        let stand_in = |target: &Target| {
            let index = pipeline.file.write.iter().position(|one| one.target == *target);
            BoxSink::new(index.and_then(|index| gathered.get(index)).cloned().unwrap_or_default())
        };
        let trial = Trial { readings, sink: &stand_in };
        let vm_id = loaded.agent.identity.vm_id.as_deref();
        let tasks = assemble_trial(pipeline, vm_id, &trial, &health, &stop);
        all.extend(tasks.map_err(refuse)?);
        trials.push(gathered);
    }
    let slowest = pipelines.iter().flat_map(|pipeline| &pipeline.file.collect);
    let slowest = slowest.map(|collect| collect.every.get()).max().unwrap_or_default();
    let limit = slowest * readings.saturating_sub(1) + PATIENCE;
    let restart = Restart::default();
    let ended = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted() => Err(ExitCode::from(EXIT_INTERRUPTED)),
            ended = timeout(limit, run(all, &restart, &stop, DRAIN)) => ended.map_err(|_| {
                complain(&format!("infiniservice: the readings were not there after {} s", limit.as_secs()));
                ExitCode::from(EXIT_SPENT)
            }),
        }
    });
    drop(log);
    runtime.shutdown_timeout(Duration::from_millis(100));
    ended?;
    Ok(trials.iter().map(|trial| trial.iter().map(Gather::take).collect()).collect())
}

/// Keeps every frame. A copy keeps in the same list, which a few readings bound.
#[derive(Clone, Default)]
struct Gather(Arc<Mutex<Vec<Frame>>>);

impl Gather {
    fn take(&self) -> Vec<Frame> {
        std::mem::take(&mut *self.0.lock().ignore_poison())
    }
}

impl Sink for Gather {
    type In = Frame;

    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        self.0.lock().ignore_poison().push(frame.clone());
        Ok(())
    }
}
