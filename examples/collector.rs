//! A collector of one's own: `cargo run --example collector`.
//!
//! It fills the group `load` from a source of its own, here the length of a queue. A reading has room for
//! the groups of [`Group`] and for no other.
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use infiniservice::model::Load;
use infiniservice::prelude::*;
use tokio::time::Instant;

/// Averages over the last readings of how many jobs wait. `read` may block: it runs on the blocking pool.
struct JobsWaiting {
    history: VecDeque<f64>,
}

impl Collector for JobsWaiting {
    fn group(&self) -> Group {
        Group::Load
    }

    fn read(&mut self, _now: Instant, into: &mut SystemMetrics) {
        let jobs = 2.0 * self.history.len() as f64; // a real one asks the queue
        self.history.push_back(jobs);
        let mean = self.history.iter().sum::<f64>() / self.history.len() as f64;
        let load = Load { one: jobs, five: mean, fifteen: mean, uptime_seconds: 0 };
        into.load = Some(load.into());
    }
}

/// Reads the collector three times, beside one of the library.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let jobs: Box<dyn Collector> = Box::new(JobsWaiting { history: VecDeque::new() });
    // It stands beside the collectors of the library; each fills its own group of one reading.
    let collectors = vec![jobs, Box::new(MemoryCollector::new())];
    let mut readings = pin!(readings(Duration::from_millis(50), collectors).take(3));
    let mut waiting = Vec::new();
    while let Some(reading) = readings.next().await {
        if let Some(load) = &reading.load {
            println!("{} jobs wait, {} on average", load.one, load.five);
            waiting.push(load.one);
        }
        assert!(reading.memory.is_some());
    }
    // What a collector remembers stays with it from reading to reading.
    assert!(waiting.len() == 3 && waiting.windows(2).all(|pair| pair[1] == pair[0] + 2.0));
}
