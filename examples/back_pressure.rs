//! Back-pressure: a slow sink makes the source wait, so memory stays bounded and nothing is lost.
//! `cargo run --example back_pressure`
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use infiniservice::prelude::*;

#[derive(Clone)]
struct Number;
impl EventCount for Number {}

/// Produces 50 items as fast as they are taken.
struct Fast(Arc<AtomicU64>);
impl Source for Fast {
    type Out = Number;
    fn open(&mut self) -> impl Stream<Item = Result<Number, StageError>> + Send + '_ {
        stream::iter(0..50).map(|_| {
            self.0.fetch_add(1, Relaxed);
            Ok(Number)
        })
    }
}

/// Takes 10 ms for each, and notes how far ahead the source is.
struct Slow {
    made: Arc<AtomicU64>,
    written: u64,
    ahead_max: Arc<AtomicU64>,
}
impl Sink for Slow {
    type In = Number;
    async fn write(&mut self, _: &Number) -> Result<(), StageError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.ahead_max.fetch_max(self.made.load(Relaxed) - self.written, Relaxed);
        self.written += 1;
        Ok(())
    }
}

/// The clock is paused: it jumps to the next timer as soon as every task waits.
#[tokio::main(flavor = "current_thread", start_paused = true)]
pub async fn main() {
    let (stats, stop) = (StatsRegistry::default(), CancellationToken::new());
    let (made, ahead_max) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let sink = Slow { made: Arc::clone(&made), written: 0, ahead_max: Arc::clone(&ahead_max) };
    // Two channels of four items: one before the (empty) segment, one before the sink.
    let graph = Pipeline::from_sources(
        &Context::new("example", &stats, &stop),
        [Fast(Arc::clone(&made))],
        4,
    );
    let graph = graph.write(sink, 4);
    graph.run(&Restart::default(), &stop, Duration::from_secs(5)).await;
    let (made, ahead) = (made.load(Relaxed), ahead_max.load(Relaxed));
    println!("{made} items were produced, never more than {ahead} ahead of the sink");
    assert!(made == 50 && (8..=20).contains(&ahead));
}
