//! The outputs of a relay: the lines of all guests, taken in turns, each in an object that says whose it is; and the page that
//! Prometheus reads.

use std::sync::Arc;
use std::time::SystemTime;

use async_stream::stream;
use bytes::Bytes;
use futures::{FutureExt, Stream};
use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};

use super::error::RelayError;
use super::fair_queue::{FairQueue, Limits, Line};
use super::fleet::{Fleet, Kind};
use super::metrics;
use super::nats::Nats;
use super::otlp::{self, Otlp};
use crate::model::{Frame, Iso8601, Receipt};
use crate::pipeline::{
    BoxSink, Context, EventCount, Graph, Output, Pipeline, Source, StageError, Transform,
};
use crate::sinks::{Listen, PrometheusServer};

/// Lines and bytes that are written as one.
const FRAME_LINES_MAX: usize = 256;
const FRAME_BYTES_MAX: usize = 64 << 10;
/// Frames that wait for the sink: the rest stays in the queues, where each guest has its own share.
const FRAMES_WAITING: usize = 1;
/// How long a page is served again, so that several scrapers cost one.
const PAGE_AGE_MAX: Duration = Duration::from_millis(500);

/// Takes lines off a queue in turns, wraps them and writes them.
pub(super) fn write(
    context: &Context,
    queue: &Arc<FairQueue>,
    site: &str,
    sink: BoxSink<Frame>,
) -> Graph {
    let limits = Limits { lines: FRAME_LINES_MAX, bytes: FRAME_BYTES_MAX, is_one_each: false };
    Pipeline::from_sources(context, [Turns { queue: Arc::clone(queue), limits }], 1)
        .then(Wrap::new(site))
        .write(sink, FRAMES_WAITING)
}

/// Has the lines of a queue published.
pub(super) fn publish(context: &Context, queue: &Arc<FairQueue>, nats: Nats) -> Graph {
    Pipeline::from_sources(context, [Waiting(Arc::clone(queue))], 1).write(nats, FRAMES_WAITING)
}

/// Lines wait in a queue. They are taken by the sink when it is free, and not before: lines that were taken early would be in
/// front of all that come meanwhile, also of guests that send little.
#[derive(Debug)]
pub(super) struct LinesWait;

impl EventCount for LinesWait {}

/// Says that lines wait, as long as they do.
struct Waiting(Arc<FairQueue>);

impl Source for Waiting {
    type Out = LinesWait;

    fn open(&mut self) -> impl Stream<Item = Result<LinesWait, StageError>> + Send + '_ {
        stream! {
            while self.0.waits().await {
                yield Ok(LinesWait);
            }
        }
    }
}

/// Takes lines off a queue in turns, and sends them to a receiver of OTLP.
pub(super) fn send(context: &Context, queue: &Arc<FairQueue>, otlp: Otlp) -> Graph {
    let limits = Limits { lines: otlp::LINES_MAX, bytes: otlp::BYTES_MAX, is_one_each: false };
    Pipeline::from_sources(context, [Turns { queue: Arc::clone(queue), limits }], 1)
        .write(otlp, FRAMES_WAITING)
}

/// Lines of several guests that are written as one.
#[derive(Debug)]
pub(super) struct Turn(Vec<Line>);

impl Turn {
    /// Its lines, those of a guest in their order.
    pub(super) fn lines(&self) -> &[Line] {
        &self.0
    }
}

impl EventCount for Turn {
    fn weight(&self) -> u64 {
        self.0.len() as u64
    }

    fn acknowledge(&self) {
        self.0.iter().for_each(|line| line.receipt.acknowledge());
    }
}

/// Takes what waits in a queue, a line of each guest in turn.
struct Turns {
    queue: Arc<FairQueue>,
    limits: Limits,
}

impl Source for Turns {
    type Out = Turn;

    fn open(&mut self) -> impl Stream<Item = Result<Turn, StageError>> + Send + '_ {
        stream! {
            while let Some(lines) = self.queue.take(self.limits).await {
                yield Ok(Turn(lines));
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
    type In = Turn;
    type Out = Frame;

    fn apply(&mut self, now: Instant, turn: &Turn, out: &mut Output<Frame>) {
        let size = turn.0.iter().map(|line| line.bytes.len() + self.site.len() + 160).sum();
        let mut bytes = Vec::with_capacity(size);
        for line in &turn.0 {
            self.wrap(&line.guest.vm, line.at, line.kind, &line.bytes, &mut bytes);
            bytes.push(b'\n');
        }
        let receipt = Receipt::merge(turn.0.iter().map(|line| line.receipt.clone()));
        out.push(Frame { receipt, ..Frame::new(bytes, turn.0.len() as u32, now) });
    }
}

impl Wrap {
    /// For lines of guests at `site`.
    pub(super) fn new(site: &str) -> Self {
        Self { site: quoted(site) }
    }

    /// The object of one line.
    pub(super) fn object(&self, vm: &str, at: SystemTime, kind: Kind, line: &[u8]) -> Vec<u8> {
        let mut object = Vec::with_capacity(line.len() + self.site.len() + 160);
        self.wrap(vm, at, kind, line, &mut object);
        object
    }

    fn wrap(&self, vm: &str, at: SystemTime, kind: Kind, line: &[u8], out: &mut Vec<u8>) {
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

/// Serves the metrics of all guests until the returned value is dropped.
///
/// # Errors
/// It cannot listen there.
pub(super) async fn serve(fleet: &Arc<Fleet>, at: &Listen) -> Result<PrometheusServer, RelayError> {
    let (fleet, newest) = (Arc::clone(fleet), Arc::new(Mutex::new(None::<(Instant, Bytes)>)));
    let body = move || {
        let (fleet, newest) = (Arc::clone(&fleet), Arc::clone(&newest));
        async move {
            let mut newest = newest.lock().await;
            match &*newest {
                Some((at, page)) if at.elapsed() < PAGE_AGE_MAX => page.clone(),
                _ => {
                    // A thousand guests are some megabytes.
                    let page = tokio::task::spawn_blocking(move || metrics::render(&fleet)).await;
                    let page = Bytes::from(page.unwrap_or_default());
                    *newest = Some((Instant::now(), page.clone()));
                    page
                }
            }
        }
        .boxed()
    };
    PrometheusServer::start(at.clone(), Arc::new(body))
        .await
        .map_err(|error| RelayError::Metrics { at: at.clone(), error })
}
