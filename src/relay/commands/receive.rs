//! Receives commands over NATS: one subscription for all guests of the site, over a connection of its own, which lines do not delay.

use std::sync::Arc;

use async_stream::try_stream;
use futures::{Stream, StreamExt};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Connections;
use super::claim::{self, Claims};
use super::command::{Command, ReplyTo};
use super::inbox::Inbox;
use crate::config::Nats;
use crate::pipeline::{Source, StageError};
use crate::relay::connection::Connection;
use crate::relay::subject;

/// The source of commands over NATS. Their replies go over its newest connection.
pub(crate) struct Receive {
    settings: Nats,
    site: Arc<str>,
    connected: watch::Sender<Option<Connection>>,
    connections: Connections,
    claims: Arc<Claims>,
}

impl Receive {
    /// Is not connected yet. `relay` is this relay's name in claims.
    pub(crate) fn new(settings: Nats, site: Arc<str>, relay: String) -> Self {
        let (connected, connections) = watch::channel(None);
        let connections = Connections(connections);
        let claims = Claims::new(&site, &settings.stream, relay, connections.clone()).into();
        Self { settings, site, connected, connections, claims }
    }
}

impl Source for Receive {
    type Out = Command;

    fn detail(&self) -> String {
        format!("{}, {}", self.settings.servers.join(" "), subject::of_commands(&self.site))
    }

    fn open(&mut self) -> impl Stream<Item = Result<Command, StageError>> + Send + '_ {
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
                let Self { claims, connections, .. } = &*self;
                let inbox = Inbox::new(message.subject, message.reply, claims, connections);
                let reply_to = inbox.map_or(ReplyTo::NoInbox, ReplyTo::Inbox);
                let payload = message.payload;
                yield Command { vm: vm.into(), payload, at: Instant::now(), reply_to };
            }
        }
    }
}
