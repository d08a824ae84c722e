//! Gathers readings that may travel together. Does not look into them and does not encode them.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{Batch, SystemMetrics};
use crate::pipeline::{Output, Transform};

/// When a batch leaves. Whichever comes first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Readings in a batch; 0 counts as 1.
    pub max_items: usize,
    /// Bytes in a batch, as [`estimated_bytes`] has them. One reading above it goes alone.
    pub max_bytes: usize,
    /// Time that the oldest reading has been held.
    pub max_delay: Duration,
}

/// Gathers readings into batches, oldest first.
///
/// A batch leaves when it holds `max_items`; before a reading that would take it over `max_bytes`;
/// when its oldest reading has been held for `max_delay`; and when the input ends. So it never holds
/// more than one batch.
///
/// # Why the delay counts from arrival
/// Counted from the time a reading was taken, a backlog would arrive already due, and batches would
/// shrink to one reading just when they are needed most.
///
/// ```
/// use infiniservice::metrics::batch::{Batcher, Limits};
/// # use infiniservice::model::SystemMetrics;
/// # use infiniservice::pipeline::{Output, Transform};
/// # use std::time::{Duration, SystemTime};
/// # let now = tokio::time::Instant::now();
/// # let reading = SystemMetrics::empty(SystemTime::now(), now, Duration::ZERO, 0);
/// let second = Duration::from_secs(1);
/// let mut batcher = Batcher::new(Limits { max_items: 64, max_bytes: 32_768, max_delay: second });
/// let mut out = Output::default();
/// batcher.apply(now, &reading, &mut out);
/// assert_eq!(batcher.deadline(), Some(now + second));
/// batcher.expire(now + second, &mut out);
/// assert_eq!(out.drain().map(|batch| batch.0.len()).collect::<Vec<_>>(), [1]);
/// ```
#[derive(Debug)]
pub struct Batcher {
    limits: Limits,
    readings: Vec<SystemMetrics>,
    bytes: usize,
    opened: Option<Instant>,
}

impl Batcher {
    /// Holds nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, readings: Vec::new(), bytes: 0, opened: None }
    }

    fn leave(&mut self, out: &mut Output<Batch>) {
        if !self.readings.is_empty() {
            let room = Vec::with_capacity(self.readings.len());
            out.push(Batch(std::mem::replace(&mut self.readings, room)));
        }
        self.bytes = 0;
        self.opened = None;
    }
}

impl Transform for Batcher {
    type In = SystemMetrics;
    type Out = Batch;

    fn name(&self) -> String {
        "batch".to_owned()
    }

    fn detail(&self) -> String {
        let Limits { max_items, max_bytes, max_delay } = self.limits;
        let (kib, delay) = (max_bytes.div_ceil(1024), humantime::format_duration(max_delay));
        let items = match max_items {
            1 => "1 reading".to_owned(),
            _ => format!("at most {max_items} readings"),
        };
        format!("{items}, about {kib} KiB, {delay}")
    }

    fn apply(&mut self, now: Instant, input: &SystemMetrics, out: &mut Output<Batch>) {
        let bytes = estimated_bytes(input);
        if self.bytes + bytes > self.limits.max_bytes {
            self.leave(out);
        }
        self.readings.push(input.clone());
        self.bytes += bytes;
        self.opened.get_or_insert(now);
        if self.readings.len() >= self.limits.max_items || self.bytes >= self.limits.max_bytes {
            self.leave(out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.opened? + self.limits.max_delay)
    }

    fn expire(&mut self, now: Instant, out: &mut Output<Batch>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.leave(out);
        }
    }

    fn finish(&mut self, out: &mut Output<Batch>) {
        self.leave(out);
    }

    fn held(&self) -> u64 {
        self.readings.len() as u64
    }
}

/// About how long the reading's line for today's host will be, in bytes: within a factor of two for
/// the readings of a real machine (`tests/wire/bounds.rs` holds it to that), at a few nanoseconds for each
/// process or port in it. The constants are what an item of a real machine costs beside its names.
pub fn estimated_bytes(reading: &SystemMetrics) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let cores = reading.cpu.as_ref().map_or(0, |cpu| cpu.cores_usage_percent.len());
    let mounts = reading.disk.as_ref().map_or(0, |disk| disk.mounts.len());
    let interfaces = reading.network.as_ref().map_or(0, |network| network.interfaces.len());
    let processes: usize =
        reading.processes.iter().flat_map(|processes| processes.iter()).fold(0, |sum, one| {
            sum + 210 + one.name.len() + text(&one.executable) + text(&one.command_line)
        });
    let ports: usize = reading
        .ports
        .iter()
        .flat_map(|ports| ports.iter())
        .fold(0, |sum, one| sum + 130 + text(&one.process_name) + text(&one.executable));
    700 + cores * 6 + mounts * 110 + interfaces * 250 + processes + ports
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    const SECOND: Duration = Duration::from_secs(1);
    const NO_LIMIT: Limits = Limits { max_items: 100, max_bytes: usize::MAX, max_delay: SECOND };

    fn reading(sequence: u64) -> SystemMetrics {
        SystemMetrics::empty(SystemTime::UNIX_EPOCH, Instant::now(), SECOND, sequence)
    }

    fn sequences(out: &mut Output<Batch>) -> Vec<Vec<u64>> {
        out.drain().map(|batch| batch.0.iter().map(|reading| reading.sequence).collect()).collect()
    }

    #[test]
    fn a_batch_leaves_when_it_is_full_and_in_order() {
        let mut batcher = Batcher::new(Limits { max_items: 2, ..NO_LIMIT });
        let mut out = Output::default();
        for sequence in 0..5 {
            batcher.apply(Instant::now(), &reading(sequence), &mut out);
        }
        assert_eq!(sequences(&mut out), [[0, 1], [2, 3]]);
        assert_eq!(batcher.held(), 1);
        batcher.finish(&mut out);
        assert_eq!(sequences(&mut out), [[4]]);
        assert_eq!((batcher.held(), batcher.deadline()), (0, None));
    }

    #[test]
    fn a_batch_leaves_when_its_oldest_reading_was_held_for_a_second() {
        let mut batcher = Batcher::new(NO_LIMIT);
        let mut out = Output::default();
        let start = Instant::now();
        assert_eq!(batcher.deadline(), None);
        batcher.apply(start, &reading(0), &mut out);
        batcher.apply(start + SECOND / 2, &reading(1), &mut out);
        assert_eq!(batcher.deadline(), Some(start + SECOND));
        batcher.expire(start + SECOND - Duration::from_nanos(1), &mut out);
        assert_eq!(sequences(&mut out), [] as [Vec<u64>; 0]);
        batcher.expire(start + SECOND, &mut out);
        assert_eq!(sequences(&mut out), [[0, 1]]);
        assert_eq!(batcher.deadline(), None);
    }

    #[test]
    fn a_reading_that_would_go_over_the_bytes_begins_the_next_batch() {
        let each = estimated_bytes(&reading(0));
        let mut batcher = Batcher::new(Limits { max_bytes: each * 5 / 2, ..NO_LIMIT });
        let mut out = Output::default();
        let start = Instant::now();
        for sequence in 0..3 {
            batcher.apply(start + SECOND * sequence, &reading(sequence.into()), &mut out);
        }
        assert_eq!(sequences(&mut out), [[0, 1]]);
        // The age is that of the reading that is held, not of those that left.
        assert_eq!(batcher.deadline(), Some(start + SECOND * 3));
    }

    #[test]
    fn a_reading_above_every_limit_goes_alone() {
        let mut batcher = Batcher::new(Limits { max_items: 0, max_bytes: 0, ..NO_LIMIT });
        let mut out = Output::default();
        batcher.apply(Instant::now(), &reading(0), &mut out);
        batcher.apply(Instant::now(), &reading(1), &mut out);
        assert_eq!(sequences(&mut out), [[0], [1]]);
        batcher.finish(&mut out);
        assert_eq!(sequences(&mut out), [] as [Vec<u64>; 0], "a batch is never empty");
    }
}
