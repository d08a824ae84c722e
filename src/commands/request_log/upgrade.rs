//! What agents of before the request log have left in a state folder: read once, so that nothing runs twice. Changes
//! nothing but the name of the file that was read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags};
use serde::Deserialize;

use super::Live;
use super::event::{Accepted, Ended, Event};
use super::now_ms;
use crate::commands::decode::SCRIPT;
use crate::files::{StateFolder, folder_of};
use crate::redact::REDACTED;

/// The script journal.
const SCRIPTS: &str = "scripts.jsonl";
/// The most that is read of it, and of the end of each audit file.
const READ_MAX: u64 = 4 << 20;

/// What was found.
#[derive(Default)]
pub(super) struct Old {
    scripts: Vec<Line>,
    commands: Vec<Line>,
    /// Held for its lock until the log has what is in it.
    journal: Option<File>,
}

/// A line of the journal, or of the audit.
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

impl Old {
    /// Looks for it. The audit is read where there is a journal: then no log has what it says.
    ///
    /// # Errors
    /// An agent of before is at work with it.
    pub fn find(folder: &StateFolder, audit: &Path) -> io::Result<Self> {
        let Ok(mut journal) = folder.open_file(SCRIPTS, OFlags::RDONLY) else {
            return Ok(Self::default());
        };
        rustix::fs::flock(&journal, FlockOperation::NonBlockingLockExclusive)?;
        let scripts = lines(&mut journal);
        let mut before = audit.as_os_str().to_owned();
        before.push(".1");
        let audits = [PathBuf::from(before), audit.to_owned()];
        let commands = audits.iter().filter_map(|path| Some(lines(&mut open(path).ok()?)));
        let commands = commands.flatten().filter(|line| line.action != SCRIPT).collect();
        Ok(Self { scripts, commands, journal: Some(journal) })
    }

    /// Adds what the log does not know.
    pub fn import(&self, live: &mut Live) {
        let is_new = |live: &Live, line: &Line| live.state.number(&line.id).is_none();
        let start = |live: &mut Live, line: &Line| {
            let (id, is_script) = (line.id.clone(), line.event.is_empty());
            let action = if is_script { SCRIPT.to_owned() } else { line.action.clone() };
            let number = live.state.next();
            live.push(Event::Accepted(number, Accepted { id, action, is_script }), now_ms());
            live.push(Event::Started(number), now_ms());
        };
        let before = live.state.next();
        let ours = |live: &Live, line: &Line| live.state.number(&line.id).filter(|n| *n >= before);
        for line in &self.scripts {
            if is_new(live, line) {
                start(live, line);
            }
            let Some(number) = ours(live, line) else { continue };
            match (line.code, line.but.as_deref()) {
                (None, Some("never")) => live.push(Event::Withdrawn(number), now_ms()),
                (Some(code), _) => {
                    let ended = Ended { success: code == 0, exit: Some(code), has_data: false };
                    live.push(Event::Finished(number, ended), now_ms());
                }
                (None, _) => {}
            }
            let is_told = line.but.as_deref() == Some("told");
            if is_told || (line.code.is_some() && line.but.is_none()) {
                live.push(Event::Acknowledged(number), now_ms());
            }
        }
        // Of an id of which the audit has only a part nothing can be told.
        let is_whole = |line: &&Line| !line.id.contains(REDACTED) && !line.id.ends_with('…');
        for line in self.commands.iter().filter(is_whole) {
            match line.event.as_str() {
                "begin" if is_new(live, line) => start(live, line),
                "end" | "lost" => {
                    if let Some(number) = ours(live, line) {
                        live.push(Event::Withdrawn(number), now_ms());
                    }
                }
                _ => {}
            }
        }
    }

    /// The log has it: the file gets another name, and is not read again.
    pub fn done(&self, folder: &StateFolder) {
        if self.journal.is_some()
            && let Err(error) = folder.rename(SCRIPTS, "scripts.jsonl.old")
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
