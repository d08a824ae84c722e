//! The same work in a plain loop: no task, no channel, no clock. What the pipeline costs is measured
//! against it, and what the pipeline delivered is compared with it.

use tokio::time::Instant;

use super::meter::Delivered;
use super::usage::{Usage, Used};
use crate::agent::stages;
use crate::config::PipelineFile;
use crate::metrics::synthetic::Generator;
use crate::model::{Batch, Frame, SystemMetrics};
use crate::pipeline::{Output, Transform};

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
