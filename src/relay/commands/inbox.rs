//! Inboxes of NATS: where the sender of a command gets the reply, and that he does get it.
//!
//! # Why a reply is known to have arrived
//! Over a restart of NATS the relay may be back before the one who asked, and a plain message to his inbox would be gone. So a
//! reply is sent as a request: the server answers at once where there is no subscriber (`503`), and it is sent again. Behind it the relay
//! sends a message to itself; when that comes and no `503` before it, the reply was taken, since a server keeps the order of
//! a connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::client::{PublishError, PublishErrorKind, SubscribeError};
use async_nats::{HeaderMap, StatusCode, Subject};
use bytes::Bytes;
use futures::StreamExt;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Connections;
use super::claim::Claims;
use super::reply::Reply;
use crate::relay::connection::{ANSWER, Connection};

/// The pause before a reply without a subscriber is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// Where the reply to a command over NATS goes.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// The subject that the command came on.
    subject: Subject,
    to: Subject,
    claims: Arc<Claims>,
    connections: Connections,
}

impl Inbox {
    /// The inbox `to` of a command that came on `subject`; `None` where it is no inbox: every client's request has one, and to
    /// anything else the relay would publish what the one who asks may perhaps not.
    pub(crate) fn new(
        subject: Subject,
        to: Option<Subject>,
        claims: &Arc<Claims>,
        connections: &Connections,
    ) -> Option<Self> {
        let to = to.filter(|to| to.starts_with("_INBOX"))?;
        let (claims, connections) = (Arc::clone(claims), connections.clone());
        Some(Self { subject, to, claims, connections })
    }

    /// Claims the command `payload` for the guest `vm`; whether it is this relay's.
    pub(crate) async fn claim(&self, vm: &str, payload: &[u8], until: Instant) -> bool {
        let request = [self.subject.as_bytes(), self.to.as_bytes(), payload];
        self.claims.claim(vm, request, until).await
    }

    /// Sends a reply until it has arrived, over as many connections as it takes, at most until `until`.
    ///
    /// # Errors
    /// It is too large, or `until` has come.
    pub(crate) async fn deliver(&self, reply: &Reply, until: Instant) -> Result<(), Undelivered> {
        let delivered = async {
            loop {
                let connection = self.connections.newest().await;
                let handed_over = tokio::select! {
                    biased;
                    handed_over = hand_over(&connection, &self.to, reply) => handed_over,
                    () = connection.lost.cancelled() => Ok(false),
                };
                match handed_over {
                    Ok(true) => return Ok(()),
                    Err(Undelivered::TooLarge) => return Err(Undelivered::TooLarge),
                    Ok(false) | Err(_) => sleep(PAUSE).await,
                }
            }
        };
        timeout_at(until, delivered).await.unwrap_or(Err(Undelivered::NotTaken))
    }
}

/// Why a reply has not arrived.
#[derive(Debug, Error)]
pub(crate) enum Undelivered {
    /// NATS takes no message of this length.
    #[error("it is larger than NATS takes")]
    TooLarge,
    /// No client has taken it in time.
    #[error("no client waits for it any longer")]
    NotTaken,
    /// The connection fails; tried again.
    #[error("{0}")]
    Publish(#[from] PublishError),
    /// As above.
    #[error("{0}")]
    Subscribe(#[from] SubscribeError),
}

/// Whether a client has taken it.
async fn hand_over(
    connection: &Connection,
    to: &Subject,
    reply: &Reply,
) -> Result<bool, Undelivered> {
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut returned = client.subscribe(inbox.clone()).await?;
    let (headers, payload) = (headers(reply), reply.payload.clone());
    let sent =
        client.publish_with_reply_and_headers(to.clone(), inbox.clone(), headers, payload).await;
    sent.map_err(|error| match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => Undelivered::TooLarge,
        _ => error.into(),
    })?;
    client.publish(inbox, Bytes::new()).await?;
    let first = timeout(ANSWER, returned.next()).await;
    Ok(first.is_ok_and(|first| {
        first.is_some_and(|message| message.status != Some(StatusCode::NO_RESPONDERS))
    }))
}

/// Those that services of NATS have for an error (ADR-32).
fn headers(reply: &Reply) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(error) = &reply.error {
        headers.insert("Nats-Service-Error", error.code());
        headers.insert("Nats-Service-Error-Code", error.status().to_string());
    }
    headers
}
