//! Readings while commands hold the memory that queues may take.

use std::time::Duration;

use crate::doubles::port as model;
use infiniservice::metrics::batch::{Batcher, Limits};
use infiniservice::metrics::collect::{Collector, IntervalSource, MemoryCollector};
use infiniservice::metrics::serialize::Serialize;
use infiniservice::metrics::{Stages, collect, through};
use infiniservice::pipeline::{Context, MemoryBudget, Restart, Ring, StatsRegistry, run};
use infiniservice::wire::Format;
use tokio_util::sync::CancellationToken;

use super::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn every_reading_reaches_the_host_while_commands_hold_the_memory() {
    let budget = MemoryBudget::new(1 << 20);
    let commands = budget.try_reserve(1_000_000).unwrap();
    let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
    let memory: Vec<Box<dyn Collector>> = vec![Box::new(MemoryCollector::new())];
    let limits = Limits { max_items: 1, max_bytes: 1 << 18, max_delay: SECOND };
    let stages = Stages {
        enrichers: Vec::new(),
        batcher: Batcher::new(limits),
        serialize: Serialize::new(Format::JsonLines).charging(&budget),
    };
    let readings = collect(
        &Context::new("metrics", &health, &stop),
        vec![IntervalSource::new(SECOND, memory)],
    );
    let mut published = through(readings, stages).publish(&Ring::new(64).within(&budget));
    let lane = published.subscribe("port", "model".to_owned());
    let rig = Rig::with(model::pair(), |port| port.telemetry(lane));
    let flow = {
        let (tasks, stop) = (published.graph().into_tasks(), stop.clone());
        tokio::spawn(async move { run(tasks, &Restart::default(), &stop, SECOND).await })
    };

    // Nobody reads: one is kept.
    tokio::time::sleep(10 * SECOND).await;
    rig.host.connect();
    let mut seen = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(SECOND).await;
        seen.push(rig.seen().matches("\"memory\"").count());
    }
    assert!((1..=2).contains(&seen[0]), "the newest of those before, and one since: {seen:?}");
    assert!(seen.is_sorted_by(|before, after| before + 1 == *after), "one a second: {seen:?}");
    drop(commands);
    stop.cancel();
    flow.await.unwrap();
}
