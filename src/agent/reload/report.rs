//! The result of a reload, for the log, the caller and the host.

use serde::{Deserialize, Serialize};

use crate::agent::error::AgentError;

/// The result of a reload. With errors, nothing has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Flows that were not there before.
    pub added: Vec<String>,
    /// Flows whose files have changed.
    pub changed: Vec<String>,
    /// Flows that are no more.
    pub removed: Vec<String>,
    /// Flows that were left alone.
    pub unchanged: Vec<String>,
    /// Sections of the agent's settings that changed and hold from now on.
    pub applied: Vec<String>,
    /// Sections of the agent's settings that changed and are read only at a start.
    pub restart: Vec<String>,
    /// The errors, each with its place and ready to print.
    pub wrong: Vec<String>,
}

impl Report {
    /// Nothing was taken, because of this: each error of the files by itself.
    pub(in crate::agent) fn invalid(error: &AgentError) -> Self {
        let wrong = match error {
            AgentError::Files(errors) => errors.iter().map(ToString::to_string).collect(),
            error => vec![error.to_string()],
        };
        Self { wrong, ..Self::default() }
    }

    /// Whether all is as it was.
    pub(crate) fn changes_nothing(&self) -> bool {
        let Self { added, changed, removed, applied, restart, .. } = self;
        [added, changed, removed, applied, restart].into_iter().all(Vec::is_empty)
    }

    /// Logs the result. A reload that changes nothing is logged at info if a user has requested it (`is_requested`) or if
    /// the files were invalid before, and else at debug.
    pub(in crate::agent) fn log(&self, by: &str, is_requested: bool) {
        for wrong in &self.wrong {
            tracing::warn!(by, "configuration not reloaded, the one in force stays: {wrong}");
        }
        if !self.wrong.is_empty() {
            return;
        }
        if self.changes_nothing() {
            match is_requested {
                true => tracing::info!(by, "configuration is unchanged"),
                false => tracing::debug!(by, "configuration is unchanged"),
            }
            return;
        }
        let names = |names: &[String]| names.join(", ");
        let (added, changed, removed) =
            (names(&self.added), names(&self.changed), names(&self.removed));
        let settings = names(&self.applied);
        tracing::info!(by, added, changed, removed, settings, "configuration reloaded");
        if !self.restart.is_empty() {
            let sections = names(&self.restart);
            tracing::warn!(
                sections,
                "some changed settings are read at a start only: restart the agent"
            );
        }
    }

    /// A line for each kind of change, for a person.
    pub(crate) fn lines(&self) -> String {
        let kinds = [
            ("added", &self.added),
            ("changed", &self.changed),
            ("removed", &self.removed),
            ("unchanged", &self.unchanged),
        ];
        let kinds = kinds.into_iter().filter(|(_, names)| !names.is_empty());
        let mut text: String =
            kinds.map(|(kind, names)| format!("{kind}: {}\n", names.join(", "))).collect();
        for section in &self.applied {
            text += &format!("{section} has changed and holds from now on\n");
        }
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
    fn the_lines_name_changes_and_settings_that_wait_for_a_restart() {
        let report = Report {
            changed: vec!["metrics".to_owned()],
            unchanged: vec!["commands".to_owned(), "lab".to_owned()],
            applied: vec!["[memory]".to_owned()],
            restart: vec!["[runtime]".to_owned()],
            ..Report::default()
        };
        let expected = "changed: metrics\nunchanged: commands, lab\n\
                        [memory] has changed and holds from now on\n\
                        [runtime] has changed and is read at a start: restart the agent\n";
        assert_eq!(report.lines(), expected);
        assert!(!report.changes_nothing());
        let settings = Report { applied: report.applied, ..Report::default() };
        assert!(!settings.changes_nothing());
    }
}
