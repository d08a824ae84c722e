//! Receives commands: one subscription for all guests of the site, over a connection of its own, which lines do not delay.

use std::sync::Arc;

use async_nats::Subject;
use async_stream::try_stream;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::claim;
use crate::config::Nats;
use crate::pipeline::{EventCount, Source, StageError};
use crate::relay::connection::Connection;
use crate::relay::subject;

/// A command as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The guest it is for.
    pub vm: Arc<str>,
    /// The subject it came on.
    pub subject: Subject,
    /// Where its answer goes.
    pub reply: Option<Subject>,
    /// The command; may hold secrets, so it is in no log.
    pub payload: Bytes,
    /// When it came.
    pub at: Instant,
}

impl EventCount for Asked {}

/// The source of commands. Each connection that it makes is handed on to the stages behind.
pub(crate) struct Receive {
    settings: Nats,
    site: Arc<str>,
    connected: watch::Sender<Option<Connection>>,
}

impl Receive {
    /// Is not connected yet.
    pub(crate) fn new(
        settings: Nats,
        site: Arc<str>,
        connected: watch::Sender<Option<Connection>>,
    ) -> Self {
        Self { settings, site, connected }
    }
}

impl Source for Receive {
    type Out = Asked;

    fn detail(&self) -> String {
        format!("{}, {}", self.settings.servers.join(" "), subject::of_commands(&self.site))
    }

    fn open(&mut self) -> impl Stream<Item = Result<Asked, StageError>> + Send + '_ {
        try_stream! {
            let name = format!("infiniservice-host relay of {}: commands", self.site);
            let connection = Connection::open(&self.settings, name).await?;
            claim::create_stream(&connection, &self.settings.stream).await?;
            let subject = subject::of_commands(&self.site);
            let subscribed = connection.client.subscribe(subject.clone()).await;
            let mut messages = subscribed.map_err(StageError::outside)?;
            tracing::info!(subject, "commands for guests are taken from NATS");
            self.connected.send_replace(Some(connection.clone()));
            loop {
                let message = tokio::select! {
                    biased;
                    message = messages.next() => message,
                    () = connection.lost.cancelled() => None,
                };
                let lost = || StageError::outside("the connection to NATS has ended");
                let message = message.ok_or_else(lost)?;
                let Some(vm) = subject::vm_of_command(&message.subject) else { continue };
                yield Asked {
                    vm: vm.into(),
                    subject: message.subject,
                    reply: message.reply,
                    payload: message.payload,
                    at: Instant::now(),
                };
            }
        }
    }
}
