//! What was running when an agent ended without a word (it was killed, or its machine was): the host is told by the next
//! one, once. Runs nothing again, and does not find it out: the journal and the audit do.
//!
//! Commands that had been taken and had not begun leave no trace at a kill: nothing of them was done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_stream::stream;
use futures::Stream;
use tokio::time::sleep;

use super::answered::{Answered, Known};
use super::audit::Audit;
use super::decode::SCRIPT;
use super::journal::{self, Before, Journal};
use super::outcome::Outcome;
use super::reply::Told;
use crate::delivery::SYNC_WITHIN;

/// Commands that are told at a start, and scripts: the newest. Others are told at the next start.
pub const TOLD_MAX: usize = 64;

/// After what is handed over it is on the disk: then it is written down that the host was told.
pub(super) const KEPT_WITHIN: Duration = SYNC_WITHIN.saturating_mul(2);

/// What the host is told of a command.
pub const COMMAND: &str = "the agent ended while it ran; whether it was done is not known";
/// What it is told of a script.
pub const INTERRUPTED: &str =
    "the agent stopped while this script ran; it is not run a second time";

/// What is said of a script that is not run again, because it was before.
pub(super) fn before(code: Option<i32>) -> Outcome {
    match code {
        None => Outcome::failed(INTERRUPTED),
        Some(code) => Outcome {
            success: code == 0,
            exit_code: Some(code),
            error: (code != 0).then(|| format!("it ended with exit code {code}")),
            ..Outcome::said("this script ran before; what it said then is not kept")
        },
    }
}

/// Where it is written down what runs, and what was answered.
pub struct Interrupted {
    /// Which scripts have begun.
    pub journal: Option<Arc<Mutex<Journal>>>,
    /// Which commands have.
    pub audit: Option<Audit>,
    /// What this agent was asked.
    pub answered: Arc<Mutex<Answered>>,
}

impl Interrupted {
    /// What is to be told, and then the note that it was. Nothing the second time, where one flow takes the place of
    /// another.
    ///
    /// A kill in between, a tenth of a second, has the host told twice, in the same words.
    pub fn told(self) -> impl Stream<Item = Told> + Send {
        let Self { journal, audit, answered } = self;
        let take = |journal: &Arc<Mutex<Journal>>| {
            let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
            (journal.take_cut(), journal.is_copy())
        };
        let (mut scripts, is_copy) = journal.as_ref().map(take).unwrap_or_default();
        let found = audit.as_ref().map(Audit::take_unended).unwrap_or_default();
        let (mut again, mut commands) = // a script is told of by its journal
            found.into_iter().partition::<Vec<_>, _>(|unended| unended.action == SCRIPT);
        let left = newest(&mut scripts) + newest(&mut commands);
        newest(&mut again);
        stream! {
            if scripts.is_empty() && commands.is_empty() && again.is_empty() {
                return;
            }
            let (count_scripts, count_commands) = (scripts.len(), commands.len());
            match is_copy {
                true => tracing::warn!(
                    scripts = count_scripts,
                    commands = count_commands,
                    "what was running was another machine's, of which this one is a copy: not told"
                ),
                false => tracing::warn!(
                    scripts = count_scripts,
                    commands = count_commands,
                    left,
                    "the agent was ended while these ran; the host is told"
                ),
            }
            let mut ended = again;
            for unended in commands {
                let (id, action) = (unended.id.clone(), unended.action.clone());
                let told = Told::Response { id, action, outcome: Outcome::failed(COMMAND) };
                if let Some(told) = new(&answered, &unended.id, told) {
                    ended.push(unended);
                    if !is_copy {
                        yield told;
                    }
                }
            }
            for (id, ended) in &scripts {
                let outcome = before(match ended {
                    Before::Ended(code) => Some(*code),
                    Before::Begun | Before::Never => None,
                });
                let told = Told::Completed { execution_id: id.clone(), outcome };
                if let Some(told) = new(&answered, id, told).filter(|_| !is_copy) {
                    yield told;
                }
            }
            sleep(KEPT_WITHIN).await;
            if let Some(audit) = &audit {
                for unended in &ended {
                    audit.lost(unended, COMMAND).await;
                }
            }
            if let Some(journal) = &journal {
                let told = move |journal: &mut Journal| {
                    scripts.iter().try_for_each(|(id, _)| journal.told(id))
                };
                if let Err(error) = journal::on(journal, told).await {
                    tracing::error!(%error, "scripts that were interrupted are told of once more");
                }
            }
        }
    }
}

/// `told`, remembered as the answer to `id`; nothing where this agent was asked for that itself.
fn new(answered: &Mutex<Answered>, id: &str, told: Told) -> Option<Told> {
    let mut answered = answered.lock().unwrap_or_else(PoisonError::into_inner);
    (answered.take(id) == Known::New).then(|| {
        answered.answer(id, &told);
        told
    })
}

/// Leaves the newest, and says how many others there were.
fn newest<T>(all: &mut Vec<T>) -> usize {
    let more = all.len().saturating_sub(TOLD_MAX);
    all.drain(..more);
    more
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::StreamExt;

    use super::*;

    async fn told(state: &Path, machine: &str) -> Vec<String> {
        let journal = Some(Arc::new(Mutex::new(Journal::open_on(state, machine).unwrap())));
        let interrupted = Interrupted { journal, audit: None, answered: Arc::default() };
        let ids = interrupted.told().map(|told| match told {
            Told::Completed { execution_id, outcome } if !outcome.refused => execution_id,
            other => panic!("{other:?}"),
        });
        ids.collect().await
    }

    #[tokio::test]
    async fn no_more_than_so_many_are_told_at_once_and_then_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open_on(folder.path(), "one").unwrap();
        for number in 0..TOLD_MAX + 2 {
            journal.begin(&number.to_string()).unwrap();
        }
        drop(journal);
        let first = told(folder.path(), "one").await;
        assert_eq!((first.len(), first[0].as_str()), (TOLD_MAX, "2"));
        assert_eq!(told(folder.path(), "one").await, ["0", "1"]);
        assert_eq!(told(folder.path(), "one").await, [""; 0]);
    }

    #[tokio::test]
    async fn a_copy_of_a_machine_does_not_speak_for_the_original() {
        let folder = tempfile::tempdir().unwrap();
        Journal::open_on(folder.path(), "one").unwrap().begin("a").unwrap();
        assert_eq!(told(folder.path(), "two").await, [""; 0]);
        assert_eq!(told(folder.path(), "two").await, [""; 0]);
    }

    #[tokio::test]
    async fn what_this_agent_was_asked_it_answers_itself() {
        let mut journal = Journal::in_memory();
        journal.begin("a").unwrap();
        journal.begin_life();
        let answered = Arc::new(Mutex::new(Answered::default()));
        answered.lock().unwrap().take("a");
        let journal = Some(Arc::new(Mutex::new(journal)));
        let interrupted = Interrupted { journal, audit: None, answered };
        assert_eq!(interrupted.told().collect::<Vec<_>>().await, []);
    }
}
