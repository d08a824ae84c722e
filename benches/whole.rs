//! The whole path from made-up readings to nowhere, and a channel hop, each beside a plain loop that
//! does the same work: a figure here is a ratio. Time and allocations; one reading is one item.
//!
//! It measures the engine. What the stages cost by themselves is in `stages`, what reading the machine
//! costs in `collect`. Allocations are told per run of 20,000 readings.

#![allow(clippy::expect_used)]

use std::time::Duration;

use divan::{AllocProfiler, Bencher, counter::ItemsCount};
use infiniservice::metrics::batch::{Batcher, Limits};
use infiniservice::metrics::collect::GROUPS;
use infiniservice::metrics::enrich::Join;
use infiniservice::metrics::serialize::Serialize;
use infiniservice::metrics::synthetic::Generator;
use infiniservice::metrics::{Stages, collect, through};
use infiniservice::model::{Batch, Frame, Group, SystemMetrics};
use infiniservice::pipeline::{
    Context, Graph, Output, Restart, Sink, StageError, StatsRegistry, Transform,
};
use infiniservice::wire::Format;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// Readings per run: enough that building the graph does not show.
const READINGS: u64 = 20_000;

fn main() {
    divan::main();
}

fn generator() -> Generator {
    Generator::new(&GROUPS[..7], 20, 1).take(READINGS)
}

fn stages() -> Stages {
    let needed = [Group::Cpu, Group::Memory, Group::Disk, Group::Network];
    Stages {
        enrichers: vec![Box::new(Join::new(&needed, Duration::MAX))],
        batcher: Batcher::new(Limits {
            max_items: 64,
            max_bytes: 256 << 10,
            max_delay: Duration::from_secs(1),
        }),
        serialize: Serialize::new(Format::Infinibay),
    }
}

/// Takes anything and does nothing with it.
struct Nowhere<T>(std::marker::PhantomData<fn(T)>);

impl<T: infiniservice::pipeline::EventCount + Send + Sync + 'static> Sink for Nowhere<T> {
    type In = T;
    async fn write(&mut self, item: &T) -> Result<(), StageError> {
        divan::black_box(item);
        Ok(())
    }
}

fn nowhere<T>() -> Nowhere<T> {
    Nowhere(std::marker::PhantomData)
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn run(
    bencher: Bencher<'_, '_>,
    runtime: Runtime,
    graph: impl Fn(&StatsRegistry, &CancellationToken) -> Graph,
) {
    bencher.counter(ItemsCount::new(READINGS)).bench_local(|| {
        let (health, stop) = (StatsRegistry::default(), CancellationToken::new());
        let graph = graph(&health, &stop);
        runtime.block_on(graph.run(&Restart::default(), &stop, Duration::from_secs(60)))
    });
}

/// Readings → join → batch → serialize → nowhere.
mod whole_path {
    use super::*;

    fn graph(health: &StatsRegistry, stop: &CancellationToken) -> Graph {
        through(collect(&Context::new("bench", health, stop), vec![generator()]), stages())
            .write(nowhere(), 64)
    }

    #[divan::bench]
    fn pipeline_on_one_thread(bencher: Bencher<'_, '_>) {
        run(bencher, one_thread(), graph);
    }

    #[divan::bench]
    fn pipeline_on_two_threads(bencher: Bencher<'_, '_>) {
        run(bencher, two_threads(), graph);
    }

    #[divan::bench]
    fn plain_loop(bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(READINGS)).bench_local(|| {
            let (mut generator, mut stages) = (generator(), stages());
            let (mut joined, mut batches, mut frames) = (
                Output::<SystemMetrics>::default(),
                Output::<Batch>::default(),
                Output::<Frame>::default(),
            );
            let now = tokio::time::Instant::now();
            while let Some(reading) = generator.next(now) {
                stages.enrichers[0].apply(now, &reading, &mut joined);
                joined.drain().for_each(|joined| stages.batcher.apply(now, &joined, &mut batches));
                batches.drain().for_each(|batch| stages.serialize.apply(now, &batch, &mut frames));
                frames.drain().for_each(|frame| drop(divan::black_box(frame)));
            }
        });
    }
}

/// Readings → nowhere: what a channel and a task cost, without any stage.
mod channel_hop {
    use super::*;

    #[divan::bench]
    fn two_channels(bencher: Bencher<'_, '_>) {
        run(bencher, one_thread(), |health, stop| {
            collect(&Context::new("bench", health, stop), vec![generator()]).write(nowhere(), 64)
        });
    }

    #[divan::bench]
    fn plain_loop(bencher: Bencher<'_, '_>) {
        bencher.counter(ItemsCount::new(READINGS)).bench_local(|| {
            let mut generator = generator();
            while let Some(reading) = generator.next(tokio::time::Instant::now()) {
                drop(divan::black_box(reading));
            }
        });
    }
}
