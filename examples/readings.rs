//! The readings of this machine as a stream, without a pipeline: `cargo run --example readings`.
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use infiniservice::prelude::*;

/// Reads processor and memory every 50 ms, three times.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let collectors: Vec<Box<dyn Collector>> =
        vec![Box::new(CpuCollector::new()), Box::new(MemoryCollector::new())];
    let mut readings = pin!(readings(Duration::from_millis(50), collectors).take(3));
    let mut sequence = 0;
    while let Some(reading) = readings.next().await {
        // A group that could not be read is absent, and `troubles` says why.
        assert!(reading.troubles.is_empty(), "{:?}", reading.troubles);
        assert_eq!(reading.sequence, sequence);
        sequence += 1;
        if let (Some(cpu), Some(memory)) = (&reading.cpu, &reading.memory) {
            let mib = memory.total_bytes >> 20;
            println!("#{}: processor {:.1} %, {mib} MiB", reading.sequence, cpu.usage_percent);
            assert!((0.0..=100.0).contains(&cpu.usage_percent) && mib > 0);
        }
    }
    assert_eq!(sequence, 3);
}
