//! A command as it came, and where its reply goes: one type for all ways that commands come.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::inbox::{Inbox, Undelivered};
use super::reply::Reply;
use crate::pipeline::EventCount;

/// A command as it came.
#[derive(Debug)]
pub(crate) struct Command {
    /// The guest it is for.
    pub vm: Arc<str>,
    /// What it says; may hold secrets, so it is in no log.
    pub payload: Bytes,
    /// When it came.
    pub at: Instant,
    /// Where its reply goes.
    pub reply_to: ReplyTo,
}

impl EventCount for Command {}

/// Where the reply to a command goes. That is also who sent it.
#[derive(Debug)]
pub(crate) enum ReplyTo {
    /// To a client of NATS.
    Inbox(Inbox),
    /// To a client of NATS that has no inbox.
    NoInbox,
    /// To a request to the web page, which waits.
    Page(PageReply),
}

impl ReplyTo {
    /// Who sent the command, for the log.
    pub(crate) fn sender(&self) -> String {
        match self {
            Self::Inbox(_) | Self::NoInbox => "nats".to_owned(),
            Self::Page(page) => format!("web page, {}", page.from),
        }
    }

    /// Whether this relay deals with the command `payload` for `vm`. Of a command over NATS every relay of the site gets a
    /// copy, and one of them [claims](super::claim) it, until `until`. A command of the page is at one relay only.
    pub(crate) async fn is_ours(&self, vm: &str, payload: &[u8], until: Instant) -> bool {
        match self {
            Self::Inbox(inbox) => inbox.claim(vm, payload, until).await,
            Self::NoInbox | Self::Page(_) => true,
        }
    }
}

/// A request to the web page that waits for the reply to its command.
#[derive(Debug)]
pub(crate) struct PageReply {
    /// The client's address, or that of a proxy.
    from: SocketAddr,
    sender: oneshot::Sender<Reply>,
    _permit: OwnedSemaphorePermit,
}

impl PageReply {
    /// A client at `from`, whose command has a `permit` until it has ended.
    pub(crate) fn new(
        from: SocketAddr,
        sender: oneshot::Sender<Reply>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self { from, sender, _permit: permit }
    }

    /// Hands it the reply.
    ///
    /// # Errors
    /// It waits no longer.
    pub(crate) fn send(self, reply: Reply) -> Result<(), Undelivered> {
        self.sender.send(reply).map_err(|_| Undelivered::NotTaken)
    }
}
