//! Stages that panic and sinks that fail: what is done again, what is given up, and that it is counted.

use std::io::{Read, Seek};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, stream};
use infiniservice::pipeline::{
    Context, ExitStatus, LOG_INTERVAL, Pipeline, Restart, Sink, Source, StageError, StatsRegistry,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rig::{Brittle, DRAIN, Handed, Number, Pair, Pairs, all, balanced, count, node, tell};

#[tokio::test(start_paused = true)]
async fn a_stage_that_panics_once_loses_nothing_and_the_others_go_on() {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, from) = tell::<Pair>(64);
    let mut source = count(9);
    source.panic_at = Some(3);
    let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [source], 4)
        .then_each(vec![Brittle(vec![(2, 1)]), Brittle(vec![(5, 1), (8, 1)])])
        .then(Pairs::default())
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!(outcome.end, ExitStatus::Done);
    let numbers: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>());
    let counts = health.counts();
    balanced(&counts);
    assert_eq!(node(&counts, "test/count").failed, 1);
    assert_eq!(node(&counts, "test/pairs").failed, 0);
    let faults: Vec<u64> = counts
        .iter()
        .filter(|count| count.node == "test/brittle")
        .map(|count| count.failed)
        .collect();
    assert_eq!(faults, [1, 2], "each stage keeps its own");
}

#[tokio::test(start_paused = true)]
async fn an_item_that_breaks_its_stage_twice_is_given_up_and_counted() {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, from) = tell::<Number>(64);
    let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [count(4)], 4)
        .then(Brittle(vec![(1, 2)]))
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, numbers) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!(outcome.end, ExitStatus::Done);
    assert_eq!(numbers, [Number(0), Number(2), Number(3)]);
    let counts = health.counts();
    balanced(&counts);
    assert_eq!(node(&counts, "test/brittle").dropped, [("poison", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_offered_again_for_as_long_as_it_takes() {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (mut sink, from) = tell::<Number>(64);
    sink.fail = (1..40).collect(); // far beyond the restart budget: the world is at fault
    let graph =
        Pipeline::from_sources(&Context::new("test", &health, &stop), [count(4)], 4).write(sink, 2);
    let restart = Restart::default();
    let (outcome, numbers) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!((outcome.end, numbers), (ExitStatus::Done, (0..4).map(Number).collect()));
    balanced(&health.counts());
}

/// What is logged while `run` runs.
async fn logged(run: impl Future<Output = ()>) -> Vec<String> {
    // A log line that another thread meets first, with no subscriber, would be off for this one, too.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    let log = Arc::new(tempfile::tempfile().unwrap());
    let lines = tracing_subscriber::fmt().with_writer(Arc::clone(&log)).with_ansi(false).finish();
    let _while = tracing::subscriber::set_default(lines);
    run.await;
    let mut text = String::new();
    (&*log).rewind().unwrap();
    (&*log).read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_write_is_logged_once_a_minute_and_when_it_can_again() {
    for stops in [false, true] {
        let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
        let (mut sink, from) = tell::<Number>(64);
        sink.fail = if stops { (0..1_000).collect() } else { (1..12).collect() };
        let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [count(4)], 4)
            .write(sink, 2);
        let restart = Restart::default();
        let log = logged(async {
            let begun = Instant::now();
            let stopping = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                if stops {
                    stop.cancel();
                }
            };
            let (outcome, _, ()) =
                tokio::join!(graph.run(&restart, &stop, DRAIN), all(from), stopping);
            assert_eq!(outcome.drained, !stops);
            assert!(stops || begun.elapsed() > LOG_INTERVAL, "{:?}", begun.elapsed());
        })
        .await;
        let failed: Vec<_> = log.iter().filter(|line| line.contains("stage has failed")).collect();
        if stops {
            assert_eq!(failed.len(), 1, "with a try every 100 ms: {log:?}");
        } else {
            assert!((2..=4).contains(&failed.len()), "{log:?}");
            assert!(failed[1].contains("not_logged="), "{log:?}");
            assert_eq!(
                log.iter().filter(|line| line.contains("works again")).count(),
                1,
                "{log:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_is_logged_once_after_five_seconds_and_when_it_goes_on() {
    /// Takes its time for the first write.
    struct Slow(Duration);
    impl Sink for Slow {
        type In = Number;
        async fn write(&mut self, _item: &Number) -> Result<(), StageError> {
            tokio::time::sleep(std::mem::take(&mut self.0)).await;
            Ok(())
        }
    }
    for (seconds, hung) in [(4, 0), (20, 1), (55, 1)] {
        let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
        let slow = Slow(Duration::from_secs(seconds));
        let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [count(4)], 4)
            .write(slow, 2);
        let log = logged(async {
            assert_eq!(graph.run(&Restart::default(), &stop, DRAIN).await.end, ExitStatus::Done);
        })
        .await;
        let tells = |what| log.iter().filter(|line| line.contains(what)).count();
        assert_eq!((tells("a write has taken 5s"), tells("works again")), (hung, hung), "{log:?}");
        assert_eq!(tells("stage has failed"), 0, "it was told: {log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_spends_its_budget_ends_the_run_and_the_rest_drains() {
    struct Dead;
    impl Source for Dead {
        type Out = Number;
        fn open(&mut self) -> impl Stream<Item = Result<Number, StageError>> + Send + '_ {
            stream::iter([Err(StageError::new("no such sensor"))])
        }
    }
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, from) = tell::<Pair>(64);
    let mut source = count(7);
    source.then_wait = true;
    let mut tasks = Pipeline::from_sources(&Context::new("good", &health, &stop), [source], 4)
        .then(Pairs::default())
        .write(sink, 2)
        .into_tasks();
    let (dead, _gone) = tell::<Number>(1);
    tasks.extend(
        Pipeline::from_sources(&Context::new("bad", &health, &stop), [Dead], 4)
            .write(dead, 2)
            .into_tasks(),
    );
    let restart = Restart { budget: 3, ..Restart::default() };
    let begun = Instant::now();
    let (outcome, pairs) =
        tokio::join!(infiniservice::pipeline::run(tasks, &restart, &stop, DRAIN), all(from));
    assert_eq!((outcome.end, outcome.drained), (ExitStatus::Spent, true));
    // Three pauses of 100, 200 and 400 ms, each with up to as much again by chance.
    assert!((Duration::from_millis(700)..Duration::from_millis(1500)).contains(&begun.elapsed()));
    assert_eq!(pairs.into_iter().map(|pair| pair.0.len()).sum::<usize>(), 7, "all that was made");
    assert_eq!(node(&health.counts(), "bad/dead").failed, 4);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn the_books_balance_and_nothing_is_lost_unsaid_whatever_breaks(
        end in 0_u64..300,
        first in proptest::collection::vec((0_u64..300, 0_u32..3), 0..5),
        second in proptest::collection::vec((0_u64..300, 0_u32..3), 0..5),
        source in proptest::option::of(0_u64..300),
        failed in proptest::collection::vec(0_u32..200, 0..8),
        bounds in (1_usize..9, 1_usize..9, 1_usize..9),
    ) {
        let once = |list: Vec<(u64, u32)>| {
            list.into_iter().collect::<std::collections::BTreeMap<_, _>>()
        };
        let (first, second) = (once(first), once(second));
        // Twice is too often for one item in one stage; a number that stage one gave up never
        // reaches stage two.
        let given_up = |list: &std::collections::BTreeMap<u64, u32>, n: &u64| list.get(n) == Some(&2);
        let expected: Vec<u64> =
            (0..end).filter(|n| !given_up(&first, n) && !given_up(&second, n)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
            let (mut sink, from) = tell::<Pair>(3);
            sink.fail = failed;
            let mut numbers = count(end);
            numbers.panic_at = source;
            let brittle = |list: std::collections::BTreeMap<u64, u32>| Brittle(list.into_iter().collect());
            let context = Context::new("test", &health, &stop);
            let (begin, handed) = Pipeline::from_sources(&context, [numbers], bounds.0)
                .then(brittle(first))
                .hand_to("next", String::new(), bounds.1);
            let graph = Pipeline::from_sources(&context, [Handed(handed)], bounds.1)
                .then(brittle(second))
                .then(Pairs::default())
                .write(sink, bounds.2);
            let restart = Restart { budget: 1_000, ..Restart::default() };
            let (begin, outcome, pairs) = tokio::join!(
                begin.run(&restart, &stop, DRAIN),
                graph.run(&restart, &stop, DRAIN),
                all(from)
            );
            for outcome in [begin, outcome] {
                assert_eq!((outcome.end, outcome.drained), (ExitStatus::Done, true));
            }
            let delivered: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
            assert_eq!(delivered, expected);
            let counts = health.counts();
            balanced(&counts);
            assert!(counts.iter().all(|count| count.buffered == 0), "{counts:?}");
            let lost: u64 = counts.iter().flat_map(|count| &count.dropped).map(|lost| lost.1).sum();
            assert_eq!(lost, end - expected.len() as u64);
        });
    }
}
