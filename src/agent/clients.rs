//! The connections to the local control, and who gives way when there are too many.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};

use crate::tasks::spawn_in;

/// Connections at once.
pub(super) const CLIENTS_MAX: usize = 4;

/// The open connections, at most [`CLIENTS_MAX`]. Dropping this closes them.
#[derive(Default)]
pub(super) struct Clients {
    tasks: JoinSet<()>,
    /// The oldest first.
    connected: VecDeque<Connected>,
}

/// Whether the request of a client is completely read.
#[derive(Debug, Clone, Default)]
pub(super) struct RequestRead(Arc<AtomicBool>);

impl RequestRead {
    pub(super) fn set(&self) {
        self.0.store(true, Relaxed);
    }
}

struct Connected {
    request_read: RequestRead,
    task: AbortHandle,
}

impl Clients {
    /// Serves `client`. When all places are taken, the connection that has been silent longest is closed for it; if each has
    /// sent its request, `client` is returned.
    pub(super) fn take<F>(
        &mut self,
        client: UnixStream,
        serve: impl FnOnce(UnixStream, RequestRead) -> F,
    ) -> Option<UnixStream>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.connected.retain(|place| !place.task.is_finished());
        if self.connected.len() >= CLIENTS_MAX {
            let silent =
                self.connected.iter().position(|place| !place.request_read.0.load(Relaxed));
            match silent.and_then(|at| self.connected.remove(at)) {
                Some(silent) => silent.task.abort(),
                None => return Some(client),
            }
        }
        let request_read = RequestRead::default();
        let serve = serve(client, request_read.clone());
        let task = spawn_in(&mut self.tasks, async move {
            if let Err(error) = serve.await {
                tracing::debug!(%error, "a client of the local control was lost");
            }
        });
        self.connected.push_back(Connected { request_read, task });
        None
    }
}
