//! The metrics flow: collect → enrich → batch → serialize → write.
//!
//! [`collect()`] and [`through`] are the flow as an expression; each step is a module of its own. This
//! module does not know files, devices or the runtime, nor who reads what it writes.

pub mod collect;
pub mod enrich;
pub mod batch;
pub mod serialize;

pub mod counter;
pub mod synthetic;
pub mod latest;

use crate::model::{Batch, Frame, SystemMetrics};
use crate::pipeline::tap::show_lines;
use crate::pipeline::{Context, EventCount, Identity, MemoryBudget, Pipeline, Segment, Source};
use crate::wire::Format;

/// Readings that wait between the sources and the stages; when it is full the sources wait.
pub const READINGS_WAITING: usize = 4;

/// The computing part of a flow.
pub struct Stages {
    /// What happens to a reading, in this order.
    pub enrichers: Vec<enrich::Enricher>,
    /// Gathers readings.
    pub batcher: batch::Batcher,
    /// Turns batches into bytes.
    pub serialize: serialize::Serialize,
}

impl Stages {
    /// Charges each frame to `memory_budget`.
    pub fn charging(mut self, memory_budget: &MemoryBudget) -> Self {
        self.serialize = self.serialize.charging(memory_budget);
        self
    }
}

/// The start of a flow: one task per source, all into one channel.
pub fn collect<S: Source<Out = SystemMetrics>>(
    context: &Context,
    sources: Vec<S>,
) -> Pipeline<Identity<SystemMetrics>> {
    Pipeline::from_sources(context, sources, READINGS_WAITING)
}

/// The middle of a flow: readings become frames, in one task. What is left to say is where they go:
/// [`write`](Pipeline::write) or [`publish`](Pipeline::publish).
pub fn through(
    readings: Pipeline<Identity<SystemMetrics>>,
    stages: Stages,
) -> Pipeline<impl Segment<In = SystemMetrics, Out = Frame>> {
    readings // SystemMetrics
        .then_each(stages.enrichers) // SystemMetrics  ┐
        .then(stages.batcher) // Batch                 │ fused: one task
        .then(stages.serialize) // Frame               ┘
}

impl EventCount for SystemMetrics {
    const IS_SHOWN: bool = true;

    /// As `json-lines` writes it; one that is too long for that is not shown.
    fn show(&self, line: &mut dyn FnMut(&[u8]) -> bool) {
        let mut text = Vec::new();
        if Format::JsonLines.encode(self, &mut text).is_ok() {
            show_lines(&text, line);
        }
    }
}

impl EventCount for Batch {
    const IS_SHOWN: bool = true;

    fn show(&self, line: &mut dyn FnMut(&[u8]) -> bool) {
        let mut goes_on = true;
        for reading in self.0.iter() {
            reading.show(&mut |text| {
                goes_on = line(text);
                goes_on
            });
            if !goes_on {
                return;
            }
        }
    }

    fn weight(&self) -> u64 {
        self.0.len() as u64
    }
}

impl EventCount for Frame {
    const IS_SHOWN: bool = true;

    fn lines(&self) -> u64 {
        memchr::memchr_iter(b'\n', &self.bytes).count() as u64
    }

    fn show(&self, line: &mut dyn FnMut(&[u8]) -> bool) {
        show_lines(&self.bytes, line);
    }

    fn weight(&self) -> u64 {
        u64::from(self.readings)
    }

    fn acknowledge(&self) {
        self.receipt.acknowledge();
    }
}
