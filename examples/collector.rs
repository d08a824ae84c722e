//! A collector of one's own, with a group of its own: `cargo run --example collector`.
//!
//! The group is a serde type with a name and units. Every format that has a place for it writes it.
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use infiniservice::prelude::*;
use tokio::time::Instant;

/// What the collector reads.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Jobs {
    waiting: u64,
    done: u64,
}

impl OwnGroup for Jobs {
    const GROUP: Group = Group::new("jobs");
    const FIELDS: &'static [Field] = &[Field::counter("done", "jobs", "since the start")];
}

/// Reads a queue. `read` may block: it runs on the blocking pool.
struct Queue(u64);

impl Collector for Queue {
    fn group(&self) -> Group {
        Jobs::GROUP
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        self.0 += 2; // a real one asks the queue
        into.put(Jobs { waiting: 3, done: self.0 });
    }
}

/// Reads the collector three times, beside one of the library.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let collectors: Vec<Box<dyn Collector>> =
        vec![Box::new(Queue(0)), Box::new(MemoryCollector::new())];
    let mut readings = pin!(readings(Duration::from_millis(50), collectors).take(3));
    let mut rates = Rates::default();
    let (mut line, mut out) = (Vec::new(), Output::default());
    while let Some(reading) = readings.next().await {
        assert!(reading.memory.is_some() && reading.get::<Jobs>().is_some());
        rates.apply(reading.taken, &reading, &mut out); // adds done_per_sec
    }
    for reading in out.drain() {
        assert!(Format::Influx.encode(&reading, &mut line).is_ok(), "it fits in a line");
    }
    let text = String::from_utf8_lossy(&line);
    print!("{text}");
    assert!(text.contains("done_per_sec="), "{text}");
}
