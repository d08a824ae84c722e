//! The outputs of a relay: the lines of all guests, taken in turns, each in an object that says whose it is.

use std::sync::Arc;
use std::time::SystemTime;

use async_stream::stream;
use futures::Stream;
use tokio::time::Instant;

use super::fair_queue::{FairQueue, GuestLine, Limits};
use super::fleet::LineKind;
use crate::model::{Frame, Iso8601, Receipt};
use crate::pipeline::{
    BoxSink, Context, EventCount, Graph, Output, Pipeline, Source, StageError, Transform,
};

/// Lines and bytes that are written as one.
const FRAME_LINES_MAX: usize = 256;
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Frames, or turns, that wait for a sink: the rest stays in the queues, where each guest has its own share.
pub(super) const WAITING: usize = 1;

/// Takes lines off a queue in turns, wraps them and writes them.
pub(super) fn write(
    context: &Context,
    queue: &Arc<FairQueue>,
    site: &str,
    sink: BoxSink<Frame>,
) -> Graph {
    let limits = Limits { lines: FRAME_LINES_MAX, bytes: FRAME_BYTES_MAX, is_one_each: false };
    Pipeline::from_sources(context, [FairLines { queue: Arc::clone(queue), limits }], 1)
        .then(Wrap::new(site))
        .write(sink, WAITING)
}

/// Lines of several guests that are written as one.
#[derive(Debug)]
pub(super) struct LineBatch(Vec<GuestLine>);

impl LineBatch {
    /// Its lines, those of a guest in their order.
    pub(super) fn lines(&self) -> &[GuestLine] {
        &self.0
    }
}

impl EventCount for LineBatch {
    fn weight(&self) -> u64 {
        self.0.len() as u64
    }

    fn acknowledge(&self) {
        self.0.iter().for_each(|line| line.receipt.acknowledge());
    }
}

/// Takes what waits in a queue, a line of each guest in turn.
pub(super) struct FairLines {
    pub queue: Arc<FairQueue>,
    pub limits: Limits,
}

impl Source for FairLines {
    type Out = LineBatch;

    fn open(&mut self) -> impl Stream<Item = Result<LineBatch, StageError>> + Send + '_ {
        stream! {
            while let Some(lines) = self.queue.take(self.limits).await {
                yield Ok(LineBatch(lines));
            }
        }
    }
}

/// Puts each line into an object of its own: `{"site":…,"vm":…,"received":…,"kind":…,"line":…}`. A guest can write nothing
/// beside its line, so it cannot pass for another.
pub(super) struct Wrap {
    /// As JSON.
    site: String,
}

impl Transform for Wrap {
    type In = LineBatch;
    type Out = Frame;

    fn apply(&mut self, now: Instant, batch: &LineBatch, out: &mut Output<Frame>) {
        let size = batch.0.iter().map(|line| line.bytes.len() + self.site.len() + 160).sum();
        let mut bytes = Vec::with_capacity(size);
        for line in &batch.0 {
            self.wrap(&line.guest.vm, line.at, line.kind, &line.bytes, &mut bytes);
            bytes.push(b'\n');
        }
        let receipt = Receipt::merge(batch.0.iter().map(|line| line.receipt.clone()));
        out.push(Frame { receipt, ..Frame::new(bytes, batch.0.len() as u32, now) });
    }
}

impl Wrap {
    /// For lines of guests at `site`.
    pub(super) fn new(site: &str) -> Self {
        Self { site: quoted(site) }
    }

    /// The object of one line.
    pub(super) fn object(&self, vm: &str, at: SystemTime, kind: LineKind, line: &[u8]) -> Vec<u8> {
        let mut object = Vec::with_capacity(line.len() + self.site.len() + 160);
        self.wrap(vm, at, kind, line, &mut object);
        object
    }

    fn wrap(&self, vm: &str, at: SystemTime, kind: LineKind, line: &[u8], out: &mut Vec<u8>) {
        let (vm, received) = (quoted(vm), Iso8601::new(at));
        let (site, kind, received) = (&self.site, kind.word(), received.as_str());
        let head = format!(
            "{{\"site\":{site},\"vm\":{vm},\"received\":\"{received}\",\"kind\":\"{kind}\",\"line\":"
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(line);
        out.push(b'}');
    }
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
