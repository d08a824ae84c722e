//! Which scripts have begun and ended, on disk: so that each runs once, also when the agent or the
//! machine stops in the middle, and is told of then. Keeps no output. Blocks: not for an async worker.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::files::StateFolder;
use crate::life;

/// The file's name in the state folder.
pub const NAME: &str = "scripts.jsonl";
/// The one that takes its place.
const BESIDE: &str = "scripts.new";

/// Scripts that are remembered after the file was written anew.
pub const SCRIPTS_KEPT: usize = 1_024;

/// Lines after which the file is written anew, with the last scripts only.
const LINES_MAX: usize = 8 * SCRIPTS_KEPT;

/// More than a file of this program can have; what is behind it is not read.
const BYTES_MAX: u64 = 16 << 20;

/// A line of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    id: String,
    /// Absent: it has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    /// What else became of one that has begun; to an agent that does not know the word it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    but: Option<But>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum But {
    /// It was cut by the end of the agent, and the host was told.
    Told,
    /// It ended, and the host may not have been told.
    Untold,
    /// Nothing of it was done.
    Never,
}

/// Another line: which machine wrote those that follow.
#[derive(Debug, Serialize, Deserialize)]
struct By {
    machine: String,
}

/// What became of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    /// As it was told.
    Told,
    Ended {
        code: i32,
        is_told: bool,
    },
}

/// What is known of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It has not begun before; now it has.
    Never,
    /// It began and its end was not written: the agent or the machine stopped.
    Begun,
    /// It ended with this code.
    Ended(i32),
}

/// An append-only file of begun and ended scripts.
///
/// # Promise
/// [`begin`](Self::begin) is on the disk before it returns, so a script that may have run is never
/// taken for a new one. A last line that was cut by a crash is ended, and ignored. Bounded: after
/// 8,192 lines the file is written anew with the last 1,024 scripts, by a rename.
///
/// It is locked (`flock`) for as long as this lives: of two agents that each know half of what has run, both would
/// run the other half. The lock goes with its process, however that ends.
///
/// Where the file is removed while this lives, it is made again, with the last 1,024 scripts, before the next line.
#[derive(Debug)]
pub struct Journal {
    state: StateFolder,
    /// None: in memory only.
    file: Option<File>,
    known: HashMap<String, State>,
    /// Ids in the order of their begin.
    order: Vec<String>,
    lines: usize,
    /// Which machine this is.
    machine: String,
    is_copy: bool,
    /// Those that the end of an earlier agent has cut.
    cut: Vec<(String, Before)>,
}

impl Journal {
    /// Opens the file in the state folder, or makes it, as [`StateFolder::open_file`] does.
    ///
    /// # Errors
    /// It cannot be opened, or is not the agent's own; or another process has it
    /// ([`WouldBlock`](io::ErrorKind::WouldBlock)).
    pub fn open(state: impl Into<StateFolder>) -> io::Result<Self> {
        Self::open_on(state, &life::identity(Path::new("/")))
    }

    /// The same for a machine with this identity.
    pub(super) fn open_on(state: impl Into<StateFolder>, machine: &str) -> io::Result<Self> {
        let state = state.into();
        let mut file = state.open_file(NAME, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)?;
        lock(&file)?;
        if !state.names(NAME, &file) {
            return Err(io::ErrorKind::WouldBlock.into()); // written anew by another at this moment
        }
        let mut text = Vec::new();
        (&mut file).take(BYTES_MAX).read_to_end(&mut text)?;
        if text.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        let mut journal = Self { state, ..Self::in_memory() };
        let mut by = None;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            journal.lines += 1;
            if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
                journal.note(entry);
            } else if let Ok(By { machine }) = serde_json::from_slice(line) {
                by = Some(machine);
            }
        }
        machine.clone_into(&mut journal.machine);
        let is_same = by.as_deref() == Some(machine);
        journal.is_copy = !is_same && by.is_some();
        if !is_same && let Err(error) = line_of(&journal.by()).and_then(|by| append(&mut file, &by))
        {
            tracing::warn!(%error, "a copy of this machine would not be known from its scripts");
        }
        journal.file = Some(file);
        journal.begin_life();
        Ok(journal)
    }

    /// A journal without a file, which lasts as long as it is not dropped: for a simulation.
    pub fn in_memory() -> Self {
        Self {
            state: StateFolder::at(""),
            file: None,
            known: HashMap::new(),
            order: Vec::new(),
            lines: 0,
            machine: String::new(),
            is_copy: false,
            cut: Vec::new(),
        }
    }

    /// As when it is opened by an agent that begins: for a simulation.
    pub fn begin_life(&mut self) {
        let cut = |id: &String| match self.known.get(id)? {
            State::Begun => Some((id.clone(), Before::Begun)),
            State::Ended { code, is_told: false } => Some((id.clone(), Before::Ended(*code))),
            State::Told | State::Ended { .. } => None,
        };
        self.cut = self.order.iter().filter_map(cut).collect();
    }

    /// The scripts that had begun when an earlier agent ended, and of which nobody was told, oldest first; once.
    pub fn take_cut(&mut self) -> Vec<(String, Before)> {
        std::mem::take(&mut self.cut)
    }

    /// Whether the file was written by another machine, of which this one is a copy.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// Whether its calls can take as long as a disk does.
    pub fn blocks(&self) -> bool {
        self.file.is_some()
    }

    /// Writes down that `id` begins, unless it is known.
    ///
    /// # Errors
    /// It could not be written: then it must not run.
    pub fn begin(&mut self, id: &str) -> io::Result<Before> {
        match self.known.get(id) {
            Some(State::Ended { code, .. }) => Ok(Before::Ended(*code)),
            Some(State::Begun | State::Told) => Ok(Before::Begun),
            None => {
                self.write(Entry { id: id.to_owned(), code: None, but: None })?;
                Ok(Before::Never)
            }
        }
    }

    /// Writes down that `id` has ended, and that the host is still to be told.
    ///
    /// # Errors
    /// It could not be written: after a restart it counts as interrupted.
    pub fn end(&mut self, id: &str, code: i32) -> io::Result<()> {
        self.write(Entry { id: id.to_owned(), code: Some(code), but: Some(But::Untold) })
    }

    /// Writes down that nothing was done of `id`, which has begun: it may begin again.
    ///
    /// # Errors
    /// It could not be written: it counts as interrupted.
    pub fn forget(&mut self, id: &str) -> io::Result<()> {
        self.write(Entry { id: id.to_owned(), code: None, but: Some(But::Never) })
    }

    /// Writes down that the host was told of `id`, that it ended or was interrupted.
    ///
    /// # Errors
    /// It could not be written: after a restart the host is told once more.
    pub fn told(&mut self, id: &str) -> io::Result<()> {
        let (code, but) = match self.known.get(id) {
            Some(State::Begun) => (None, Some(But::Told)),
            Some(State::Ended { code, is_told: false }) => (Some(*code), None),
            _ => return Ok(()),
        };
        self.write(Entry { id: id.to_owned(), code, but })
    }

    fn write(&mut self, entry: Entry) -> io::Result<()> {
        if self.lines >= LINES_MAX || !self.is_there() {
            self.renew()?;
        }
        if let Some(file) = &mut self.file {
            append(file, &line_of(&entry)?)?;
        }
        self.lines += 1;
        self.note(entry);
        Ok(())
    }

    /// Whether the state folder still has the open file.
    fn is_there(&self) -> bool {
        self.file.as_ref().is_none_or(|file| self.state.names(NAME, file))
    }

    fn note(&mut self, Entry { id, code, but }: Entry) {
        let state = match (code, but) {
            (Some(code), but) => State::Ended { code, is_told: but.is_none() },
            (None, Some(But::Told)) => State::Told,
            (None, None | Some(But::Untold)) => State::Begun,
            (None, Some(But::Never)) => {
                self.known.remove(&id);
                return self.order.retain(|known| *known != id);
            }
        };
        if self.known.insert(id.clone(), state).is_none() {
            self.order.push(id);
        }
    }

    fn by(&self) -> By {
        By { machine: self.machine.clone() }
    }

    /// Writes the last scripts to a new file, which takes the old one's place at once or not at all.
    fn renew(&mut self) -> io::Result<()> {
        let forgotten = self.order.len().saturating_sub(SCRIPTS_KEPT);
        let kept = &self.order[forgotten..];
        if self.file.is_some() {
            let mut text = line_of(&self.by())?;
            for id in kept {
                let (code, but) = match self.known.get(id) {
                    Some(State::Ended { code, is_told }) => {
                        (Some(*code), (!is_told).then_some(But::Untold))
                    }
                    Some(State::Told) => (None, Some(But::Told)),
                    Some(State::Begun) | None => (None, None),
                };
                text.extend(line_of(&Entry { id: id.clone(), code, but })?);
            }
            self.file = Some(self.replace_file(&text)?);
        }
        for id in self.order.drain(..forgotten) {
            self.known.remove(&id);
        }
        self.lines = self.order.len() + 1;
        Ok(())
    }

    fn replace_file(&self, text: &[u8]) -> io::Result<File> {
        if !self.is_there() {
            self.is_free()?;
        }
        self.state.remove(BESIDE)?;
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL;
        let mut file = self.state.open_file(BESIDE, flags)?;
        lock(&file)?;
        file.write_all(text)?;
        file.sync_all()?;
        self.state.rename(BESIDE, NAME)?;
        self.state.sync()?;
        Ok(file)
    }

    /// Whether another file may be made in place of the one that was removed: not where another agent has made one.
    fn is_free(&self) -> io::Result<()> {
        match self.state.open_file(NAME, OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(other) => match lock(&other) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::Error::other(
                    "another agent has made a file in its place; stop it, and start this one again",
                )),
                locked => locked,
            },
        }
    }
}

/// Does `act`, on the blocking pool where it can take as long as a disk does.
///
/// # Errors
/// The end of a sentence.
pub async fn on<T: Send + 'static>(
    journal: &Arc<Mutex<Journal>>,
    act: impl FnOnce(&mut Journal) -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let journal = Arc::clone(journal);
    let blocks = journal.lock().unwrap_or_else(PoisonError::into_inner).blocks();
    let act = move || act(&mut journal.lock().unwrap_or_else(PoisonError::into_inner));
    let done = match blocks {
        true => spawn_blocking(act).await.map_err(|error| error.to_string())?,
        false => act(),
    };
    done.map_err(|error| error.to_string())
}

fn line_of(line: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    Ok(line)
}

fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?)
}

fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let before = file.metadata()?.len();
    let written = file.write_all(line).and_then(|()| file.sync_data());
    if written.is_err() {
        let _ = file.set_len(before); // a half line is ended when the file is opened
    }
    written
}

#[cfg(test)]
mod tests;
