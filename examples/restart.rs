//! Restart after a fault: a stage that panics runs again, and no item is lost.
//! `cargo run --example restart`
use std::time::Duration;

use futures::{Stream, stream};
use infiniservice::prelude::*;
use tokio::time::Instant;

#[derive(Clone)]
struct Number(u64);
impl EventCount for Number {}

/// Counts to ten. The next number lives in `self`, so a restart goes on where it was.
struct Count(u64);
impl Source for Count {
    type Out = Number;
    fn open(&mut self) -> impl Stream<Item = Result<Number, StageError>> + Send + '_ {
        stream::iter(std::iter::from_fn(|| {
            self.0 += 1;
            (self.0 <= 10).then_some(Ok(Number(self.0)))
        }))
    }
}

/// Panics at four, the first time.
struct Fragile {
    is_mended: bool,
}
impl Transform for Fragile {
    type In = Number;
    type Out = Number;
    fn apply(&mut self, _now: Instant, number: &Number, out: &mut Output<Number>) {
        if number.0 == 4 && !std::mem::replace(&mut self.is_mended, true) {
            panic!("this panic belongs to the example");
        }
        out.push(number.clone());
    }
}

/// The clock is paused: the pause before the restart takes no real time.
#[tokio::main(flavor = "current_thread", start_paused = true)]
pub async fn main() {
    let (stats, stop) = (StatsRegistry::default(), CancellationToken::new());
    let graph = Pipeline::from_sources(&Context::new("example", &stats, &stop), [Count(0)], 4)
        .then(Fragile { is_mended: false });
    let (graph, mut received) = graph.hand_to("main", String::new(), 16);
    let outcome = graph.run(&Restart::default(), &stop, Duration::from_secs(5)).await;
    assert_eq!(outcome.end, ExitStatus::Done, "one fault is within the restart budget");
    let mut numbers = Vec::new();
    while let Some(Number(number)) = received.recv().await {
        numbers.push(number);
    }
    println!("received {numbers:?}");
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    assert!(stats.counts().iter().any(|node| node.node == "example/fragile" && node.failed == 1));
}
