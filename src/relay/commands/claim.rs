//! Claims: which relay deals with a command, stored in a stream of NATS as a key-value store has it, each claim under a subject
//! that can be written once (`Nats-Expected-Last-Subject-Sequence: 0`).
//!
//! # Why a stream of our own
//! It is what `create` of a key-value store of NATS does, and works with every server that has JetStream; its bucket could not be
//! made by our client with nats-server 2.9.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, DiscardPolicy};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout_at};

use super::Connections;
use crate::pipeline::StageError;
use crate::relay::connection::Connection;
use crate::relay::subject;
use crate::values::hex;

/// How long a claim is kept: twice the longest time of a command.
const AGE: Duration = Duration::from_secs(2 * 3600);
/// Bytes of all claims; the oldest go.
const BYTES_MAX: i64 = 64 << 20;
/// The pause before a claim that failed is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// The stream of the claims, beside that of the lines.
fn name(stream: &str) -> String {
    format!("{stream}-commands")
}

/// Creates the stream of the claims where it is not there.
///
/// # Errors
/// It cannot be had.
pub(crate) async fn create_stream(connection: &Connection, stream: &str) -> Result<(), StageError> {
    let name = name(stream);
    let config = Config {
        name: name.clone(),
        description: Some(
            "which relay deals with a command, of infiniservice-host relay".to_owned(),
        ),
        subjects: subject::of_claims().into(),
        max_messages_per_subject: 1,
        max_bytes: BYTES_MAX,
        max_age: AGE,
        discard: DiscardPolicy::Old,
        ..Config::default()
    };
    let created = connection.jetstream.get_or_create_stream(config).await;
    created.map(drop).map_err(|error| {
        StageError::outside(format_args!("there is no stream {name:?} at NATS: {error}"))
    })
}

/// Claims commands for one relay.
#[derive(Debug)]
pub(crate) struct Claims {
    site: String,
    stream: String,
    /// No two have the same, nor one and the same after a restart.
    relay: String,
    connections: Connections,
}

impl Claims {
    /// For the relay `relay`, beside the stream `stream` of lines.
    pub(crate) fn new(site: &str, stream: &str, relay: String, connections: Connections) -> Self {
        Self { site: site.to_owned(), stream: name(stream), relay, connections }
    }

    /// Whether this relay is the one that deals with a command for the guest `vm`. `request` tells it from every other: its
    /// subject, where its reply goes, and what it says. It is tried until `until` where NATS is away, and is not claimed then.
    ///
    /// A claim is published under the relay's own message id: one that is published again, since its acknowledgement was lost, is
    /// still the relay's own.
    pub(crate) async fn claim(&self, vm: &str, request: [&[u8]; 3], until: Instant) -> bool {
        let number = number(request);
        let subject = subject::of_claim(&self.site, vm, &number);
        let once = async {
            loop {
                match self.publish(&subject, &number).await {
                    Ok(()) => return true,
                    Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                        return false;
                    }
                    Err(error) => {
                        tracing::debug!(vm, %error, "a command cannot be claimed");
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        timeout_at(until, once).await.unwrap_or(false)
    }

    async fn publish(&self, subject: &str, number: &str) -> Result<(), PublishError> {
        let connection = self.connections.newest().await;
        let message = PublishMessage::build()
            .payload(self.relay.clone().into())
            .message_id(format!("{number}-{}", self.relay))
            .expected_stream(&self.stream)
            .expected_last_subject_sequence(0);
        connection.jetstream.send_publish(subject.to_owned(), message).await?.await.map(drop)
    }
}

/// A number of its own for each request.
fn number(request: [&[u8]; 3]) -> String {
    let hasher = request.iter().fold(Sha256::new(), |hasher, part| {
        hasher.chain_update((part.len() as u64).to_be_bytes()).chain_update(part)
    });
    hex(&hasher.finalize()[..16])
}
