//! Replies: what the sender of a command gets, and that he does get it.
//!
//! # Why a reply is known to have arrived
//! Over a restart of NATS the relay may be back before the one who asked, and a plain message to his inbox would be gone. So a
//! reply is sent as a request: the server answers at once where there is no subscriber (`503`), and it is sent again. Behind it the relay
//! sends a message to itself; when that comes and no `503` before it, the reply was taken, since a server keeps the order of
//! a connection.

use std::time::{Duration, SystemTime};

use async_nats::client::{PublishError, PublishErrorKind, SubscribeError};
use async_nats::{HeaderMap, StatusCode, Subject};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Connections;
use super::error::CommandError;
use super::receive::Asked;
use crate::relay::connection::{ANSWER, Connection};
use crate::relay::fleet::Kind;
use crate::relay::outputs::Wrap;

/// The pause before a reply without a subscriber is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether answers go there: inboxes only, as every client's request has one. To anything else the relay would publish what the
/// one who asks may perhaps not.
pub(crate) fn is_inbox(reply: &Subject) -> bool {
    reply.starts_with("_INBOX")
}

/// A reply, ready to be sent.
pub(crate) struct Reply {
    headers: HeaderMap,
    payload: Bytes,
}

impl Reply {
    /// The guest's answer, in the object that its lines have.
    pub(crate) fn answer(wrap: &Wrap, asked: &Asked, line: &[u8]) -> Self {
        let payload = wrap.object(&asked.vm, SystemTime::now(), Kind::Response, line);
        Self { headers: HeaderMap::new(), payload: payload.into() }
    }

    /// An error, also in the headers that services of NATS have (ADR-32).
    pub(crate) fn error(site: &str, asked: &Asked, error: &CommandError) -> Self {
        let (code, message) = (error.code(), error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error", code);
        headers.insert("Nats-Service-Error-Code", error.status().to_string());
        let error = json!({ "code": code, "message": message });
        let payload = json!({ "site": site, "vm": &*asked.vm, "error": error });
        Self { headers, payload: payload.to_string().into() }
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> usize {
        self.payload.len()
    }
}

/// Why a reply has not arrived.
#[derive(Debug, Error)]
pub(crate) enum Undelivered {
    /// NATS takes no message of this length.
    #[error("it is larger than NATS takes")]
    TooLarge,
    /// Nobody has taken it in time.
    #[error("nobody takes it any more")]
    NotTaken,
    /// The connection fails; tried again.
    #[error("{0}")]
    Publish(#[from] PublishError),
    /// As above.
    #[error("{0}")]
    Subscribe(#[from] SubscribeError),
}

/// Sends a reply to `to` until it has arrived, over as many connections as it takes, at most until `until`.
///
/// # Errors
/// It is too large, or `until` has come.
pub(crate) async fn deliver(
    connections: &Connections,
    to: &Subject,
    reply: &Reply,
    until: Instant,
) -> Result<(), Undelivered> {
    let delivered = async {
        loop {
            let connection = connections.newest().await;
            let handed_over = tokio::select! {
                biased;
                handed_over = hand_over(&connection, to, reply) => handed_over,
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

/// Whether a client has taken it.
async fn hand_over(
    connection: &Connection,
    to: &Subject,
    Reply { headers, payload }: &Reply,
) -> Result<bool, Undelivered> {
    let client = &connection.client;
    let inbox = client.new_inbox();
    let mut returned = client.subscribe(inbox.clone()).await?;
    let (headers, payload) = (headers.clone(), payload.clone());
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
