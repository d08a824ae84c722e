//! The output to a receiver of OTLP over HTTP (OpenTelemetry Protocol 1.5, "OTLP/HTTP"): readings as metrics, all other lines as
//! log records, in protobuf and gzip.
//!
//! # Order and repetition
//! One request is on its way at a time. A guest is acknowledged when the receiver has answered 2xx; whatever else happens the
//! same lines are sent again, after the pause that the receiver asks for or the pipeline makes, so that a receiver may get a
//! line twice. It knows it by its attribute `log.record.uid`.
//!
//! # What is not sent again
//! What the receiver says that it will never take: a request that it calls bad (400, 422), a line that is too large alone
//! (413), and what it has rejected of a request that it took (`partial_success`). All of it is counted.

mod client;
mod request;

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message;
use tokio::time::{Instant, sleep_until};

use super::fair_queue::{FairQueue, GuestLine, Limits};
use super::fleet::{Count, Fleet};
use super::outputs::{FairLines, LineBatch, WAITING};
use crate::config;
use crate::pipeline::{Context, Graph, Pipeline, Sink, StageError};
use client::{Answer, Client};

/// Lines of a request, and their bytes: those, or one longer line.
const LINES_MAX: usize = 512;
/// See [`LINES_MAX`].
const BYTES_MAX: usize = 1 << 20;
/// The longest pause that a receiver may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How long a write waits for the end of a pause, before it says that there is one.
const WAIT: Duration = Duration::from_secs(5);

/// Takes lines off a queue in turns, and sends them as `settings` say.
pub(super) fn send(
    context: &Context,
    settings: config::Otlp,
    fleet: &Arc<Fleet>,
    queue: &Arc<FairQueue>,
) -> Graph {
    let limits = Limits { lines: LINES_MAX, bytes: BYTES_MAX, is_one_each: false };
    let lines = FairLines { queue: Arc::clone(queue), limits };
    let otlp = Otlp::new(settings, Arc::clone(fleet));
    Pipeline::from_sources(context, [lines], 1).write(otlp, WAITING)
}

/// Sends lines, and waits until the receiver has them.
struct Otlp {
    client: Client,
    fleet: Arc<Fleet>,
    /// The receiver wants to be left alone until then.
    paused: Option<Instant>,
    /// The receiver has taken the log records of the lines that come next.
    has_logs: bool,
}

/// What of lines is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Logs,
    Metrics,
}

impl Signal {
    const fn path(self) -> &'static str {
        match self {
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// The word that stands for it in labels.
    const fn word(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Metrics => "metrics",
        }
    }

    /// The message of `lines`.
    fn message(self, site: &str, lines: &[GuestLine]) -> request::Message {
        match self {
            Self::Logs => request::logs(site, lines),
            Self::Metrics => request::metrics(site, lines),
        }
    }

    /// What the receiver has rejected of a request that it took, and why.
    fn rejected(self, answer: &[u8]) -> Option<(u64, String)> {
        let (count, why) = match self {
            Self::Logs => {
                let partial = ExportLogsServiceResponse::decode(answer).ok()?.partial_success?;
                (partial.rejected_log_records, partial.error_message)
            }
            Self::Metrics => {
                let partial = ExportMetricsServiceResponse::decode(answer).ok()?.partial_success?;
                (partial.rejected_data_points, partial.error_message)
            }
        };
        Some((u64::try_from(count).unwrap_or_default(), why))
    }
}

impl Otlp {
    /// Is not connected yet.
    fn new(settings: config::Otlp, fleet: Arc<Fleet>) -> Self {
        Self { client: Client::new(settings), fleet, paused: None, has_logs: false }
    }

    /// Sends what of `lines` is of this signal; halves what is too large.
    async fn send(&mut self, signal: Signal, lines: &[GuestLine]) -> Result<(), StageError> {
        let mut left = vec![lines];
        while let Some(lines) = left.pop() {
            let message = signal.message(&self.fleet.site, lines);
            if message.items > 0 {
                let body = compressed(&message.bytes).map_err(StageError::new)?;
                let said = self.client.post(signal.path(), body).await;
                let said =
                    said.map_err(|error| StageError::outside(format_args!("OTLP: {error}")))?;
                match said.status {
                    status if status.is_success() => self.taken(signal, &said.body),
                    StatusCode::PAYLOAD_TOO_LARGE if lines.len() > 1 => {
                        let (first, second) = lines.split_at(lines.len() / 2);
                        left.extend([second, first]);
                        continue;
                    }
                    StatusCode::BAD_REQUEST
                    | StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::UNPROCESSABLE_ENTITY => {
                        self.reject(signal, message.items, said.status.as_str());
                    }
                    _ => return Err(self.refused(&said)),
                }
            }
            message.unreadable.iter().for_each(|guest| guest.count(Count::Unreadable));
        }
        Ok(())
    }

    fn taken(&self, signal: Signal, answer: &[u8]) {
        if let Some((count @ 1.., why)) = signal.rejected(answer) {
            self.reject(signal, count, &why);
        }
    }

    fn reject(&self, signal: Signal, count: u64, why: &str) {
        let why: String = crate::wire::plain(why).chars().take(200).collect();
        tracing::debug!(signal = signal.word(), count, why, "an OTLP receiver has rejected some");
        if self.fleet.rejected.add(signal.word(), count) == 0 {
            let signal = signal.word();
            tracing::warn!(
                signal,
                count,
                why,
                "an OTLP receiver does not take all; /metrics counts it"
            );
        }
    }

    /// The receiver does not take anything now.
    fn refused(&mut self, said: &Answer) -> StageError {
        if let Some(pause) = said.retry_after {
            self.paused = Some(Instant::now() + pause.min(PAUSE_MAX));
        }
        let help = match said.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; check token in [otlp]",
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "; check endpoint in [otlp]",
            _ => "",
        };
        StageError::outside(format_args!("the OTLP receiver answers {}{help}", said.status))
    }

    /// Waits for the end of a pause.
    async fn rest(&mut self) -> Result<(), StageError> {
        if let Some(until) = self.paused {
            sleep_until(until.min(Instant::now() + WAIT)).await;
            if Instant::now() < until {
                return Err(StageError::outside("the OTLP receiver has asked for a pause"));
            }
            self.paused = None;
        }
        Ok(())
    }
}

impl Sink for Otlp {
    type In = LineBatch;

    fn detail(&self) -> String {
        self.client.endpoint().to_string()
    }

    async fn write(&mut self, batch: &LineBatch) -> Result<(), StageError> {
        self.rest().await?;
        // What is offered again after an error is the same batch.
        if !self.has_logs {
            self.send(Signal::Logs, batch.lines()).await?;
            self.has_logs = true;
        }
        self.send(Signal::Metrics, batch.lines()).await?;
        self.has_logs = false;
        Ok(())
    }
}

fn compressed(message: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message)?;
    Ok(encoder.finish()?.into())
}
