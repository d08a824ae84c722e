//! The way of an item where nothing breaks: order, deadlines, the stop, and the ring.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, ThreadId};
use std::time::Duration;

use infiniservice::pipeline::{
    Context, ExitStatus, Output, Pipeline, Restart, Ring, StatsRegistry, Transform,
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::rig::{DRAIN, Even, Handed, Number, Pair, Pairs, all, balanced, count, node, tell};

#[test]
fn every_item_arrives_in_order_through_fused_and_buffered_stages() {
    under_both(|| async {
        let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
        let (sink, from) = tell::<Pair>(1);
        let context = Context::new("test", &health, &stop);
        let (even, handed) = Pipeline::from_sources(&context, [count(10_001)], 4)
            .then(Even)
            .hand_to("pairs", String::new(), 3);
        let pairs = Pipeline::from_sources(&context, [Handed(handed)], 4)
            .then(Pairs::default())
            .write(sink, 2);
        let restart = Restart::default();
        let (even, outcome, pairs) = tokio::join!(
            even.run(&restart, &stop, DRAIN),
            pairs.run(&restart, &stop, DRAIN),
            all(from)
        );
        assert_eq!((even.end, outcome.end), (ExitStatus::Done, ExitStatus::Done));
        let numbers: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
        assert_eq!(numbers, (0..=10_000).step_by(2).collect::<Vec<_>>());
        let counts = health.counts();
        balanced(&counts);
        assert_eq!(node(&counts, "test/even").dropped, [("odd", 5_000)]);
        assert_eq!(node(&counts, "test/tell").sent, 5_001);
    });
}

/// Calls 100 to 199 are costly, and the first of number 220 breaks.
struct Costly {
    calls: u64,
    broken: bool,
    worker: ThreadId,
    elsewhere: Arc<AtomicU64>,
}

impl Transform for Costly {
    type In = Number;
    type Out = Number;

    fn is_costly(&self) -> bool {
        (100..200).contains(&self.calls)
    }

    fn apply(&mut self, _now: Instant, input: &Number, out: &mut Output<Number>) {
        self.calls += 1;
        if thread::current().id() != self.worker {
            self.elsewhere.fetch_add(1, Relaxed);
        }
        assert!(input.0 != 220 || std::mem::replace(&mut self.broken, true), "220 breaks once");
        out.push(input.clone());
    }
}

#[tokio::test]
async fn what_is_costly_leaves_the_worker_and_nothing_else_of_it_changes() {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, from) = tell::<Number>(1);
    let elsewhere: Arc<AtomicU64> = Arc::default();
    let costly = Costly {
        calls: 0,
        broken: false,
        worker: thread::current().id(),
        elsewhere: Arc::clone(&elsewhere),
    };
    let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [count(300)], 4)
        .then(Even)
        .then(costly)
        .write(sink, 2);
    let restart = Restart::default();
    let (outcome, numbers) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
    assert_eq!(outcome.end, ExitStatus::Done);
    let numbers: Vec<u64> = numbers.into_iter().map(|number| number.0).collect();
    assert_eq!(numbers, (0..300).step_by(2).collect::<Vec<_>>());
    let elsewhere = elsewhere.load(Relaxed);
    assert!((40..=60).contains(&elsewhere), "from the hundredth of 151 calls on: {elsewhere}");
    let counts = health.counts();
    balanced(&counts);
    assert_eq!(node(&counts, "test/costly").failed, 1);
}

/// Runs `flow` under both runtimes on real time.
fn under_both<F: Future<Output = ()>>(flow: impl Fn() -> F) {
    let current = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    current.block_on(flow());
    let multi =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    multi.block_on(flow());
}

#[tokio::test(start_paused = true)]
async fn what_is_held_goes_out_when_its_deadline_comes_and_when_the_stop_is_called() {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, mut from) = tell::<Pair>(64);
    let mut source = count(3);
    source.then_wait = true;
    let graph = Pipeline::from_sources(&Context::new("test", &health, &stop), [source], 4)
        .then(Pairs::default())
        .write(sink, 2);
    let restart = Restart::default();
    let run = async { graph.run(&restart, &stop, DRAIN).await };
    let watch = async {
        assert_eq!(from.recv().await, Some(Pair(vec![0, 1])));
        assert_eq!(node(&health.counts(), "test/pairs").buffered, 1);
        balanced(&health.counts());
        let begun = Instant::now();
        assert_eq!(from.recv().await, Some(Pair(vec![2])));
        assert_eq!(begun.elapsed().as_secs(), 1, "its deadline");
        stop.cancel();
        assert_eq!(from.recv().await, None);
    };
    let (outcome, ()) = tokio::join!(run, watch);
    assert!(outcome.drained);
    balanced(&health.counts());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_never_comes_back_is_left_at_the_shutdown_deadline() {
    let (stop, health) = (CancellationToken::new(), StatsRegistry::default());
    let (sink, _kept) = tell::<Number>(1); // nobody reads: the second write waits for ever
    let mut source = count(50);
    source.then_wait = true;
    let graph =
        Pipeline::from_sources(&Context::new("test", &health, &stop), [source], 4).write(sink, 2);
    let restart = Restart::default();
    let begun = Instant::now();
    let (outcome, ()) = tokio::join!(graph.run(&restart, &stop, DRAIN), async {
        sleep(Duration::from_secs(1)).await;
        stop.cancel();
    });
    assert!(!outcome.drained);
    assert_eq!(begun.elapsed(), Duration::from_secs(1) + DRAIN);
}

#[tokio::test(start_paused = true)]
async fn the_ring_keeps_the_newest_and_a_slow_subscriber_slows_nobody_and_knows_its_loss() {
    use futures::StreamExt;
    let health = StatsRegistry::default();
    let ring = Ring::new(4);
    let (fast, slow) = (health.node("fast".into()), health.node("slow".into()));
    let (mut quick, late) = (ring.subscribe(fast), ring.subscribe(slow));
    for number in 0..10 {
        assert!(ring.publish(Pair(vec![number; 3])));
        assert_eq!(quick.next().await, Some(Pair(vec![number; 3])));
    }
    drop(ring);
    let kept: Vec<u64> = late.map(|pair| pair.0[0]).collect().await;
    assert_eq!(kept, [6, 7, 8, 9]);
    let counts = health.counts();
    assert!(node(&counts, "fast").dropped.is_empty());
    assert_eq!(node(&counts, "slow").dropped, [("overwritten", 18)]);
    assert_eq!(node(&counts, "slow").received, 30);
}
