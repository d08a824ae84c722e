//! Where records come from: `[[read]]`, one file per source.

pub(crate) mod follow;
mod program;
mod stdin;
mod stream;

pub(crate) mod pump;
pub(crate) mod split;

use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

pub(crate) use follow::Pattern;
pub(crate) use program::{Output, Program};
pub(crate) use stdin::Stdin;
pub(crate) use stream::{Listen, Written};

use follow::{Follow, From, Options, Positions};

use crate::files::StateFolder;
use crate::pipeline::BoxSource;
use crate::records::Records;
use crate::records::batch::{Decode, Invalid, ParseAs};
use crate::records::buffers::Buffers;
use crate::sinks::FileOptions;
use crate::values::table::table;
use crate::values::{Period, Problem, Size};

/// One `[[read]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    /// Lines, and from where.
    pub lines: Option<Lines>,
    /// A program whose output is read.
    pub exec: Option<Exec>,
    /// The journal of systemd.
    pub journal: Option<Journal>,
    /// What a line is.
    #[serde(default)]
    pub parse_as: ParseAs,
    /// The longest line that is read; longer ones are skipped.
    #[serde(default = "one_mib")]
    pub max_line: Size,
    /// What becomes of a line that is not what it should be.
    #[serde(default)]
    pub invalid: InvalidLines,
}

/// `invalid` of a `[[read]]`: what becomes of a line that is not what it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvalidLines {
    /// It is dropped.
    #[default]
    Drop,
    /// It becomes the field `message` of a record.
    Keep,
    /// It is written to this file as it is.
    File(#[serde(deserialize_with = "table")] FileOptions),
}

impl Read {
    /// How its lines are to be read, as the source of this number in its file.
    pub fn decode(&self, number: usize) -> Decode {
        let invalid = match self.invalid {
            InvalidLines::Drop => Invalid::Drop,
            InvalidLines::Keep => Invalid::Keep,
            InvalidLines::File(_) => Invalid::SideFile(number),
        };
        Decode { parse_as: self.parse_as, invalid }
    }

    /// The file for lines that are not what they should be.
    pub fn side_file(&self) -> Option<&FileOptions> {
        match &self.invalid {
            InvalidLines::File(options) => Some(options),
            InvalidLines::Drop | InvalidLines::Keep => None,
        }
    }

    /// The source of this number, of the flow `flow`. A position is kept in `state`, or for this run only.
    pub fn source(
        &self,
        number: usize,
        flow: &str,
        state: Option<&StateFolder>,
        buffers: &Buffers,
    ) -> BoxSource<Records> {
        let max_line = usize::try_from(self.max_line.bytes()).unwrap_or(usize::MAX);
        let buffers = buffers.clone();
        let decode = self.decode(number);
        let program = match (&self.lines, &self.exec, &self.journal) {
            (Some(Lines::File(file)), ..) => {
                let FileLines { pattern, from, until_end, keep_position } = file.clone();
                let positions = match state.filter(|_| keep_position) {
                    Some(state) => Positions::kept(state, flow, pattern.as_path()),
                    None => Positions::default(),
                };
                let options = Options { pattern, from, until_end, max_line, buffers };
                return BoxSource::new(Follow::new(options, decode, positions));
            }
            (Some(Lines::Written(place)), ..) => {
                return BoxSource::new(Written::new(place.clone(), decode, max_line, buffers));
            }
            (_, Some(Exec { command, every }), _) => {
                let every = every.map(|every| every.get());
                Program::Exec { command: command.clone(), every }
            }
            (_, _, Some(Journal { units, since })) => {
                Program::Journal { units: units.clone(), since: since.clone() }
            }
            // A file that was checked has one source.
            _ => return BoxSource::new(Stdin::new(decode, max_line, buffers)),
        };
        let positions = match (state, &program) {
            (Some(state), Program::Journal { .. }) => {
                Positions::kept(state, flow, program.source().as_ref())
            }
            _ => Positions::default(),
        };
        BoxSource::new(Output::new(program, decode, max_line, buffers, positions))
    }

    /// What is wrong with it as a whole.
    ///
    /// # Errors
    /// It has not exactly one source, or one of no use.
    pub fn check(&self) -> Result<(), Problem> {
        let Self { lines, exec, journal, .. } = self;
        let help = "write one of lines = { … }, exec = { … } and journal = { … }";
        match u8::from(lines.is_some()) + u8::from(exec.is_some()) + u8::from(journal.is_some()) {
            0 => return Err(Problem::new("names no source", help)),
            1 => {}
            _ => return Err(Problem::new("names several sources", "write a [[read]] for each")),
        }
        let is_empty = |exec: &Exec| exec.command.first().is_none_or(String::is_empty);
        if exec.as_ref().is_some_and(is_empty) {
            let help = "write the program and its arguments, as in command = [\"vmstat\", \"1\"]";
            return Err(Problem::new("has no command", help));
        }
        let texts = journal.iter().flat_map(|journal| journal.units.iter().chain(&journal.since));
        match texts.into_iter().find(|text| text.is_empty() || text.contains('\0')) {
            Some(_) => Err(Problem::new("has an empty text", "leave it out")),
            None => Ok(()),
        }
    }
}

/// `exec = { … }`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The program and its arguments; no shell.
    pub command: Vec<String>,
    /// How often it is run; else it is kept running.
    pub every: Option<Period>,
}

/// `journal = { … }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// Units whose entries are read; none for all.
    #[serde(default)]
    pub units: Vec<String>,
    /// Where it begins the first time, as `journalctl --since` takes it.
    pub since: Option<String>,
}

/// `lines = { … }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lines {
    /// Standard input, to its end.
    Stdin,
    /// Files that are followed.
    File(FileLines),
    /// What programs write to a FIFO or a socket of this agent.
    Written(Listen),
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
    fifo: Option<String>,
    unix: Option<String>,
    datagram: Option<String>,
    from: Option<From>,
    until_end: Option<bool>,
    keep_position: Option<bool>,
}

impl LinesTable {
    fn source(self) -> Result<Lines, Problem> {
        let Self { stdin, file, fifo, unix, datagram, from, until_end, keep_position } = self;
        let place = |path: String, place: fn(PathBuf) -> Listen| match path.starts_with('/') {
            true if path.len() <= 107 => Ok(Lines::Written(place(path.into()))), // sun_path of unix(7)
            true => Err(Problem::new("is too long", "107 bytes are the most")),
            false => Err(Problem::new("is no absolute path", "begin it with a /")),
        };
        let has_options = from.is_some() || until_end.is_some() || keep_position.is_some();
        if file.is_none() && has_options {
            return Err(Problem::new("has options of files", "name a file, or leave them out"));
        }
        match (stdin, file, fifo, unix, datagram) {
            (None, Some(file), None, None, None) => Ok(Lines::File(FileLines {
                pattern: Pattern::new(&file)?,
                from: from.unwrap_or_default(),
                until_end: until_end.unwrap_or_default(),
                keep_position: keep_position.unwrap_or(true),
            })),
            (Some(true), None, None, None, None) => Ok(Lines::Stdin),
            (None, None, Some(path), None, None) => place(path, Listen::Fifo),
            (None, None, None, Some(path), None) => place(path, Listen::Unix),
            (None, None, None, None, Some(path)) => place(path, Listen::Datagram),
            (None | Some(false), None, None, None, None) => {
                let help = "write one of stdin = true, file, fifo, unix and datagram = \"PATH\"";
                Err(Problem::new("names no source", help))
            }
            _ => Err(Problem::new("names several sources", "write a [[read]] for each")),
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
