//! The records flow: read → transform → serialize → write, for what others write: application logs, NDJSON, the journal.
//!
//! [`read()`] and [`through`] are the flow as an expression; each step is a module of its own. What travels is a batch of
//! [`Records`]: whole lines in one buffer. A record keeps its bytes until a stage must change it, and all stages between two
//! channels are one pass over it.

pub(crate) mod read;
pub(crate) mod batch;
pub(crate) mod buffers;
pub(crate) mod logfmt;
pub(crate) mod syslog;
pub(crate) mod transform;
pub(crate) mod serialize;

use crate::model::Frame;
use crate::pipeline::tap::show_lines;
use crate::pipeline::{Context, EventCount, Identity, Pipeline, Segment, Source};

pub use batch::Records;

/// Batches that wait between the sources and the stages; when it is full the sources wait.
pub(crate) const BATCHES_WAITING: usize = 2;

/// Frames that wait for the only output of a flow, at most; it holds as many more that it has taken. A frame is as long
/// as a batch, 256 KiB by default: when it is full the pass waits, and with it the sources.
pub(crate) const FRAMES_WAITING: usize = 4;

/// Frames that wait for a side file, the newest; each has the invalid lines of one batch.
pub(crate) const SIDE_FRAMES_WAITING: usize = 16;

/// The computing part of a flow.
pub struct Stages {
    /// Validates records, applies the transforms and gathers what is left.
    pub transform: transform::Pass,
    /// Turns batches into frames.
    pub serialize: serialize::Serialize,
}

/// The start of a flow: one task per source, all into one channel.
pub(crate) fn read<S: Source<Out = Records>>(
    context: &Context,
    sources: Vec<S>,
) -> Pipeline<Identity<Records>> {
    Pipeline::from_sources(context, sources, BATCHES_WAITING)
}

/// The middle of a flow: records become frames, in one task. What is left to say is where they go:
/// [`write`](Pipeline::write) or [`publish`](Pipeline::publish).
pub(crate) fn through(
    records: Pipeline<Identity<Records>>,
    stages: Stages,
) -> Pipeline<impl Segment<In = Records, Out = Frame>> {
    records // Records
        .then(stages.transform) // Records  ┐ fused: one task
        .then(stages.serialize) // Frame    ┘
}

impl EventCount for Records {
    const IS_SHOWN: bool = true;

    fn lines(&self) -> u64 {
        self.ends.len() as u64
    }

    fn show(&self, line: &mut dyn FnMut(&[u8]) -> bool) {
        show_lines(&self.bytes, line);
    }

    fn weight(&self) -> u64 {
        self.ends.len() as u64 + self.too_long
    }

    fn acknowledge(&self) {
        self.receipt.acknowledge();
    }
}

/// So many inputs for each property; `PROPTEST_CASES` sets another number, as for a run of an hour.
#[cfg(test)]
pub(crate) fn any_of(cases: u32) -> proptest::test_runner::Config {
    let config = proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => proptest::test_runner::Config { cases, ..config },
    }
}
