//! The source of readings: when it reads, and what a collector that hangs or panics costs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use futures::StreamExt;
use infiniservice::metrics::collect::{Cadence, Collector, readings};
use infiniservice::model::{Group, Load, Memory, Pressure, SystemMetrics};
use infiniservice::pipeline::Source;
use tokio::time::{Instant, timeout};

/// Reads at once.
struct Quick;
impl Collector for Quick {
    fn group(&self) -> Group {
        Group::Load
    }
    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        into.load = Some(Arc::new(Load::default()));
    }
}

/// Reads when it is told to, like a mount whose server may be away.
struct Mount(Receiver<()>);
impl Collector for Mount {
    fn group(&self) -> Group {
        Group::Memory
    }
    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        self.0.recv().unwrap();
        into.memory = Some(Arc::new(Memory::default()));
    }
}
fn mount() -> (SyncSender<()>, Box<dyn Collector>) {
    let (answer, wait) = sync_channel(8);
    (answer, Box::new(Mount(wait)))
}

struct Broken;
impl Collector for Broken {
    fn group(&self) -> Group {
        Group::Pressure
    }
    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        into.pressure = Some(Arc::new(Pressure::default()));
        panic!("index out of bounds");
    }
}

fn what(reading: &SystemMetrics) -> Vec<&str> {
    reading.troubles.iter().map(|trouble| trouble.what.as_str()).collect()
}

#[tokio::test]
async fn a_collector_that_hangs_costs_its_group_and_delays_one_reading_only() {
    let (answer, mount) = mount();
    let second = Duration::from_secs(1);
    let limit = Duration::from_millis(50);
    let mut cadence = Cadence::new(second, vec![Box::new(Quick), mount]).within(limit);

    answer.send(()).unwrap();
    let whole = cadence.read().await;
    assert!(whole.load.is_some() && whole.memory.is_some() && whole.troubles.is_empty());

    let partial = cadence.read().await;
    assert!(partial.load.is_some() && partial.memory.is_none());
    assert_eq!(what(&partial), ["it did not come back within 50ms"]);

    let begun = Instant::now();
    for _ in 0..20 {
        let partial = cadence.read().await;
        assert!(partial.load.is_some());
        assert_eq!(what(&partial), ["it has not come back yet"]);
    }
    assert!(begun.elapsed() < limit * 10, "twenty readings did not wait again");

    answer.send(()).unwrap(); // the stale answer, which is thrown away
    answer.send(()).unwrap(); // the next one
    timeout(Duration::from_secs(30), async {
        while cadence.read().await.memory.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is welcome when it comes back");
}

#[tokio::test]
async fn a_collector_that_panics_is_told_and_read_again() {
    let mut cadence = Cadence::new(Duration::from_secs(1), vec![Box::new(Broken), Box::new(Quick)]);
    for sequence in 0..2 {
        let reading = cadence.read().await;
        assert_eq!(reading.sequence, sequence);
        assert!(reading.load.is_some());
        assert_eq!(what(&reading), ["it panicked while reading: index out of bounds"]);
    }
}

#[test]
fn readings_come_every_so_often_and_the_first_within_a_second_under_every_runtime() {
    let runtimes = [
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    ];
    for runtime in runtimes {
        runtime.block_on(async {
            let begun = Instant::now();
            let every = Duration::from_millis(40);
            let taken: Vec<SystemMetrics> =
                readings(every, vec![Box::new(Quick)]).take(5).collect().await;
            assert_eq!(
                taken.iter().map(|reading| reading.sequence).collect::<Vec<_>>(),
                [0, 1, 2, 3, 4]
            );
            assert!(begun.elapsed() >= every * 5);
            assert!(taken[0].taken - begun < Duration::from_secs(1));
        });
    }
}

#[tokio::test]
async fn a_source_that_is_opened_again_goes_on_counting() {
    let mut cadence = Cadence::new(Duration::from_millis(10), vec![Box::new(Quick)]);
    let first: Vec<_> = cadence.open().take(2).collect().await;
    let then: Vec<_> = cadence.open().take(1).collect().await;
    let sequences = first.iter().chain(&then).map(|item| item.as_ref().unwrap().sequence);
    assert_eq!(sequences.collect::<Vec<_>>(), [0, 1, 2]);
}
