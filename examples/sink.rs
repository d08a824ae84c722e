//! A sink of one's own behind the stages that make frames: `cargo run --example sink`.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use infiniservice::metrics::synthetic::Generator;
use infiniservice::prelude::*;

/// Counts lines; refuses its third write once, as a peer that is away for a moment would.
struct CountLines {
    writes: usize,
    lines: Arc<AtomicUsize>,
}

impl Sink for CountLines {
    type In = Frame;

    /// An error leaves the frame with the task, which offers it again after a pause.
    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        self.writes += 1;
        if self.writes == 3 {
            return Err(StageError::outside("the peer is away"));
        }
        let lines = frame.bytes.iter().filter(|byte| **byte == b'\n').count();
        println!("{} bytes, {lines} lines", frame.bytes.len());
        self.lines.fetch_add(lines, Relaxed);
        Ok(())
    }
}

/// Runs forty readings into the sink.
#[tokio::main(flavor = "current_thread")]
pub async fn main() {
    let (stats, stop) = (StatsRegistry::default(), CancellationToken::new());
    let lines = Arc::<AtomicUsize>::default();
    let readings = Generator::new(&[Group::Cpu, Group::Memory], 0, 1).take(40);
    let limits = Limits { max_items: 8, max_bytes: 32 << 10, max_delay: Duration::from_secs(1) };
    let outcome = Pipeline::from_sources(&Context::new("example", &stats, &stop), [readings], 4)
        .then(Batcher::new(limits))
        .then(Serialize::new(Format::JsonLines))
        .write(CountLines { writes: 0, lines: Arc::clone(&lines) }, 2)
        .run(&Restart::default(), &stop, Duration::from_secs(5))
        .await;
    assert_eq!(outcome, Outcome { end: ExitStatus::Done, drained: true });
    assert_eq!(lines.load(Relaxed), 40, "the refused frame came again");
    let counts = stats.counts();
    assert!(counts.iter().any(|node| node.node == "example/count_lines" && node.failed == 1));
}
