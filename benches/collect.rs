//! What one reading of each group costs on the machine it runs on, and all groups together as the
//! agent reads them. The time is that of one thread which never waits, so it is processor time too.
//!
//! Each is measured in the steady state: after the first reading, with warm caches.

use std::time::{Duration, SystemTime};

use divan::{Bencher, black_box};
use infiniservice::metrics::collect::*;
use infiniservice::model::SystemMetrics;
use tokio::time::Instant;

fn main() {
    let processes = std::fs::read_dir("/proc").map_or(0, |entries| {
        entries
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit())
            .count()
    });
    println!("{processes} processes");
    divan::main();
}

/// The groups; the last name stands for all of them.
const NAMES: [&str; 11] = [
    "cpu",
    "memory",
    "load",
    "disk",
    "network",
    "processes",
    "ports",
    "host",
    "pressure",
    "agent",
    "all",
];

fn collectors(name: &str) -> Vec<Box<dyn Collector>> {
    let one = |name: &str| -> Box<dyn Collector> {
        match name {
            "cpu" => Box::new(CpuCollector::new()),
            "memory" => Box::new(MemoryCollector::new()),
            "load" => Box::new(LoadCollector::new()),
            "disk" => Box::new(DiskCollector::new(DiskOptions::default())),
            "network" => Box::new(NetworkCollector::new(NetworkOptions::default())),
            "processes" => Box::new(ProcessesCollector::new(ProcessesOptions::default())),
            "ports" => Box::new(PortsCollector::new()),
            "host" => Box::new(HostCollector::new()),
            "pressure" => Box::new(PressureCollector::new()),
            _ => Box::new(AgentCollector::new(Box::new(Vec::new))),
        }
    };
    match name {
        "all" => NAMES[..10].iter().map(|name| one(name)).collect(),
        name => vec![one(name)],
    }
}

#[divan::bench(args = NAMES, min_time = 1)]
fn reading(bencher: Bencher<'_, '_>, name: &str) {
    let mut collectors = collectors(name);
    // A second passes between readings as the collectors see it, so that each has an interval.
    let mut now = Instant::now();
    let mut read = || {
        now += Duration::from_secs(1);
        let mut metrics =
            SystemMetrics::empty(SystemTime::UNIX_EPOCH, now, Duration::from_secs(1), 0);
        for collector in &mut collectors {
            collector.read(now, &mut metrics);
        }
        metrics
    };
    read();
    bencher.bench_local(|| black_box(read()));
}
