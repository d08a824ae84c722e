//! What came of a reload, for the log, the host and whoever asked. Decides nothing.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::wire::outbound::{AgentEvent, Severity};

/// What came of a reload. Where something is wrong, nothing has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Flows that were not there before.
    pub added: Vec<String>,
    /// Flows whose files say something else now.
    pub changed: Vec<String>,
    /// Flows that are no more.
    pub removed: Vec<String>,
    /// Flows that were left alone.
    pub unchanged: Vec<String>,
    /// Sections of the agent's settings that changed and are read only at a start.
    pub restart: Vec<String>,
    /// What is wrong, each as it is shown to a person, with its place.
    pub wrong: Vec<String>,
}

impl Report {
    /// Nothing was taken, because of this.
    pub fn of_wrong(wrong: Vec<String>) -> Self {
        Self { wrong, ..Self::default() }
    }

    /// Whether all is as it was.
    pub fn changes_nothing(&self) -> bool {
        let Self { added, changed, removed, restart, .. } = self;
        [added, changed, removed, restart].into_iter().all(Vec::is_empty)
    }

    /// Writes it into the log. What changes nothing is news where somebody asked (`is_asked`), or where the files
    /// were wrong before.
    pub(super) fn log(&self, by: &str, is_asked: bool) {
        for wrong in &self.wrong {
            tracing::warn!(by, "files are not taken, all goes on as it was: {wrong}");
        }
        if !self.wrong.is_empty() {
            return;
        }
        if self.changes_nothing() {
            match is_asked {
                true => tracing::info!(by, "files say the same as before"),
                false => tracing::debug!(by, "files say the same as before"),
            }
            return;
        }
        let names = |names: &[String]| names.join(", ");
        let (added, changed, removed) =
            (names(&self.added), names(&self.changed), names(&self.removed));
        tracing::info!(by, added, changed, removed, "files are taken");
        if !self.restart.is_empty() {
            let sections = names(&self.restart);
            tracing::warn!(
                sections,
                "settings have changed that are read at a start; restart the agent"
            );
        }
    }

    /// What the host is told: where something is wrong, and the first time it is not (`was_wrong`).
    pub(super) fn event(&self, by: &str, was_wrong: bool) -> Option<AgentEvent> {
        let Some(first) = self.wrong.first() else { return was_wrong.then(|| self.right(by)) };
        let first = first.lines().next()?;
        let more = match self.wrong.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        Some(AgentEvent {
            severity: Severity::Warn,
            source: "reload",
            message: format!(
                "the pipeline files are not taken, all goes on as it was: {first}{more}"
            ),
            execution_id: None,
            context: Some(json!({ "by": by, "wrong": self.wrong })),
        })
    }

    fn right(&self, by: &str) -> AgentEvent {
        let as_before = if self.changes_nothing() { ", and say the same as before" } else { "" };
        let Self { added, changed, removed, restart, .. } = self;
        AgentEvent {
            severity: Severity::Info,
            source: "reload",
            message: format!("the pipeline files are right again{as_before}"),
            execution_id: None,
            context: Some(json!({
                "by": by, "added": added, "changed": changed, "removed": removed, "restart": restart,
            })),
        }
    }

    /// A line for each kind of change, for a person.
    pub fn lines(&self) -> String {
        let kinds = [
            ("added", &self.added),
            ("changed", &self.changed),
            ("removed", &self.removed),
            ("unchanged", &self.unchanged),
        ];
        let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        let mut text: String =
            kinds.map(|(kind, names)| format!("{kind}: {}\n", names.join(", "))).collect();
        for section in &self.restart {
            text += &format!("{section} has changed and is read at a start: restart the agent\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_what_changed_and_what_waits_for_a_restart() {
        let report = Report {
            changed: vec!["metrics".to_owned()],
            unchanged: vec!["commands".to_owned(), "lab".to_owned()],
            restart: vec!["[runtime]".to_owned()],
            ..Report::default()
        };
        let expected = "changed: metrics\nunchanged: commands, lab\n\
                        [runtime] has changed and is read at a start: restart the agent\n";
        assert_eq!(report.lines(), expected);
        assert!(!report.changes_nothing());
        assert_eq!(report.event("SIGHUP", false), None);
    }

    #[test]
    fn the_host_is_told_the_first_mistake_and_all_of_them_beside_it() {
        let wrong = ["a.toml:3:1: no\n  |\n3 | x", "b.toml: none"].map(str::to_owned).to_vec();
        let event = Report::of_wrong(wrong).event("SIGHUP", false).unwrap();
        assert!(event.message.ends_with("as it was: a.toml:3:1: no (and 1 more)"));
        assert_eq!(event.context.unwrap()["wrong"][1], "b.toml: none");
    }

    #[test]
    fn the_host_is_told_once_that_the_files_are_right_again() {
        let same = Report { unchanged: vec!["metrics".to_owned()], ..Report::default() };
        let event = same.event("SIGHUP", true).unwrap();
        assert_eq!(event.severity, Severity::Info);
        assert!(event.message.ends_with("right again, and say the same as before"));
        let other = Report { changed: vec!["metrics".to_owned()], ..Report::default() };
        let event = other.event("SIGHUP", true).unwrap();
        assert!(event.message.ends_with("right again"));
        assert_eq!(event.context.unwrap()["changed"][0], "metrics");
    }
}
