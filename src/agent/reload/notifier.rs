//! What the host is told of reloads, and when: at most one event in ten seconds, and in the end how the files are.
//! Sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::agent::reload::report::Report;
use crate::wire::outbound::{AgentEvent, Severity};

/// Between two events, at least. Each is kept until it is read: a file that is written again and again must not
/// put what else is kept out of its place.
pub(in crate::agent) const TELL_EVERY: Duration = Duration::from_secs(10);

/// What came of the reloads since the host was told last.
#[derive(Debug, Default)]
pub(in crate::agent) struct ReloadNotifier {
    /// Who asked last.
    by: &'static str,
    /// What became of each pipeline, all in all.
    changes: BTreeMap<String, Change>,
    /// Settings that hold.
    applied: BTreeSet<String>,
    /// Settings that wait for a restart.
    restart: Vec<String>,
    /// What is wrong with the files now.
    wrong: Vec<String>,
    /// Files were refused.
    has_refused: bool,
    /// The host's last word is that the files are wrong.
    told_wrong: bool,
    last: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Removed,
    Added,
    Changed,
}

impl ReloadNotifier {
    /// Takes in what came of a reload.
    pub(in crate::agent) fn heard(&mut self, by: &'static str, report: &Report) {
        self.by = by;
        self.wrong.clone_from(&report.wrong);
        if !report.wrong.is_empty() {
            self.has_refused = true;
            return; // nothing was taken
        }
        self.restart.clone_from(&report.restart);
        self.applied.extend(report.applied.iter().cloned());
        let kinds = [
            (Change::Removed, &report.removed),
            (Change::Added, &report.added),
            (Change::Changed, &report.changed),
        ];
        for (change, names) in kinds {
            for name in names {
                match self.changes.get(name).and_then(|before| before.then(change)) {
                    None if self.changes.contains_key(name) => self.changes.remove(name),
                    None => self.changes.insert(name.clone(), change),
                    Some(both) => self.changes.insert(name.clone(), both),
                };
            }
        }
    }

    /// When the host is to be told something: now where that is over, never where there is nothing to tell.
    pub(in crate::agent) fn due(&self) -> Option<Instant> {
        let is_news = match self.wrong.is_empty() {
            true => self.told_wrong || !self.changes.is_empty() || !self.applied.is_empty(),
            false => self.has_refused,
        };
        is_news.then(|| self.last.map_or_else(Instant::now, |last| last + TELL_EVERY))
    }

    /// The event that is due.
    pub(in crate::agent) fn tell(&mut self, now: Instant) -> AgentEvent {
        let what = self.words();
        let (severity, message) = match (self.wrong.first(), self.told_wrong, what.is_empty()) {
            (Some(first), ..) => {
                let first = first.lines().next().unwrap_or_default();
                let more = match self.wrong.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let before = if what.is_empty() { what } else { format!("; before, {what}") };
                let message = "the pipeline files are not taken, all goes on as it was";
                (Severity::Warn, format!("{message}: {first}{more}{before}"))
            }
            (None, true, true) => (Severity::Info, format!("{RIGHT}, and say the same as before")),
            (None, true, false) => (Severity::Info, format!("{RIGHT}: {what}")),
            (None, false, _) => (Severity::Info, what),
        };
        let names = |wanted| {
            let those = self.changes.iter().filter(move |(_, change)| **change == wanted);
            those.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
        };
        let context = json!({
            "by": self.by,
            "added": names(Change::Added),
            "changed": names(Change::Changed),
            "removed": names(Change::Removed),
            "settings": self.applied,
            "restart": self.restart,
            "wrong": self.wrong,
        });
        self.changes.clear();
        self.applied.clear();
        self.has_refused = false;
        self.told_wrong = !self.wrong.is_empty();
        self.last = Some(now);
        let (source, execution_id) = ("reload", None);
        AgentEvent { severity, source, message, execution_id, context: Some(context) }
    }

    /// What has changed, for a person; empty where nothing has.
    fn words(&self) -> String {
        let kinds =
            [(Change::Removed, "removed"), (Change::Added, "added"), (Change::Changed, "changed")];
        let mut parts = Vec::new();
        for (kind, done) in kinds {
            let those = self.changes.iter().filter(|(_, change)| **change == kind);
            let names: Vec<_> = those.map(|(name, _)| name.as_str()).collect();
            match names[..] {
                [] => {}
                [name] => parts.push(format!("pipeline {name} was {done}")),
                _ => parts.push(format!("pipelines {} were {done}", names.join(", "))),
            }
        }
        if !self.applied.is_empty() {
            let sections: Vec<_> = self.applied.iter().map(String::as_str).collect();
            parts.push(format!("the agent's settings in {} have changed", sections.join(", ")));
        }
        parts.join("; ")
    }
}

const RIGHT: &str = "the pipeline files are right again";

impl Change {
    /// What both come to, one after the other; nothing where all is as it was.
    fn then(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Added, Self::Removed) => None,
            (Self::Added, _) => Some(Self::Added),
            (_, Self::Removed) => Some(Self::Removed),
            _ => Some(Self::Changed), // what was removed and is back may say something else
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until, timeout};

    use super::*;

    fn wrong() -> Report {
        let wrong = ["a.toml:3:1: no\n  |\n3 | x", "b.toml: none"].map(str::to_owned).to_vec();
        Report::of_wrong(wrong)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Tells what is due now.
    fn told(telling: &mut ReloadNotifier) -> Option<AgentEvent> {
        let due = telling.due().filter(|due| *due <= Instant::now());
        due.map(|_| telling.tell(Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_is_told_the_first_mistake_and_all_of_them_beside_it_and_once_that_it_is_gone()
    {
        let mut telling = ReloadNotifier::default();
        telling.heard("SIGHUP", &wrong());
        let event = told(&mut telling).unwrap();
        assert!(event.message.ends_with("as it was: a.toml:3:1: no (and 1 more)"));
        assert_eq!(event.context.unwrap()["wrong"][1], "b.toml: none");
        assert_eq!(telling.due(), None);
        advance(TELL_EVERY).await;
        telling.heard("SIGHUP", &wrong());
        assert_eq!(told(&mut telling).unwrap().severity, Severity::Warn, "refused once more");
        advance(TELL_EVERY).await;
        telling.heard("SIGHUP", &Report { unchanged: names(&["metrics"]), ..Report::default() });
        let event = told(&mut telling).unwrap();
        assert_eq!(event.severity, Severity::Info);
        assert!(event.message.ends_with("right again, and say the same as before"));
        assert_eq!(telling.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_and_goes_is_told_in_words_without_an_error_before_too() {
        let mut telling = ReloadNotifier::default();
        let report = Report {
            added: names(&["lab"]),
            removed: names(&["metrics", "old"]),
            ..Report::default()
        };
        telling.heard("SIGHUP", &report);
        let event = told(&mut telling).unwrap();
        assert_eq!(event.message, "pipelines metrics, old were removed; pipeline lab was added");
        assert_eq!(event.context.unwrap()["removed"], json!(["metrics", "old"]));

        advance(TELL_EVERY).await;
        telling.heard("SIGHUP", &wrong());
        told(&mut telling).unwrap();
        telling.heard("SIGHUP", &Report { removed: names(&["lab"]), ..Report::default() });
        advance(TELL_EVERY).await;
        let event = told(&mut telling).unwrap();
        assert_eq!(event.message, "the pipeline files are right again: pipeline lab was removed");
        // What only waits for a restart is no news.
        telling.heard("SIGHUP", &Report { restart: names(&["[log]"]), ..Report::default() });
        assert_eq!(telling.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_flaps_is_told_every_ten_seconds_and_in_the_end_how_it_is() {
        for ends_wrong in [false, true] {
            let (mut telling, mut events) = (ReloadNotifier::default(), Vec::new());
            let begun = Instant::now();
            for flip in 0..400 {
                let is_wrong = (flip % 2 == 0) != ends_wrong;
                // The last one is the 400th.
                telling
                    .heard("a changed file", &if is_wrong { wrong() } else { Report::default() });
                let next = Instant::now() + Duration::from_millis(50);
                while let Some(due) = telling.due()
                    && timeout(next - Instant::now(), sleep_until(due)).await.is_ok()
                {
                    events.push((begun.elapsed().as_secs(), telling.tell(Instant::now())));
                }
                sleep_until(next).await;
            }
            if let Some(due) = telling.due() {
                sleep_until(due).await;
                events.push((begun.elapsed().as_secs(), telling.tell(Instant::now())));
            }
            assert_eq!(telling.due(), None, "no more to say");
            assert!((2..=3).contains(&events.len()), "{events:?}");
            assert!(events.windows(2).all(|two| two[1].0 - two[0].0 >= 10), "{events:?}");
            let last = &events.last().unwrap().1;
            assert_eq!(last.severity == Severity::Warn, ends_wrong, "the last word is right");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_removed_and_came_back_within_ten_seconds_has_changed() {
        let mut telling = ReloadNotifier::default();
        telling.heard("SIGHUP", &Report { changed: names(&["a"]), ..Report::default() });
        told(&mut telling).unwrap();
        telling.heard("SIGHUP", &Report { removed: names(&["a"]), ..Report::default() });
        let report = Report { added: names(&["a", "b"]), ..Report::default() };
        telling.heard("SIGHUP", &report);
        telling.heard("SIGHUP", &Report { changed: names(&["b"]), ..Report::default() });
        telling.heard("SIGHUP", &Report { added: names(&["c"]), ..Report::default() });
        telling.heard("SIGHUP", &Report { removed: names(&["c"]), ..Report::default() });
        advance(TELL_EVERY).await;
        let event = told(&mut telling).unwrap();
        assert_eq!(event.message, "pipeline b was added; pipeline a was changed");
    }
}
