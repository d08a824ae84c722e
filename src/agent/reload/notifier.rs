//! Decides when the host gets an event about reloads: at most one in ten seconds, and the last one has the final state.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::agent::reload::report::Report;
use crate::wire::outbound::{AgentEvent, Severity};

/// The least time between two events. Each is durable: a file that is written again and again must not
/// evict other durable messages.
pub(in crate::agent) const NOTIFY_INTERVAL: Duration = Duration::from_secs(10);

/// The reloads since the last event.
#[derive(Debug, Default)]
pub(in crate::agent) struct ReloadNotifier {
    /// The origin of the last one.
    by: &'static str,
    /// The net change of each pipeline.
    changes: BTreeMap<String, Change>,
    /// Settings that hold.
    applied: BTreeSet<String>,
    /// Settings that wait for a restart.
    restart: Vec<String>,
    /// The errors of the files now.
    wrong: Vec<String>,
    /// Files were refused.
    has_refused: bool,
    /// The last event reported errors.
    reported_invalid: bool,
    last: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Removed,
    Added,
    Changed,
}

impl ReloadNotifier {
    /// Records the result of a reload.
    pub(in crate::agent) fn record(&mut self, by: &'static str, report: &Report) {
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

    /// When the next event is due; a time in the past means now, `None` that there is nothing to report.
    pub(in crate::agent) fn due(&self) -> Option<Instant> {
        let has_changes = match self.wrong.is_empty() {
            true => self.reported_invalid || !self.changes.is_empty() || !self.applied.is_empty(),
            false => self.has_refused,
        };
        has_changes.then(|| self.last.map_or_else(Instant::now, |last| last + NOTIFY_INTERVAL))
    }

    /// The event that is due.
    pub(in crate::agent) fn take_event(&mut self, now: Instant) -> AgentEvent {
        let what = self.summary();
        let (severity, message) = match (self.wrong.first(), self.reported_invalid, what.is_empty())
        {
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
        self.reported_invalid = !self.wrong.is_empty();
        self.last = Some(now);
        let (source, execution_id) = ("reload", None);
        AgentEvent { severity, source, message, execution_id, context: Some(context) }
    }

    /// The changes as a sentence; empty if there are none.
    fn summary(&self) -> String {
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
    /// The net change of two in a row; `None` if they cancel out.
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
        Report { wrong, ..Report::default() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Takes the event that is due now.
    fn event_due(notifier: &mut ReloadNotifier) -> Option<AgentEvent> {
        let due = notifier.due().filter(|due| *due <= Instant::now());
        due.map(|_| notifier.take_event(Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_names_the_first_error_lists_all_and_a_second_one_reports_the_repair() {
        let mut notifier = ReloadNotifier::default();
        notifier.record("SIGHUP", &wrong());
        let event = event_due(&mut notifier).unwrap();
        assert!(event.message.ends_with("as it was: a.toml:3:1: no (and 1 more)"));
        assert_eq!(event.context.unwrap()["wrong"][1], "b.toml: none");
        assert_eq!(notifier.due(), None);
        advance(NOTIFY_INTERVAL).await;
        notifier.record("SIGHUP", &wrong());
        assert_eq!(event_due(&mut notifier).unwrap().severity, Severity::Warn, "refused once more");
        advance(NOTIFY_INTERVAL).await;
        notifier.record("SIGHUP", &Report { unchanged: names(&["metrics"]), ..Report::default() });
        let event = event_due(&mut notifier).unwrap();
        assert_eq!(event.severity, Severity::Info);
        assert!(event.message.ends_with("right again, and say the same as before"));
        assert_eq!(notifier.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn added_and_removed_pipelines_are_reported_in_words() {
        let mut notifier = ReloadNotifier::default();
        let report = Report {
            added: names(&["lab"]),
            removed: names(&["metrics", "old"]),
            ..Report::default()
        };
        notifier.record("SIGHUP", &report);
        let event = event_due(&mut notifier).unwrap();
        assert_eq!(event.message, "pipelines metrics, old were removed; pipeline lab was added");
        assert_eq!(event.context.unwrap()["removed"], json!(["metrics", "old"]));

        advance(NOTIFY_INTERVAL).await;
        notifier.record("SIGHUP", &wrong());
        event_due(&mut notifier).unwrap();
        notifier.record("SIGHUP", &Report { removed: names(&["lab"]), ..Report::default() });
        advance(NOTIFY_INTERVAL).await;
        let event = event_due(&mut notifier).unwrap();
        assert_eq!(event.message, "the pipeline files are right again: pipeline lab was removed");
        // A setting that waits for a restart is not reported.
        notifier.record("SIGHUP", &Report { restart: names(&["[log]"]), ..Report::default() });
        assert_eq!(notifier.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flapping_file_is_reported_every_ten_seconds_and_last_in_its_final_state() {
        for ends_wrong in [false, true] {
            let (mut notifier, mut events) = (ReloadNotifier::default(), Vec::new());
            let begun = Instant::now();
            for flip in 0..400 {
                let is_wrong = (flip % 2 == 0) != ends_wrong;
                // The last one is the 400th.
                notifier
                    .record("a changed file", &if is_wrong { wrong() } else { Report::default() });
                let next = Instant::now() + Duration::from_millis(50);
                while let Some(due) = notifier.due()
                    && timeout(next - Instant::now(), sleep_until(due)).await.is_ok()
                {
                    events.push((begun.elapsed().as_secs(), notifier.take_event(Instant::now())));
                }
                sleep_until(next).await;
            }
            if let Some(due) = notifier.due() {
                sleep_until(due).await;
                events.push((begun.elapsed().as_secs(), notifier.take_event(Instant::now())));
            }
            assert_eq!(notifier.due(), None, "no more to say");
            assert!((2..=3).contains(&events.len()), "{events:?}");
            assert!(events.windows(2).all(|two| two[1].0 - two[0].0 >= 10), "{events:?}");
            let last = &events.last().unwrap().1;
            assert_eq!(last.severity == Severity::Warn, ends_wrong, "the last word is right");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipeline_removed_and_added_again_within_ten_seconds_has_changed() {
        let mut notifier = ReloadNotifier::default();
        notifier.record("SIGHUP", &Report { changed: names(&["a"]), ..Report::default() });
        event_due(&mut notifier).unwrap();
        notifier.record("SIGHUP", &Report { removed: names(&["a"]), ..Report::default() });
        let report = Report { added: names(&["a", "b"]), ..Report::default() };
        notifier.record("SIGHUP", &report);
        notifier.record("SIGHUP", &Report { changed: names(&["b"]), ..Report::default() });
        notifier.record("SIGHUP", &Report { added: names(&["c"]), ..Report::default() });
        notifier.record("SIGHUP", &Report { removed: names(&["c"]), ..Report::default() });
        advance(NOTIFY_INTERVAL).await;
        let event = event_due(&mut notifier).unwrap();
        assert_eq!(event.message, "pipeline b was added; pipeline a was changed");
    }
}
