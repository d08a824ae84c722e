//! Where records come from: `[[read]]`, one file per source.

pub mod follow;
mod stdin;

pub(crate) mod split;

use serde::{Deserialize, Deserializer};

pub use stdin::Stdin;

use follow::{Follow, From, Options, Pattern, Positions};

use crate::files::StateFolder;
use crate::pipeline::BoxSource;
use crate::records::Records;
use crate::records::batch::{Decode, Invalid, ParseAs};
use crate::records::buffers::Buffers;
use crate::values::{Problem, Size};

/// One `[[read]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Lines, and from where.
    pub lines: Lines,
    /// What a line is.
    #[serde(default)]
    pub parse_as: ParseAs,
    /// The longest line that is read; longer ones are skipped.
    #[serde(default = "one_mib")]
    pub max_line: Size,
    /// What becomes of a line that is not what it should be.
    #[serde(default)]
    pub invalid: Invalid,
}

impl Read {
    /// How its lines are to be read.
    pub fn decode(&self) -> Decode {
        Decode { parse_as: self.parse_as, invalid: self.invalid }
    }

    /// The source, of the flow `flow`. A position is kept in `state`, or for this run only.
    pub fn source(
        &self,
        flow: &str,
        state: Option<&StateFolder>,
        buffers: &Buffers,
    ) -> BoxSource<Records> {
        let max_line = usize::try_from(self.max_line.bytes()).unwrap_or(usize::MAX);
        let buffers = buffers.clone();
        match &self.lines {
            Lines::Stdin => BoxSource::new(Stdin::new(self.decode(), max_line, buffers)),
            Lines::File(file) => {
                let FileLines { pattern, from, until_end, keep_position } = file.clone();
                let positions = match state.filter(|_| keep_position) {
                    Some(state) => Positions::kept(state, flow, pattern.as_path()),
                    None => Positions::default(),
                };
                let options = Options { pattern, from, until_end, max_line, buffers };
                BoxSource::new(Follow::new(options, self.decode(), positions))
            }
        }
    }
}

/// `lines = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {
    /// Standard input, to its end.
    Stdin,
    /// Files that are followed.
    File(FileLines),
}

/// `lines = { file = … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLines {
    /// The files.
    pub pattern: Pattern,
    /// Where files begin that are there at the first start.
    pub from: From,
    /// Whether to end at the end of what is there.
    pub until_end: bool,
    /// Whether the position is kept over restarts.
    pub keep_position: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinesTable {
    stdin: Option<bool>,
    file: Option<String>,
    from: Option<From>,
    until_end: Option<bool>,
    keep_position: Option<bool>,
}

impl LinesTable {
    fn source(self) -> Result<Lines, Problem> {
        let Self { stdin, file, from, until_end, keep_position } = self;
        let help = "write one of stdin = true and file = \"/var/log/app/*.ndjson\"";
        match (stdin, file) {
            (None, Some(file)) => Ok(Lines::File(FileLines {
                pattern: Pattern::new(&file)?,
                from: from.unwrap_or_default(),
                until_end: until_end.unwrap_or_default(),
                keep_position: keep_position.unwrap_or(true),
            })),
            (Some(true), None)
                if from.is_some() || until_end.is_some() || keep_position.is_some() =>
            {
                Err(Problem::new("has options of files", "leave all but stdin = true out"))
            }
            (Some(true), None) => Ok(Lines::Stdin),
            (Some(_), Some(_)) => Err(Problem::new("names two sources", "write two [[read]]")),
            (Some(false) | None, None) => Err(Problem::new("names no source", help)),
        }
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LinesTable::deserialize(deserializer)?.source().map_err(Problem::pack)
    }
}

fn one_mib() -> Size {
    Size::kib(1024)
}
