//! What agents of before the request log have left in a state folder: read once, so that nothing runs twice. Removes
//! the texts of scripts, and the journal once the log has what is in it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use serde::Deserialize;

use super::Live;
use super::event::{Accepted, Ended, Progress};
use crate::commands::request::SCRIPT;
use crate::files::{StateFolder, folder_of};
use crate::redact::REDACTED;

/// The texts of scripts that ran.
const TEXTS: &str = "scripts";
/// The script journal.
const SCRIPTS: &str = "scripts.jsonl";
/// The most that is read of it, and of the end of each audit file.
const READ_MAX: u64 = 4 << 20;

/// What was found.
#[derive(Default)]
pub(super) struct OldJournal {
    lines: Vec<Line>,
    /// Held for its lock until the log has what is in it.
    journal: Option<File>,
}

/// A line of the journal, which names no event, or of the audit.
#[derive(Deserialize)]
struct Line {
    id: String,
    code: Option<i32>,
    but: Option<String>,
    #[serde(default)]
    event: String,
    #[serde(default)]
    action: String,
}

impl OldJournal {
    /// Looks for it. The audit is read where there is a journal: then no log has what it says.
    ///
    /// # Errors
    /// An agent of before is at work with it.
    pub(super) fn find(folder: &StateFolder, audit: &Path) -> io::Result<Self> {
        if let Err(error) = folder.remove_tree(TEXTS) {
            tracing::warn!(%error, "the texts of scripts that an older agent ran cannot be removed");
        }
        let Ok(mut journal) = folder.open_file(SCRIPTS, OFlags::RDONLY) else {
            return Ok(Self::default());
        };
        rustix::fs::flock(&journal, FlockOperation::NonBlockingLockExclusive)?;
        let mut found = lines(&mut journal);
        let mut before = audit.as_os_str().to_owned();
        before.push(".1");
        let audits = [PathBuf::from(before), audit.to_owned()];
        let commands = audits.iter().filter_map(|path| Some(lines(&mut open(path).ok()?)));
        // Of an id of which the audit has only a part nothing can be told.
        let is_whole = |line: &Line| !line.id.contains(REDACTED) && !line.id.ends_with('…');
        let commands = commands.flatten().filter(|line| line.action != SCRIPT);
        found.extend(commands.filter(|line| !line.event.is_empty() && is_whole(line)));
        Ok(Self { lines: found, journal: Some(journal) })
    }

    /// Adds what the log does not know.
    pub(super) fn import(&self, live: &mut Live) {
        let first = live.state.next();
        for Line { id, code, but, event, action } in &self.lines {
            let is_script = event.is_empty();
            if live.state.number(id).is_none() && (is_script || event == "begin") {
                let action = if is_script { SCRIPT } else { action }.to_owned();
                let accepted = Accepted { id: id.clone(), action, ..Accepted::default() };
                let number = live.accept(accepted);
                live.record(number, Progress::Started);
            }
            let number = live.state.number(id).filter(|number| *number >= first);
            let Some(number) = number else { continue };
            match (event.as_str(), code, but.as_deref()) {
                ("end" | "lost", ..) | ("", None, Some("never")) => {
                    live.record(number, Progress::Withdrawn);
                }
                ("", Some(code), _) => {
                    let ended = Ended { success: *code == 0, exit: Some(*code), has_data: false };
                    live.record(number, Progress::Finished(ended));
                }
                _ => {}
            }
            let is_over = is_script && (code.is_some() || but.is_some());
            if is_over && but.as_deref() != Some("untold") {
                live.record(number, Progress::Acknowledged);
            }
        }
    }

    /// The log has it: the file is not needed any more.
    pub(super) fn done(&self, folder: &StateFolder) {
        if self.journal.is_some()
            && let Err(error) = folder.remove(SCRIPTS)
        {
            tracing::warn!(%error, "{SCRIPTS} of an older agent is read again at the next start");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let name =
        path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    StateFolder::at(folder_of(path)).open_file(name, OFlags::RDONLY)
}

fn lines(file: &mut File) -> Vec<Line> {
    let mut text = Vec::new();
    let from = file.metadata().map_or(0, |metadata| metadata.len().saturating_sub(READ_MAX));
    let read =
        file.seek(SeekFrom::Start(from)).and_then(|_| file.take(READ_MAX).read_to_end(&mut text));
    if let Err(error) = read {
        tracing::warn!(%error, "what an older agent has left cannot be read");
    }
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
