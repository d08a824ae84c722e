//! The way of an item where nothing breaks: order, deadlines, the stop, and the ring.

use std::time::Duration;

use infiniservice::pipeline::{End, Health, Pipeline, Restart, Ring};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::rig::{DRAIN, Even, Number, Pair, Pairs, all, balanced, count, node, tell};

#[test]
fn every_item_arrives_in_order_through_fused_and_buffered_stages() {
    under_both(|| async {
        let (stop, health) = (CancellationToken::new(), Health::default());
        let (sink, from) = tell::<Pair>(1);
        let graph = Pipeline::from_sources("test", [count(10_001)], 4, &health, &stop)
            .then(Even)
            .buffer(3)
            .then(Pairs::default())
            .write(sink, 2);
        let restart = Restart::default();
        let (outcome, pairs) = tokio::join!(graph.run(&restart, &stop, DRAIN), all(from));
        assert_eq!(outcome.end, End::Done);
        let numbers: Vec<u64> = pairs.into_iter().flat_map(|pair| pair.0).collect();
        assert_eq!(numbers, (0..=10_000).step_by(2).collect::<Vec<_>>());
        let counts = health.counts();
        balanced(&counts);
        assert_eq!(node(&counts, "test/even").lost, [("odd", 5_000)]);
        assert_eq!(node(&counts, "test/tell").given, 5_001);
    });
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
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, mut from) = tell::<Pair>(64);
    let mut source = count(3);
    source.then_wait = true;
    let graph = Pipeline::from_sources("test", [source], 4, &health, &stop)
        .then(Pairs::default())
        .write(sink, 2);
    let restart = Restart::default();
    let run = async { graph.run(&restart, &stop, DRAIN).await };
    let watch = async {
        assert_eq!(from.recv().await, Some(Pair(vec![0, 1])));
        assert_eq!(node(&health.counts(), "test/pairs").held, 1);
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
    let (stop, health) = (CancellationToken::new(), Health::default());
    let (sink, _kept) = tell::<Number>(1); // nobody reads: the second write waits for ever
    let mut source = count(50);
    source.then_wait = true;
    let graph = Pipeline::from_sources("test", [source], 4, &health, &stop).write(sink, 2);
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
    let health = Health::default();
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
    assert!(node(&counts, "fast").lost.is_empty());
    assert_eq!(node(&counts, "slow").lost, [("overwritten", 18)]);
    assert_eq!(node(&counts, "slow").taken, 30);
}
