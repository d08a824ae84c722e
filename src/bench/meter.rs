//! What was delivered: counted behind the sink, from the bytes that were written. Knows nothing of what
//! was made.

use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::model::Frame;
use crate::pipeline::{Sink, StageError};
use crate::sync::IgnorePoison;

/// The largest latency that is told apart, in microseconds: an hour.
const LATENCY_MAX: u64 = 3_600_000_000;

/// Counts frames as they are written. A copy counts into the same.
#[derive(Clone, Default)]
pub(super) struct Meter(Arc<Mutex<Delivered>>);

/// What was written so far.
pub(super) struct Delivered {
    pub readings: u64,
    pub bytes: u64,
    pub lines: u64,
    /// CRC-32 of all bytes in their order; it does not depend on how they were cut into frames.
    pub checksum: crc32fast::Hasher,
    /// From made to written, of the oldest reading in each frame, in microseconds.
    pub latency: Histogram<u64>,
}

impl Default for Delivered {
    fn default() -> Self {
        Self {
            readings: 0,
            bytes: 0,
            lines: 0,
            checksum: crc32fast::Hasher::new(),
            latency: latency(),
        }
    }
}

impl Delivered {
    /// Counts one frame.
    pub(super) fn add(&mut self, frame: &Frame) {
        self.readings += u64::from(frame.readings);
        self.bytes += frame.bytes.len() as u64;
        self.lines += memchr::memchr_iter(b'\n', &frame.bytes).count() as u64;
        self.checksum.update(&frame.bytes);
    }
}

impl Meter {
    /// Counts a frame whose last byte was accepted at `now`.
    pub(super) fn written(&self, frame: &Frame, now: Instant) {
        let mut delivered = self.0.lock().ignore_poison();
        delivered.add(frame);
        let latency = now.saturating_duration_since(frame.oldest).as_micros();
        delivered.latency.saturating_record(u64::try_from(latency).unwrap_or(LATENCY_MAX));
    }

    /// Readings that were written so far.
    pub(super) fn readings(&self) -> u64 {
        self.0.lock().ignore_poison().readings
    }

    /// What was counted.
    pub(super) fn take(&self) -> Delivered {
        std::mem::take(&mut *self.0.lock().ignore_poison())
    }
}

/// A sink whose writes are counted.
pub(super) struct Metered<K> {
    sink: K,
    meter: Meter,
}

impl<K> Metered<K> {
    pub(super) fn new(sink: K, meter: Meter) -> Self {
        Self { sink, meter }
    }
}

impl<K: Sink<In = Frame>> Sink for Metered<K> {
    type In = Frame;

    fn name(&self) -> String {
        self.sink.name()
    }
    fn detail(&self) -> String {
        self.sink.detail()
    }
    fn hands_on(&self) -> bool {
        self.sink.hands_on()
    }
    async fn write(&mut self, frame: &Frame) -> Result<(), StageError> {
        self.sink.write(frame).await?;
        self.meter.written(frame, Instant::now());
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), StageError> {
        self.sink.flush().await
    }
}

/// Two digits are enough to tell latencies apart, and keep the table small.
fn latency() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX, 2).unwrap_or_else(|_| {
        unreachable!("the bounds are constants that the histogram's documentation allows")
    })
}
