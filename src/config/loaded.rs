//! What the files hold once they are read and checked.

use super::agent::AgentSettings;
use super::commands::Commands;
use super::error::{ConfigError, Place};
use super::pipeline::PipelineFile;
use super::records::RecordsFile;
use super::write::{Target, Write};

/// The content of the files. Each pipeline has passed every check.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The pipelines to run, in the order they were named, those of a folder by name. No two of
    /// the same name.
    pub pipelines: Vec<Pipeline>,
    /// Pipelines of a folder that are skipped because they generate readings.
    pub skipped: Vec<Pipeline>,
    /// The records pipelines to run, in the order they were named. None has the name of another pipeline.
    pub records: Vec<Pipeline<RecordsFile>>,
    /// The command flow. Without one, no request is executed.
    pub commands: Option<Commands>,
    /// The settings of `agent.toml`, or the defaults.
    pub agent: AgentSettings,
    /// The file of the settings.
    pub agent_origin: Option<String>,
    /// The outputs that each file names: one place for each `[[write]]`, or one for the audit.
    pub outputs: Vec<(String, Vec<Place>)>,
    /// The warnings.
    pub warnings: Vec<ConfigError>,
}

impl Loaded {
    /// What each pipeline of metrics or records that runs writes to: its file, and the number of the section in it.
    pub fn targets(&self) -> impl Iterator<Item = (&str, usize, &Target)> {
        fn of<'a, F>(
            origin: &'a str,
            write: &'a [Write<F>],
        ) -> impl Iterator<Item = (&'a str, usize, &'a Target)> {
            write.iter().enumerate().map(move |(number, write)| (origin, number, &write.target))
        }
        let metrics = self.pipelines.iter().flat_map(|one| of(&one.origin, &one.file.write));
        let records = self.records.iter().flat_map(|one| of(&one.origin, &one.file.write));
        metrics.chain(records)
    }

    /// The file of the pipeline of this name.
    pub(super) fn origin_of(&self, name: &str) -> Option<&str> {
        let metrics = self.pipelines.iter().map(|one| (&one.name, one.origin.as_str()));
        let records = self.records.iter().map(|one| (&one.name, one.origin.as_str()));
        metrics.chain(records).find(|(known, _)| *known == name).map(|(_, origin)| origin)
    }
}

/// One pipeline and its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Pipeline<F = PipelineFile> {
    /// The file's name without `.toml`.
    pub name: String,
    /// The file as it was given, or `built-in:NAME`.
    pub origin: String,
    /// Its content.
    pub file: F,
}
