//! A whole pipeline in code, its topology printed before it runs: `cargo run --example pipeline`.
//!
//! Two sources at their own intervals, one enricher, and JSON lines on the standard output.
use std::time::Duration;

use infiniservice::prelude::*;

/// Prints the topology, and runs it until something is written.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let (stats, stop) = (StatsRegistry::default(), CancellationToken::new());
    let every = Duration::from_millis;
    let sources = [
        IntervalSource::new(every(50), vec![Box::new(CpuCollector::new())]),
        IntervalSource::new(every(200), vec![Box::new(MemoryCollector::new())]),
    ];
    let tags = Tags::new([("site".to_owned(), "lab-1".to_owned())].into());
    let limits = Limits { max_items: 16, max_bytes: 32 << 10, max_delay: every(100) };
    let graph = Pipeline::from_sources(&Context::new("machine", &stats, &stop), sources, 4)
        .then(tags)
        .then(Batcher::new(limits))
        .then(Serialize::new(Format::JsonLines))
        .write(Stdout::new(), 2);

    let topology = graph.topology.to_string();
    println!("{topology}");
    assert!(topology.contains("mpsc, at most 4") && topology.contains("serialize"));

    // Stopping ends the sources; what is under way has five seconds to reach the sink.
    let restart = Restart::default();
    let run = graph.run(&restart, &stop, Duration::from_secs(5));
    let has_written = || stats.counts().iter().any(|n| n.node == "machine/stdout" && n.sent > 0);
    let (outcome, ()) = tokio::join!(run, async {
        while !has_written() {
            tokio::time::sleep(every(10)).await;
        }
        stop.cancel();
    });
    assert_eq!(outcome, Outcome { end: ExitStatus::Done, drained: true });
    for node in stats.counts() {
        println!("{}: received {}, sent {}", node.node, node.received, node.sent);
        assert_eq!(node.buffered, 0, "nothing was left behind");
    }
}
