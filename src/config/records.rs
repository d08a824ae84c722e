//! A records file as a type: read → transform → batch → serialize → write.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::check::{Broken, Check, Step, somewhere_to_write};
use super::table::{one_or_many, table, tables};
use super::value::text_or_none;
use super::variant::words;
use super::warnings;
use super::write::{self, Write};
use crate::pipeline::MemoryBudget;
use crate::records::batch::Limits;
use crate::records::read::{Lines, Pattern, Read};
use crate::records::serialize::Format;
use crate::records::transform::{Pass, Stage};

/// One records file. What makes a file one is `[[read]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordsFile {
    /// The purpose, for people.
    #[serde(default, deserialize_with = "text_or_none")]
    pub about: Option<String>,
    /// The sources; all go into one channel. Never empty.
    #[serde(default, deserialize_with = "tables")]
    pub read: Vec<Read>,
    /// The stages, in the order of the file.
    #[serde(default, deserialize_with = "words")]
    pub transform: Vec<Stage>,
    /// When a batch is complete.
    #[serde(default, deserialize_with = "table")]
    pub batch: Limits,
    /// The format of frames.
    #[serde(default, deserialize_with = "table")]
    pub serialize: SerializeRecords,
    /// Where frames go: `[write]`, or several `[[write]]`. Never empty.
    #[serde(default, deserialize_with = "one_or_many")]
    pub write: Vec<Write<Format>>,
}

/// `[serialize]` of a records file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SerializeRecords {
    /// The format of frames.
    pub format: Format,
}

use Step::{Item, Key};

impl Check for RecordsFile {
    fn check(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        if self.read.is_empty() {
            let help = "add a section, as in [[read]] lines = { stdin = true }";
            broken.push(Broken::new(&[], "nothing is read", help).missing());
        }
        for (index, read) in self.read.iter().enumerate() {
            if let Err(problem) = read.check() {
                let message = format!("this {}", problem.what);
                broken.push(Broken::new(&[Key("read"), Item(index)], message, problem.help));
            }
        }
        if let Err((index, problem)) =
            Pass::new(&self.transform, self.batch, &MemoryBudget::default())
        {
            let message = format!("this {}", problem.what);
            let name = self.transform.get(index).map(|stage| Key(stage.name()));
            let path: Vec<Step> = [Key("transform"), Item(index)].into_iter().chain(name).collect();
            broken.push(Broken::new(&path, message, problem.help));
        }
        for (index, write) in self.write.iter().enumerate() {
            // A sink with a format of its own takes readings.
            if write.target.sink().is_some_and(|sink| sink.format().is_some()) {
                let path = [Key("write"), Item(index), Key(write.target.name())];
                let help = "write them to a file, a socket or a port";
                broken.push(Broken::new(&path, "records have no metrics to serve", help));
            }
        }
        broken.extend(somewhere_to_write(&self.write));
        broken
    }

    fn warnings(&self) -> Vec<Broken> {
        let mut warnings_found = Vec::new();
        for (index, write) in self.write.iter().enumerate() {
            warnings::output(write, self.batch.max_bytes.bytes(), index, &mut warnings_found);
            if let Some(used) = write.target.written() {
                let target = [Key("write"), Item(index), Key(write.target.name())];
                let path: Vec<Step> = target.into_iter().chain(used.key.map(Key)).collect();
                self.read_again(used.path, &path, &mut warnings_found);
            }
        }
        for (index, read) in self.read.iter().enumerate() {
            if let Some(file) = read.side_file() {
                let place = [Key("read"), Item(index), Key("invalid"), Key("file")];
                warnings::sink(file, &place, &mut warnings_found);
                self.read_again(&file.path, &place, &mut warnings_found);
            }
        }
        warnings_found
    }
}

impl RecordsFile {
    /// The format of what `write` writes.
    pub fn format_of(&self, write: &Write<Format>) -> Format {
        write.format.unwrap_or(self.serialize.format)
    }

    /// The formats of all outputs, each once, in the order of the file.
    pub fn formats(&self) -> Vec<Format> {
        write::formats(&self.write, self.serialize.format)
    }

    fn read_again(&self, path: &Path, at: &[Step], warnings_found: &mut Vec<Broken>) {
        if self.reads(path) {
            let message = "this pipeline reads the file that it writes: each record comes again";
            warnings_found.push(Broken::new(at, message, "write to a file that no [[read]] names"));
        }
    }

    /// Whether a source follows the file at `path`, or what it is rotated into. Reads the file system.
    fn reads(&self, path: &Path) -> bool {
        let written = real(path);
        let mut rotated = written.clone().into_os_string();
        rotated.push(".1");
        let rotated = PathBuf::from(rotated);
        self.read.iter().any(|read| match &read.lines {
            Some(Lines::File(file)) => {
                let pattern = real(file.pattern.as_path());
                let pattern = Pattern::new(&pattern.to_string_lossy());
                let spelled = file.pattern.names(path);
                spelled || pattern.is_ok_and(|real| real.names(&written) || real.names(&rotated))
            }
            _ => false,
        })
    }
}

/// The path without links in its folder, where the folder is there.
fn real(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    match (folder, path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
