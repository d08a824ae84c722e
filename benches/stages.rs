//! Each stage beside a plain loop that does the same work: time and allocations per reading, so that
//! a figure is a ratio. Run: `cargo bench --bench stages`.
//!
//! A reading here is a small server's: 4 cores, 2 mounts, 2 interfaces, 10 processes, 5 ports; about
//! 4.5 kB as a line for today's host. `batch` and `serialize` take 64 readings a turn, so their
//! allocations are those of 64.
#![allow(clippy::unwrap_used)]

#[path = "../tests/sample/mod.rs"]
mod sample;

use std::sync::Arc;
use std::time::Duration;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use infiniservice::metrics::batch::{Batcher, Limits};
use infiniservice::metrics::enrich::{Changes, Identity, Join, Rates, Select, Tags, Top};
use infiniservice::metrics::serialize::Serialize;
use infiniservice::model::{Batch, Group, InterfaceRates, Network, Process, Rank, SystemMetrics};
use infiniservice::pipeline::{Output, Transform};
use infiniservice::wire::{Format, NEEDED};
use tokio::time::Instant;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const TURN: usize = 64;

fn main() {
    divan::main();
}

/// Two readings a second apart that differ in every counter.
fn readings() -> Vec<SystemMetrics> {
    let first = sample::server(10, 5);
    let mut second = sample::server(10, 5);
    second.tags = first.tags.clone();
    second.taken = first.taken + Duration::from_secs(1);
    let mut network = sample::network();
    network.interfaces.iter_mut().for_each(|one| one.received_bytes += 1_000);
    second.network = Some(Arc::new(network));
    let mut cpu = sample::cpu(4);
    cpu.usage_percent += 1.0;
    second.cpu = Some(Arc::new(cpu));
    vec![first, second]
}

/// One reading after the other through the stage.
fn stage<T: Transform<In = SystemMetrics>>(bencher: Bencher<'_, '_>, mut stage: T) {
    let (readings, now, mut out) = (readings(), Instant::now(), Output::default());
    let mut turn = 0;
    bencher.bench_local(|| {
        turn ^= 1;
        stage.apply(now, black_box(&readings[turn]), &mut out);
        out.drain().count()
    });
}

/// The same without a stage: one function, one vector.
fn plain(bencher: Bencher<'_, '_>, mut work: impl FnMut(&SystemMetrics) -> SystemMetrics) {
    let (readings, mut out) = (readings(), Vec::new());
    let mut turn = 0;
    bencher.bench_local(|| {
        turn ^= 1;
        out.push(work(black_box(&readings[turn])));
        out.drain(..).count()
    });
}

mod identity {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Identity::new(sample::identity()));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        let identity = Arc::new(sample::identity());
        super::plain(bencher, |reading| SystemMetrics {
            identity: Some(identity.clone()),
            ..reading.clone()
        });
    }
}

mod tags {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Tags::new([("a".to_owned(), "b".to_owned())].into()));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        let tags = Arc::new(std::collections::BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        super::plain(bencher, |reading| SystemMetrics {
            tags: Some(tags.clone()),
            ..reading.clone()
        });
    }
}

mod rates {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Rates::default());
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        let mut last: Option<(Instant, Arc<Network>)> = None;
        super::plain(bencher, |reading| {
            let network = reading.network.clone().unwrap();
            let mut with_rates = Network::clone(&network);
            if let Some((taken, before)) = &last {
                let seconds = reading.taken.saturating_duration_since(*taken).as_secs_f64();
                for (now, before) in with_rates.interfaces.iter_mut().zip(&before.interfaces) {
                    let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
                    now.rates = Some(InterfaceRates {
                        received_bytes_per_sec: rate(now.received_bytes, before.received_bytes),
                        sent_bytes_per_sec: rate(now.sent_bytes, before.sent_bytes),
                        received_packets_per_sec: rate(
                            now.received_packets,
                            before.received_packets,
                        ),
                        sent_packets_per_sec: rate(now.sent_packets, before.sent_packets),
                    });
                }
            }
            last = Some((reading.taken, network));
            SystemMetrics { network: Some(Arc::new(with_rates)), ..reading.clone() }
        });
    }
}

mod top {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Top::new(5, Rank::Memory));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        super::plain(bencher, |reading| {
            let mut processes: Vec<Process> = reading.processes.as_ref().unwrap().to_vec();
            processes.sort_by_key(|process| std::cmp::Reverse(process.rss_bytes));
            processes.truncate(5);
            SystemMetrics { processes: Some(Arc::new(processes)), ..reading.clone() }
        });
    }
}

mod select {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Select::drop(&[Group::Ports, Group::Agent]));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        super::plain(bencher, |reading| SystemMetrics {
            ports: None,
            agent: None,
            ..reading.clone()
        });
    }
}

mod changes {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Changes::new(10));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        fn new<T: PartialEq>(last: &Option<Arc<T>>, now: &Option<Arc<T>>) -> Option<Arc<T>> {
            if last == now { None } else { now.clone() }
        }
        let mut last = sample::empty();
        super::plain(bencher, |reading| {
            let changed = SystemMetrics {
                cpu: new(&last.cpu, &reading.cpu),
                memory: new(&last.memory, &reading.memory),
                load: new(&last.load, &reading.load),
                disk: new(&last.disk, &reading.disk),
                network: new(&last.network, &reading.network),
                processes: new(&last.processes, &reading.processes),
                ports: new(&last.ports, &reading.ports),
                host: new(&last.host, &reading.host),
                pressure: new(&last.pressure, &reading.pressure),
                agent: new(&last.agent, &reading.agent),
                ..reading.clone()
            };
            last = reading.clone();
            changed
        });
    }
}

mod join {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        super::stage(bencher, Join::new(&NEEDED, Duration::from_secs(1)));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        let mut last = sample::empty();
        super::plain(bencher, |reading| {
            last.update(reading);
            last.clone()
        });
    }
}

mod batch {
    use super::*;

    #[divan::bench]
    fn stage(bencher: Bencher<'_, '_>) {
        let max_delay = Duration::from_secs(1);
        let limits = Limits { max_items: TURN, max_bytes: usize::MAX, max_delay };
        let (reading, now) = (sample::server(10, 5), Instant::now());
        let (mut batcher, mut out) = (Batcher::new(limits), Output::default());
        bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
            for _ in 0..TURN {
                batcher.apply(now, black_box(&reading), &mut out);
            }
            out.drain().count()
        });
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        let reading = sample::server(10, 5);
        bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
            let mut batch = Vec::with_capacity(TURN);
            for _ in 0..TURN {
                batch.push(black_box(&reading).clone());
            }
            batch
        });
    }
}

mod serialize {
    use super::*;

    fn batch() -> Batch {
        Batch(vec![sample::server(10, 5); TURN])
    }

    #[divan::bench(args = Format::ALL)]
    fn stage(bencher: Bencher<'_, '_>, format: Format) {
        let (batch, now, mut out) = (batch(), Instant::now(), Output::default());
        let mut serialize = Serialize::new(format);
        bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
            serialize.apply(now, black_box(&batch), &mut out);
            out.drain().count()
        });
    }

    /// The lines alone, into a vector that is kept.
    #[divan::bench(args = Format::ALL)]
    fn plain(bencher: Bencher<'_, '_>, format: Format) {
        let (batch, mut lines) = (batch(), Vec::new());
        bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
            lines.clear();
            for reading in &black_box(&batch).0 {
                format.encode(reading, &mut lines).unwrap();
            }
            lines.len()
        });
    }
}

/// One line of one reading, by what could write it.
mod line {
    use super::*;

    fn bytes(line: &[u8]) -> BytesCount {
        BytesCount::new(line.len())
    }

    #[divan::bench]
    fn infinibay(bencher: Bencher<'_, '_>) {
        let (reading, mut line) = (sample::server(10, 5), Vec::new());
        Format::Infinibay.encode(&reading, &mut line).unwrap();
        bencher.counter(bytes(&line)).bench_local(|| {
            line.clear();
            Format::Infinibay.encode(black_box(&reading), &mut line).unwrap();
        });
    }

    /// About the same content, by serde's derive.
    #[divan::bench]
    fn derived(bencher: Bencher<'_, '_>) {
        let (reading, mut line) = (without_extras(), Vec::new());
        serde_json::to_writer(&mut line, &reading).unwrap();
        bencher.counter(bytes(&line)).bench_local(|| {
            line.clear();
            serde_json::to_writer(&mut line, black_box(&reading)).unwrap();
        });
    }

    /// The same by way of a tree of values.
    #[divan::bench]
    fn through_values(bencher: Bencher<'_, '_>) {
        let (reading, mut line) = (without_extras(), Vec::new());
        serde_json::to_writer(&mut line, &reading).unwrap();
        bencher.counter(bytes(&line)).bench_local(|| {
            line.clear();
            let value = serde_json::to_value(black_box(&reading)).unwrap();
            serde_json::to_writer(&mut line, &value).unwrap();
        });
    }

    /// The groups that the host's line has.
    fn without_extras() -> SystemMetrics {
        let reading = sample::server(10, 5);
        SystemMetrics {
            host: None,
            pressure: None,
            agent: None,
            identity: None,
            tags: None,
            ..reading
        }
    }
}

/// What it costs a stage that its readings can be looked at: by nobody, and by somebody at a rate.
mod tap {
    use infiniservice::pipeline::StatsRegistry;
    use infiniservice::pipeline::chain::{Segment, StageRunner};

    use super::*;

    #[divan::bench(args = [0, 10, 1_000])]
    fn turn(bencher: Bencher<'_, '_>, rate: u32) {
        let (readings, stats) = (readings(), StatsRegistry::default().node("tags".to_owned()));
        let tags = Tags::new([("a".to_owned(), "b".to_owned())].into());
        let mut runner = StageRunner::new(tags, Arc::clone(&stats), None);
        let mut looking = (rate > 0).then(|| stats.tap().attach(rate));
        bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
            runner.inbox().extend(readings.iter().cycle().take(TURN).cloned());
            runner.advance(Instant::now());
            while looking.as_mut().is_some_and(|looking| looking.ready().is_some()) {}
            runner.ready().drain(..).count()
        });
    }
}
