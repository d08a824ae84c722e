//! Turns batches of records into frames. What a record looks like is the format's.

use tokio::time::Instant;

use crate::metrics::serialize::MAX_FRAME;
use crate::model::Frame;
use crate::pipeline::{Output, Transform};
use crate::records::Records;

/// How a record is written: the words that `format = "…"` takes in a records file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The record as it is, one JSON object per line.
    #[default]
    JsonLines,
}

impl Format {
    /// The word that stands for it in files and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "json-lines",
        }
    }
}

/// Cuts batches into frames of whole lines. The bytes are not copied.
#[derive(Debug)]
pub struct Serialize {
    format: Format,
    max_frame: usize,
}

impl Serialize {
    /// Writes in `format`, a frame for each batch.
    pub fn new(format: Format) -> Self {
        Self { format, max_frame: usize::MAX }
    }

    /// Cuts frames of at most [`MAX_FRAME`] bytes, unless one line alone is longer: for ports.
    #[must_use]
    pub fn for_ports(self) -> Self {
        Self { max_frame: MAX_FRAME, ..self }
    }
}

impl Transform for Serialize {
    type In = Records;
    type Out = Frame;

    fn detail(&self) -> String {
        self.format.name().to_owned()
    }

    fn apply(&mut self, _now: Instant, input: &Records, out: &mut Output<Frame>) {
        let (mut start, mut first) = (0, 0);
        while first < input.ends.len() {
            let limit = start + self.max_frame.min(input.bytes.len());
            let fit = input.ends[first..].partition_point(|end| *end as usize <= limit).max(1);
            let end = input.ends[first + fit - 1] as usize;
            let bytes = input.bytes.slice(start..end);
            let readings = u32::try_from(fit).unwrap_or(u32::MAX);
            let mut frame = Frame::new(bytes, readings, input.oldest);
            if first + fit == input.ends.len() {
                frame.receipt = input.receipt.clone();
            }
            out.push(frame);
            (start, first) = (end, first + fit);
        }
    }
}
