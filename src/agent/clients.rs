//! Who is connected to the local control, and for whom there is a place. Does not know what is asked.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::net::UnixStream;
use tokio::task::{AbortHandle, JoinSet};

/// Clients at once.
pub(super) const CLIENTS_MAX: usize = 4;

/// Those that are connected, at most [`CLIENTS_MAX`]; gone with this.
#[derive(Default)]
pub(super) struct Clients {
    tasks: JoinSet<()>,
    /// The oldest first.
    places: VecDeque<Place>,
}

/// Whether a client has said all that it wants.
#[derive(Debug, Clone, Default)]
pub(super) struct Spoken(Arc<AtomicBool>);

impl Spoken {
    pub(super) fn set(&self) {
        self.0.store(true, Relaxed);
    }
}

struct Place {
    has_spoken: Spoken,
    task: AbortHandle,
}

impl Clients {
    /// Talks with `client`, which is given back where all that are there have spoken. Else the one that has been silent
    /// for longest makes room.
    pub(super) fn take<F>(
        &mut self,
        client: UnixStream,
        talk: impl FnOnce(UnixStream, Spoken) -> F,
    ) -> Option<UnixStream>
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        while self.tasks.try_join_next().is_some() {}
        self.places.retain(|place| !place.task.is_finished());
        if self.places.len() >= CLIENTS_MAX {
            let silent = self.places.iter().position(|place| !place.has_spoken.0.load(Relaxed));
            match silent.and_then(|at| self.places.remove(at)) {
                Some(silent) => silent.task.abort(),
                None => return Some(client),
            }
        }
        let has_spoken = Spoken::default();
        let talk = talk(client, has_spoken.clone());
        let task = self.tasks.spawn(async move {
            if let Err(error) = talk.await {
                tracing::debug!(%error, "a client of the local control was lost");
            }
        });
        self.places.push_back(Place { has_spoken, task });
        None
    }
}
