//! Which scripts have begun and ended, on disk: so that each runs once, also when the agent or the
//! machine stops in the middle. Keeps no output. Blocks: not for an async worker.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

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
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None: in memory only.
    file: Option<File>,
    known: HashMap<String, Option<i32>>,
    /// Ids in the order of their begin.
    order: Vec<String>,
    lines: usize,
}

impl Journal {
    /// Opens the file at `path` with mode 0600, or makes it; its folder is made where it is missing.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file; or another process has it
    /// ([`WouldBlock`](io::ErrorKind::WouldBlock)).
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = private().read(true).append(true).create(true).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        lock(&file)?;
        if file.metadata()?.nlink() == 0 {
            return Err(io::ErrorKind::WouldBlock.into()); // written anew by another at this moment
        }
        let mut text = Vec::new();
        (&mut file).take(BYTES_MAX).read_to_end(&mut text)?;
        if text.last().is_some_and(|last| *last != b'\n') {
            file.write_all(b"\n")?;
        }
        let mut journal = Self { path: path.to_owned(), file: Some(file), ..Self::in_memory() };
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            journal.lines += 1;
            if let Ok(entry) = serde_json::from_slice::<Entry>(line) {
                journal.note(entry);
            }
        }
        Ok(journal)
    }

    /// A journal without a file, which lasts as long as it is not dropped: for a simulation.
    pub fn in_memory() -> Self {
        let (known, order, lines) = (HashMap::new(), Vec::new(), 0);
        Self { path: PathBuf::new(), file: None, known, order, lines }
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
            Some(Some(code)) => Ok(Before::Ended(*code)),
            Some(None) => Ok(Before::Begun),
            None => {
                self.write(Entry { id: id.to_owned(), code: None })?;
                Ok(Before::Never)
            }
        }
    }

    /// Writes down that `id` has ended.
    ///
    /// # Errors
    /// It could not be written: after a restart it counts as interrupted.
    pub fn end(&mut self, id: &str, code: i32) -> io::Result<()> {
        self.write(Entry { id: id.to_owned(), code: Some(code) })
    }

    fn write(&mut self, entry: Entry) -> io::Result<()> {
        if self.lines >= LINES_MAX {
            self.renew()?;
        }
        if let Some(file) = &mut self.file {
            append(file, &entry)?;
        }
        self.lines += 1;
        self.note(entry);
        Ok(())
    }

    fn note(&mut self, Entry { id, code }: Entry) {
        if self.known.insert(id.clone(), code).is_none() {
            self.order.push(id);
        }
    }

    /// Writes the last scripts to a new file, which takes the old one's place at once or not at all.
    fn renew(&mut self) -> io::Result<()> {
        let forgotten = self.order.len().saturating_sub(SCRIPTS_KEPT);
        let kept: Vec<String> = self.order.split_off(forgotten);
        let mut text = Vec::new();
        let mut known = HashMap::new();
        for id in &kept {
            let code = self.known.get(id).copied().flatten();
            serde_json::to_writer(&mut text, &Entry { id: id.clone(), code })?;
            text.push(b'\n');
            known.insert(id.clone(), code);
        }
        if self.file.is_some() {
            self.file = Some(self.replace_file(&text)?);
        }
        self.lines = kept.len();
        (self.known, self.order) = (known, kept);
        Ok(())
    }

    fn replace_file(&self, text: &[u8]) -> io::Result<File> {
        let new = self.path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().append(true).create_new(true).open(&new)?;
        lock(&file)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    }
}

fn lock(file: &File) -> io::Result<()> {
    Ok(rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?)
}

fn append(file: &mut File, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let before = file.metadata()?.len();
    let written = file.write_all(&line).and_then(|()| file.sync_data());
    if written.is_err() {
        let _ = file.set_len(before); // a half line is ended when the file is opened
    }
    written
}

/// Mode 0600, and no symbolic link in its place is followed.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = rustix::fs::OFlags::NOFOLLOW.bits() | rustix::fs::OFlags::NONBLOCK.bits();
    options.mode(0o600).custom_flags(flags.cast_signed());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_begins_once_also_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/scripts.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.begin("a").unwrap(), Before::Never);
        assert_eq!(journal.begin("b").unwrap(), Before::Never);
        journal.end("a", 7).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.begin("a").unwrap(), Before::Ended(7));
        assert_eq!(journal.begin("b").unwrap(), Before::Begun);
        assert_eq!(journal.begin("c").unwrap(), Before::Never);
    }

    #[test]
    fn whatever_a_crash_leaves_of_the_last_line_the_lines_before_it_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scripts.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.begin("first").unwrap();
        journal.end("first", 0).unwrap();
        journal.begin("second").unwrap();
        drop(journal);
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().rposition(|byte| *byte == b'{').unwrap();
        for cut in second..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            assert_eq!(journal.begin("first").unwrap(), Before::Ended(0));
            let known = if cut >= whole.len() - 1 { Before::Begun } else { Before::Never };
            assert_eq!(journal.begin("second").unwrap(), known, "cut at {cut}");
            drop(journal);
            assert_eq!(Journal::open(&path).unwrap().begin("second").unwrap(), Before::Begun);
        }
    }

    #[test]
    fn the_file_stays_small_and_the_last_scripts_stay_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scripts.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        // Without its syncs this would be quick; the file is what matters.
        for number in 0..LINES_MAX + 10 {
            journal.note(Entry { id: number.to_string(), code: Some(0) });
            journal.lines += 1;
        }
        journal.begin("last").unwrap();
        assert!(journal.lines <= SCRIPTS_KEPT + 1, "{} lines", journal.lines);
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.begin("last").unwrap(), Before::Begun);
        assert_eq!(journal.begin(&(LINES_MAX + 9).to_string()).unwrap(), Before::Ended(0));
        assert_eq!(journal.begin("0").unwrap(), Before::Never, "long ago");
    }

    #[test]
    fn two_do_not_have_it_also_after_it_was_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scripts.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        let is_held =
            || Journal::open(&path).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        assert!(is_held());
        journal.begin("a").unwrap();
        journal.renew().unwrap();
        assert!(is_held());
        drop(journal);
        assert_eq!(Journal::open(&path).unwrap().begin("a").unwrap(), Before::Begun);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("scripts.jsonl"), folder.path().join("other"));
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(Journal::open(&path).is_err());
        assert!(!other.exists());
    }
}
