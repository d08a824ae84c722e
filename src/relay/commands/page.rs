//! Commands of the web page: each is handed to the flow, and its request waits for the reply.

use std::net::SocketAddr;
use std::sync::Arc;

use async_stream::stream;
use bytes::Bytes;
use futures::Stream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::command::{Command, PageReply, ReplyTo};
use super::error::CommandError;
use super::offer::offer;
use super::reply::Reply;
use crate::config::RelayCommands;
use crate::pipeline::{Source, StageError};
use crate::relay::in_flight::NotTaken;

/// Commands of all pages that have no reply yet.
pub(crate) const COMMANDS_MAX: usize = 16;

/// The end of the web page.
#[derive(Debug)]
pub(crate) struct PageCommands {
    sender: mpsc::Sender<Command>,
    permits: Arc<Semaphore>,
    offer: Bytes,
}

/// The end of the flow.
#[derive(Debug)]
pub(crate) struct FromPage(mpsc::Receiver<Command>);

/// Both ends. The page offers what `rules` may allow.
pub(crate) fn page_commands(rules: &RelayCommands) -> (PageCommands, FromPage) {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    let permits = Arc::new(Semaphore::new(COMMANDS_MAX));
    let offer = offer(rules).into();
    (PageCommands { sender, permits, offer }, FromPage(receiver))
}

impl PageCommands {
    /// What the page offers, as JSON.
    pub(crate) fn offer(&self) -> &[u8] {
        &self.offer
    }

    /// The reply to the command `payload` for the guest `vm`, which a client at `from` has sent. If it is cancelled, the command
    /// goes on without it, and counts until it has ended.
    ///
    /// # Errors
    /// There are too many, or the relay stops.
    pub(crate) async fn send(
        &self,
        vm: &str,
        payload: Bytes,
        from: SocketAddr,
    ) -> Result<Reply, CommandError> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| NotTaken::TooMany)?;
        let (sender, reply) = oneshot::channel();
        let reply_to = ReplyTo::Page(PageReply::new(from, sender, permit));
        let command = Command { vm: vm.into(), payload, at: Instant::now(), reply_to };
        // There is room for every command that has a permit.
        self.sender.try_send(command).map_err(|_| CommandError::Stopping)?;
        reply.await.map_err(|_| CommandError::Stopping)
    }
}

impl Source for FromPage {
    type Out = Command;

    fn open(&mut self) -> impl Stream<Item = Result<Command, StageError>> + Send + '_ {
        stream! {
            while let Some(command) = self.0.recv().await {
                yield Ok(command);
            }
        }
    }
}
