//! The output to NATS JetStream: each line a message, acknowledged by the stream before the guest is.
//!
//! # Order and repetition
//! Of a guest one line is on its way at a time, so that its lines are stored in their order whatever is lost with a
//! connection; many guests' lines are on their way at once. A line whose acknowledgement does not come is published again
//! under the same [message id](super::message_id), by which the stream knows it.
//!
//! Lines are taken off the queue when the ones before are stored, so that a line waits for those that are on its way, and for
//! no others of guests that send more.
//!
//! # When NATS is away
//! The same lines are published again, after a pause. The rest waits in the queue, each guest in its share, and behind
//! that in the guests. A connection that failed is given up with all that its client holds.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info};
use async_nats::jetstream::{self, Context, ErrorCode};
use async_stream::stream;
use futures::Stream;
use futures::future::join_all;

use super::connection::{Connection, MESSAGES_MAX};
use super::fair_queue::{FairQueue, GuestLine, Limits};
use super::fleet::Count;
use super::outputs::{WAITING, Wrap};
use super::subject;
use crate::config;
use crate::pipeline::{self, EventCount, Graph, Pipeline, Sink, Source, StageError};

/// Lines that are on their way at once: one of each guest.
const LIMITS: Limits = Limits { lines: MESSAGES_MAX, bytes: 1 << 20, is_one_each: true };

/// Has the lines of a queue published as `settings` say.
pub(super) fn publish(
    context: &pipeline::Context,
    settings: config::Nats,
    site: &Arc<str>,
    queue: &Arc<FairQueue>,
) -> Graph {
    let nats = Nats::new(settings, Arc::clone(site), Arc::clone(queue));
    Pipeline::from_sources(context, [QueueWatch(Arc::clone(queue))], 1).write(nats, WAITING)
}

/// Lines wait in the queue. They are taken by the sink when it is free, and not before: lines that were taken early would be in
/// front of all that come meanwhile, also of guests that send little.
#[derive(Debug)]
struct LinesWait;

impl EventCount for LinesWait {}

/// Says that lines wait, as long as they do.
struct QueueWatch(Arc<FairQueue>);

impl Source for QueueWatch {
    type Out = LinesWait;

    fn open(&mut self) -> impl Stream<Item = Result<LinesWait, StageError>> + Send + '_ {
        stream! {
            while self.0.waits().await {
                yield Ok(LinesWait);
            }
        }
    }
}

/// Publishes the lines of a queue, and waits until the stream has them.
struct Nats {
    settings: config::Nats,
    site: Arc<str>,
    wrap: Wrap,
    queue: Arc<FairQueue>,
    connection: Option<Connection>,
    /// Taken, and not known to be stored.
    lines: Vec<GuestLine>,
}

impl Nats {
    /// Is not connected yet.
    fn new(settings: config::Nats, site: Arc<str>, queue: Arc<FairQueue>) -> Self {
        let wrap = Wrap::new(&site);
        Self { settings, site, wrap, queue, connection: None, lines: Vec::new() }
    }

    /// Takes the connection, or makes one.
    async fn connected(&mut self) -> Result<Connection, StageError> {
        match self.connection.take() {
            Some(connection) if !connection.lost.is_cancelled() => Ok(connection),
            _ => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<Connection, StageError> {
        let name = format!("infiniservice-host relay of {}", self.site);
        let connection = Connection::open(&self.settings, name).await?;
        let settings = &self.settings;
        let stream = connection
            .jetstream
            .get_or_create_stream(Config {
                name: settings.stream.clone(),
                description: Some("lines of guests, of infiniservice-host relay".to_owned()),
                subjects: subject::of_lines().into(),
                max_bytes: i64::try_from(settings.max_size.bytes()).unwrap_or(i64::MAX),
                max_age: settings.max_age.get(),
                duplicate_window: settings.duplicates.get(),
                discard: DiscardPolicy::Old,
                ..Config::default()
            })
            .await
            .map_err(|error| {
                let name = &settings.stream;
                StageError::outside(format_args!("there is no stream {name:?} at NATS: {error}"))
            })?;
        check_stream(stream.cached_info(), settings.duplicates.get())?;
        Ok(connection)
    }

    /// Publishes all lines and waits for all; an error where one is not known to be stored.
    async fn publish(
        &self,
        connection: &Connection,
        lines: &[GuestLine],
    ) -> Result<(), StageError> {
        let sends = lines.iter().map(|line| self.send(&connection.jetstream, line));
        // In order, as they are taken by the client: nothing is awaited there but room.
        let mut answers = Vec::with_capacity(lines.len());
        for send in sends {
            answers.push(send.await?);
        }
        let answered = answers.into_iter().zip(lines).map(async |(answer, line)| {
            let Some(answer) = answer else { return Ok(()) };
            match answer.await {
                Ok(answer) if answer.stream == self.settings.stream => Ok(()),
                Ok(answer) => Err(StageError::outside(format_args!(
                    "another stream of NATS, {:?}, has the subjects of the lines; name it in [nats]",
                    answer.stream
                ))),
                Err(error) if is_too_large(&error) => {
                    line.guest.count(Count::TooLarge);
                    Ok(())
                }
                Err(error) => Err(unpublished(&error)),
            }
        });
        // All are waited for, also where one has failed: what is stored need not be said again by a later connection.
        join_all(answered).await.into_iter().collect()
    }

    /// Hands a line to the client; `None` where no server takes it.
    async fn send(
        &self,
        jetstream: &Context,
        line: &GuestLine,
    ) -> Result<Option<jetstream::context::PublishAckFuture>, StageError> {
        let subject = subject::of_line(&self.site, &line.guest.vm, line.kind);
        let message = PublishMessage::build()
            .payload(self.wrap.object(&line.guest.vm, line.at, line.kind, &line.bytes).into())
            .message_id(line.id.to_string());
        match jetstream.send_publish(subject, message).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if is_too_large(&error) => {
                line.guest.count(Count::TooLarge);
                Ok(None)
            }
            Err(error) => Err(unpublished(&error)),
        }
    }
}

impl Sink for Nats {
    type In = LinesWait;

    fn detail(&self) -> String {
        format!("{}, stream {}", self.settings.servers.join(" "), self.settings.stream)
    }

    async fn write(&mut self, _: &LinesWait) -> Result<(), StageError> {
        let connection = self.connected().await?;
        if self.lines.is_empty() {
            self.lines = self.queue.take_now(LIMITS);
        }
        tokio::select! {
            biased;
            published = self.publish(&connection, &self.lines) => published?,
            () = connection.lost.cancelled() => {
                return Err(StageError::outside("the connection to NATS has ended"));
            }
        }
        self.connection = Some(connection);
        self.lines.drain(..).for_each(|line| line.receipt.acknowledge());
        Ok(())
    }

    /// Connects at the start, and not only when a line comes: the log says early what is wrong.
    async fn flush(&mut self) -> Result<(), StageError> {
        self.connection = Some(self.connected().await?);
        Ok(())
    }
}

/// Says what the stream holds and for how long, and refuses one that would not do.
fn check_stream(info: &Info, duplicates: Duration) -> Result<(), StageError> {
    let Config {
        name, subjects, max_bytes, max_messages, max_age, duplicate_window, no_ack, ..
    } = &info.config;
    if *no_ack {
        return Err(StageError::outside(format_args!(
            "the stream {name:?} of NATS acknowledges nothing; take no_ack off it"
        )));
    }
    // A line that is said again after that would be taken for the same.
    if *duplicate_window > duplicates {
        return Err(StageError::outside(format_args!(
            "the stream {name:?} of NATS knows message ids for {duplicate_window:?}; set duplicates in [nats] to that"
        )));
    }
    tracing::info!(
        stream = name,
        ?subjects,
        max_bytes,
        max_messages,
        ?max_age,
        duplicates = ?duplicate_window,
        "lines go to a stream of NATS"
    );
    Ok(())
}

/// Whether neither this server nor this stream will ever take the message.
fn is_too_large(error: &PublishError) -> bool {
    let refused = || {
        let source = std::error::Error::source(error);
        let code = source?.downcast_ref::<jetstream::Error>()?.error_code();
        Some(code == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)
    };
    error.kind() == PublishErrorKind::MaxPayloadExceeded || refused() == Some(true)
}

fn unpublished(error: &PublishError) -> StageError {
    StageError::outside(format_args!("NATS has not stored a line: {error}"))
}
