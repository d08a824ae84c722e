//! The same work in a plain loop: no task, no channel, no clock. What the pipeline costs is measured
//! against it, and what the pipeline delivered is compared with it.

use bytes::Bytes;
use tokio::time::Instant;

use super::BenchError;
use super::lines::{Input, pieces};
use super::meter::Delivered;
use super::usage::{Usage, Used};
use crate::agent::{record_stages, stages};
use crate::config::{PipelineFile, RecordsFile};
use crate::metrics::synthetic::Generator;
use crate::model::{Batch, Frame, Receipt, SystemMetrics};
use crate::pipeline::{MemoryBudget, Output, Transform};
use crate::records::Records;

/// What the loop made, and what it took.
pub(super) struct Plain {
    pub delivered: Delivered,
    pub used: Used,
}

/// Makes the first `readings` readings of `generator` and takes them through the stages of `file`.
pub(super) fn run(file: &PipelineFile, generator: Generator, readings: u64) -> Plain {
    let mut stages = stages(file, None);
    let mut generator = generator.take(readings);
    let (mut batches, mut frames) = (Output::<Batch>::default(), Output::<Frame>::default());
    let (mut here, mut next) =
        (Output::<SystemMetrics>::default(), Output::<SystemMetrics>::default());
    let mut delivered = Delivered::default();
    let before = Usage::now();
    let now = Instant::now();
    while let Some(reading) = generator.next(now) {
        here.push(reading);
        for enricher in &mut stages.enrichers {
            for reading in here.drain() {
                enricher.apply(now, &reading, &mut next);
            }
            std::mem::swap(&mut here, &mut next);
        }
        for reading in here.drain() {
            stages.batcher.apply(now, &reading, &mut batches);
        }
        for batch in batches.drain() {
            stages.serialize.apply(now, &batch, &mut frames);
        }
        frames.drain().for_each(|frame| delivered.add(&frame));
    }
    stages.batcher.finish(&mut batches);
    for batch in batches.drain() {
        stages.serialize.apply(now, &batch, &mut frames);
    }
    stages.serialize.finish(&mut frames);
    frames.drain().for_each(|frame| delivered.add(&frame));
    Plain { delivered, used: Usage::now().since(&before) }
}

/// Takes the first `lines` lines of `input` through the stages of `file`.
///
/// # Errors
/// The input cannot be read any more.
pub(super) fn records(file: &RecordsFile, input: &Input, lines: u64) -> Result<Plain, BenchError> {
    let mut stages = record_stages(file, &MemoryBudget::default())?;
    let (mut batches, mut frames) = (Output::<Records>::default(), Output::<Frame>::default());
    let mut delivered = Delivered::default();
    let (before, now, mut rest) = (Usage::now(), Instant::now(), lines);
    let decode = super::decode(file);
    let max_line = super::max_line(file);
    let mut take = |piece: &[u8], frames: &mut Output<Frame>| {
        let mut records = Records {
            bytes: Bytes::new(),
            ends: Vec::new(),
            too_long: 0,
            oldest: now,
            decode,
            receipt: Receipt::default(),
        };
        let mut bytes = Vec::with_capacity(piece.len());
        let mut start = 0;
        for newline in memchr::memchr_iter(b'\n', piece) {
            let line = &piece[start..newline + 1];
            start = newline + 1;
            if rest == 0 {
                break;
            }
            rest -= 1;
            if line.len() > max_line + 1 {
                records.too_long += 1;
                continue;
            }
            bytes.extend_from_slice(line);
            records.ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        records.bytes = bytes.into();
        stages.transform.apply(now, &records, &mut batches);
        if rest == 0 {
            stages.transform.finish(&mut batches);
        }
        batches.drain().for_each(|batch| stages.serialize.apply(now, &batch, frames));
        rest > 0
    };
    let run = pieces(&input.path, |piece| {
        let more = take(piece, &mut frames);
        frames.drain().for_each(|frame| delivered.add(&frame));
        Ok(more)
    });
    run.map_err(|error| BenchError::Read { path: input.path.clone(), error })?;
    Ok(Plain { delivered, used: Usage::now().since(&before) })
}
