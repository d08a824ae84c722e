//! One publisher, two subscribers: a slow one loses the oldest items and holds up nobody.
//! `cargo run --example broadcast`
use futures::StreamExt;
use infiniservice::prelude::*;

/// Items say how much they count for in the statistics; the default is 1.
#[derive(Debug, Clone, PartialEq)]
struct Number(u64);
impl EventCount for Number {}

/// Publishes ten items to both subscribers.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let stats = StatsRegistry::default();
    let ring = Ring::new(4);
    let mut quick = ring.subscribe(stats.node("quick".to_owned()));
    let slow = ring.subscribe(stats.node("slow".to_owned()));

    // The quick subscriber takes each item as it comes; the slow one takes none yet.
    for number in 0..10 {
        assert!(ring.publish(Number(number)), "publishing never waits");
        assert_eq!(quick.next().await, Some(Number(number)));
    }
    // The ring keeps the newest four for the slow one.
    drop(ring);
    let rest: Vec<u64> = slow.map(|Number(number)| number).collect().await;
    println!("the slow subscriber got {rest:?}");
    assert_eq!(rest, [6, 7, 8, 9]);
    assert_eq!(quick.next().await, None, "the end of the publisher is the end of the stream");

    // What was overwritten is counted, for the slow one alone.
    for node in stats.counts() {
        println!("{}: received {}, dropped {:?}", node.node, node.received, node.dropped);
        let dropped: u64 = node.dropped.iter().map(|(_, count)| count).sum();
        assert_eq!(dropped, if node.node == "slow" { 6 } else { 0 });
    }
}
