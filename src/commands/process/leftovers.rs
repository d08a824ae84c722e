//! What a program leaves running when it has ended: told in the answer, and ended or kept. Does not decide
//! which: that is [`Program::detach`](super::Program::detach).

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::cgroup::Group;
use crate::commands::systemd::{self, SystemdError};
use crate::sort;
use crate::sync::IgnorePoison;

/// Processes that are named; the others are counted.
const NAMES_MAX: usize = 5;
/// Sentences that are kept for one answer.
const NOTES_MAX: usize = 16;
/// How long systemd may take to take over what is left.
const TAKEN_MAX: Duration = Duration::from_secs(5);

/// What a [`Runner`](super::Runner) has to say of its programs beside what they said themselves, each a
/// sentence without a full stop; the first 16.
#[derive(Debug, Clone, Default)]
pub struct RunWarnings(Arc<Mutex<Vec<String>>>);

impl RunWarnings {
    pub(super) fn add(&self, note: String) {
        let mut notes = self.0.lock().ignore_poison();
        if notes.len() < NOTES_MAX {
            notes.push(note);
        }
    }

    /// All that was said since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().ignore_poison())
    }
}

/// `ended 2 processes left behind: sleep, x`.
pub(super) fn ended(names: Vec<String>) -> String {
    format!("ended {} left behind: {}", counted(names.len()), listed(names))
}

/// Has what is left in a control group go on after the agent: in a transient scope of systemd where that
/// runs the machine, else in a control group beside it. Says what became of it. Waits: not for an async
/// worker, but within a runtime.
pub(super) fn keep(group: Option<&Group>, names: Vec<String>) -> String {
    let kept = match group {
        None => Err("it has no control group".to_owned()),
        Some(group) if systemd::is_running() => hand_over(group).map_err(|error| error.to_string()),
        Some(group) => group.leave().map_err(|error| error.to_string()),
    };
    match kept {
        Ok(place) => {
            format!("left {} running in {place}: {}", counted(names.len()), listed(names))
        }
        Err(why) => format!("{}; it could not be left running: {why}", ended(names)),
    }
}

fn hand_over(group: &Group) -> Result<String, SystemdError> {
    let number = RandomState::new().hash_one(std::process::id());
    let name = format!("infiniservice-left-{number:016x}.scope");
    let until = Instant::now() + TAKEN_MAX;
    // What does not run does not fork, so all of it is on the list.
    group.freeze(true);
    let pids: Vec<u32> =
        group.members().iter().map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).collect();
    let asked = Handle::current().block_on(async {
        systemd::make_scope(&name, &pids, until).await?;
        // The answer comes before the deed.
        while !group.is_empty() && Instant::now() < until {
            sleep(Duration::from_millis(5)).await;
        }
        Ok::<(), SystemdError>(())
    });
    group.freeze(false);
    asked?;
    match group.is_empty() {
        true => Ok(name),
        false => Err(SystemdError::ScopeLate),
    }
}

fn counted(number: usize) -> String {
    if number == 1 { "1 process".to_owned() } else { format!("{number} processes") }
}

fn listed(mut names: Vec<String>) -> String {
    sort::by(&mut names, Ord::cmp);
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_named_and_the_others_are_counted() {
        let names = |count: usize| (0..count).map(|number| format!("p{number}")).collect();
        assert_eq!(ended(names(1)), "ended 1 process left behind: p0");
        assert_eq!(ended(names(2)), "ended 2 processes left behind: p0, p1");
        let many = "ended 500 processes left behind: p0, p1, p10, p100, p101 and 495 more";
        assert_eq!(ended(names(500)), many);
    }
}
