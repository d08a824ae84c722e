//! The requests that are carried out now, for the status of the agent.

use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::sync::IgnorePoison;

/// The list. A clone is the same list. The concurrency limit bounds it.
#[derive(Debug, Clone, Default)]
pub struct Running(Arc<Mutex<Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    id: String,
    action: String,
    since: Instant,
}

/// A request that is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningCommand {
    /// Its id.
    pub id: String,
    /// Its action.
    pub action: String,
    /// How long it has run.
    pub seconds: u64,
}

/// Keeps a request in the list until it is dropped.
#[derive(Debug)]
pub struct Listed {
    running: Running,
    since: Instant,
    id: String,
}

impl Running {
    /// A request begins.
    pub fn begin(&self, id: &str, action: String) -> Listed {
        let since = Instant::now();
        self.entries().push(Entry { id: id.to_owned(), action, since });
        Listed { running: self.clone(), since, id: id.to_owned() }
    }

    /// What runs now, the oldest first.
    pub fn list(&self) -> Vec<RunningCommand> {
        let command = |entry: &Entry| RunningCommand {
            id: entry.id.clone(),
            action: entry.action.clone(),
            seconds: entry.since.elapsed().as_secs(),
        };
        self.entries().iter().map(command).collect()
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().ignore_poison()
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut entries = self.running.entries();
        let own = |entry: &Entry| entry.since == self.since && entry.id == self.id;
        if let Some(index) = entries.iter().position(own) {
            entries.remove(index);
        }
    }
}
