//! The source of readings: when it reads, and what a collector that hangs or panics costs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use futures::StreamExt;
use infiniservice::metrics::collect::{Collector, IntervalSource, readings};
use infiniservice::model::{Group, Load, Memory, Pressure, SystemMetrics};
use infiniservice::pipeline::{Source, StateStore};
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
    let mut cadence = IntervalSource::new(second, vec![Box::new(Quick), mount]).within(limit);

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

/// Says that it reads.
struct Saying(SyncSender<()>);
impl Collector for Saying {
    fn group(&self) -> Group {
        Group::Load
    }
    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        let _ = self.0.try_send(());
        into.load = Some(Arc::new(Load::default()));
    }
}

#[tokio::test]
async fn those_behind_a_collector_that_hangs_are_read_while_it_does() {
    let (answer, mount) = mount();
    let (say, said) = sync_channel(8);
    let second = Duration::from_secs(1);
    let mut cadence = IntervalSource::new(second, vec![mount, Box::new(Saying(say))])
        .within(Duration::from_secs(60));
    let release = std::thread::spawn(move || {
        // The one that hangs is released when the one behind it has read, and not before.
        let is_read = said.recv_timeout(Duration::from_secs(30)).is_ok();
        answer.send(()).unwrap();
        is_read
    });
    let whole = cadence.read().await;
    assert!(release.join().unwrap(), "it was not read while the first one hung");
    assert!(whole.load.is_some() && whole.memory.is_some(), "{:?}", whole.troubles);
}

#[tokio::test]
async fn what_had_not_begun_when_a_reading_was_given_up_is_read_in_the_next_one() {
    let (answer, mount) = mount();
    let limit = Duration::from_secs(60);
    let mut cadence =
        IntervalSource::new(Duration::from_secs(1), vec![mount, Box::new(Quick)]).within(limit);
    assert!(timeout(Duration::from_millis(1), cadence.read()).await.is_err());
    answer.send(()).unwrap(); // of the reading that was given up
    answer.send(()).unwrap();
    timeout(Duration::from_secs(30), async {
        loop {
            let reading = cadence.read().await;
            assert!(reading.load.is_some(), "{:?}", reading.troubles);
            if reading.memory.is_some() {
                break;
            }
        }
    })
    .await
    .expect("both are read");
}

#[tokio::test]
async fn a_collector_that_panics_is_told_and_read_again() {
    let mut cadence =
        IntervalSource::new(Duration::from_secs(1), vec![Box::new(Broken), Box::new(Quick)]);
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
    let mut cadence = IntervalSource::new(Duration::from_millis(10), vec![Box::new(Quick)]);
    let first: Vec<_> = cadence.open().take(2).collect().await;
    let then: Vec<_> = cadence.open().take(1).collect().await;
    let sequences = first.iter().chain(&then).map(|item| item.as_ref().unwrap().sequence);
    assert_eq!(sequences.collect::<Vec<_>>(), [0, 1, 2]);
}

/// Tells how often it was read.
struct Counting(Group, u64);
impl Collector for Counting {
    fn group(&self) -> Group {
        self.0
    }
    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        self.1 += 1;
        match self.0 {
            Group::Load => {
                into.load = Some(Arc::new(Load { uptime_seconds: self.1, ..Load::default() }))
            }
            _ => into.memory = Some(Arc::new(Memory { used_bytes: self.1, ..Memory::default() })),
        }
    }
}

fn kept(shelf: &StateStore, every_ms: u64, asked: &[(Group, &str)]) -> IntervalSource {
    let collectors = asked.iter().map(|(group, _)| Box::new(Counting(*group, 0)) as _).collect();
    let asked = asked.iter().map(|(_, asked)| (*asked).to_owned()).collect();
    IntervalSource::new(Duration::from_millis(every_ms), collectors).kept_on(shelf, asked)
}

#[tokio::test(start_paused = true)]
async fn a_cadence_goes_on_where_the_one_before_ended() {
    let shelf = StateStore::default();
    let mut first = kept(&shelf, 1_000, &[(Group::Load, "a"), (Group::Memory, "a")]);
    let mut taken = Vec::new();
    {
        let mut readings = std::pin::pin!(first.open());
        for _ in 0..3 {
            taken.push(readings.next().await.unwrap().unwrap());
        }
    }
    let mut second = kept(&shelf, 1_500, &[(Group::Load, "a"), (Group::Memory, "b")]);
    drop(first);
    let mut slow = kept(&shelf, 9_000, &[(Group::Pressure, "a")]);
    tokio::time::advance(Duration::from_millis(700)).await;
    {
        let mut readings = std::pin::pin!(second.open());
        let next = readings.next().await.unwrap().unwrap();
        assert_eq!(next.sequence, 3);
        assert_eq!(next.taken - taken[2].taken, Duration::from_millis(1_500), "by its own period");
        assert_eq!(next.load.unwrap().uptime_seconds, 5, "primed once, read three times, and now");
        assert_eq!(
            next.memory.unwrap().used_bytes,
            2,
            "asked for otherwise: begun anew, and primed"
        );
    }
    let other = std::pin::pin!(slow.open()).next().await.unwrap().unwrap();
    assert_eq!(other.sequence, 3, "from the highest number of all");
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_was_cut_short_is_read_again_at_once_under_its_number() {
    let shelf = StateStore::default();
    let mut first = kept(&shelf, 1_000, &[(Group::Load, "a")]);
    let at = {
        let mut readings = std::pin::pin!(first.open());
        let reading = readings.next().await.unwrap().unwrap();
        tokio::time::advance(Duration::from_millis(1_000)).await;
        assert!(futures::poll!(readings.next()).is_pending(), "it is out reading");
        reading.taken
    };
    drop(first);
    let mut second = kept(&shelf, 1_000, &[(Group::Load, "a")]);
    let next = std::pin::pin!(second.open()).next().await.unwrap().unwrap();
    assert_eq!(next.sequence, 1);
    assert!(next.taken - at < Duration::from_millis(1_050), "{:?}", next.taken - at);
    assert!(next.load.is_some());
}
