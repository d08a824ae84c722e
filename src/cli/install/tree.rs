//! Files in a tree: written where nobody has changed them, and removed again. What was written is in a record, which
//! tells a file of ours from one that people changed, also of another version.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::RECORD;
use super::error::InstallError;
use crate::files::replace;
use crate::values::hex;

/// Of the record that are read; it has a dozen lines.
const RECORD_MAX: u64 = 64 << 10;
/// In place of the hash of a folder.
const FOLDER: &str = "-";

/// A file to be written.
pub(super) struct File {
    /// From `/` on.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) bytes: Cow<'static, [u8]>,
    pub(super) kind: FileKind,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// The executable: always replaced.
    Program,
    /// For systemd and udev: written again where it was removed.
    System,
    /// To be changed: where it was removed it stays away.
    Setting,
}

/// What became of a file, or would.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) path: String,
    what: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeKind {
    Written,
    Replaced,
    Same,
    Edited,
    Gone,
    Removed,
}

impl Change {
    pub(super) fn is_written(&self) -> bool {
        matches!(self.what, ChangeKind::Written | ChangeKind::Replaced)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            ChangeKind::Written => "written",
            ChangeKind::Replaced => "replaced",
            ChangeKind::Same => "left as it is",
            ChangeKind::Edited => "left as it is, with changes that are not of install",
            ChangeKind::Gone => "left out, as it was removed",
            ChangeKind::Removed => "removed",
        };
        write!(f, "{what}: {}", self.path)
    }
}

/// A tree, and what was done in it.
pub(super) struct Tree<'a> {
    root: &'a Path,
    dry_run: bool,
    changes: Vec<Change>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: &'a Path, dry_run: bool) -> Self {
        Self { root, dry_run, changes: Vec::new() }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Writes files, and records them. What is not as it was written is left.
    ///
    /// # Errors
    /// The first file that cannot be looked at or written.
    pub(super) fn install(&mut self, files: &[File]) -> Result<(), InstallError> {
        let old = self.record()?;
        let mut record: Record = old.folders().cloned().collect();
        let mut wanted = Vec::new();
        for file in files {
            self.new_folders(&file.path, &mut record)?;
            let hash = hash(&file.bytes);
            let what = match self.look(&file.path)? {
                None if file.kind == FileKind::Setting && old.is_of(&file.path) => ChangeKind::Gone,
                None => ChangeKind::Written,
                Some(found) if found == hash => ChangeKind::Same,
                Some(found) if file.kind == FileKind::Program || old.has(&file.path, &found) => {
                    ChangeKind::Replaced
                }
                Some(_) => ChangeKind::Edited,
            };
            match what {
                ChangeKind::Edited | ChangeKind::Gone => {
                    record.0.extend(old.of(&file.path).cloned())
                }
                _ => drop(record.0.insert((file.path.clone(), hash))),
            }
            wanted.push((file, what));
        }
        if !self.dry_run {
            // First what to take away after a crash, last what is whole.
            let folders = record.folders().cloned().collect::<Record>();
            for (folder, _) in folders.0.iter() {
                self.make_folder(folder)?;
            }
            self.write_record(&old.0.union(&folders.0).cloned().collect())?;
        }
        for (file, what) in wanted {
            if !self.dry_run && matches!(what, ChangeKind::Written | ChangeKind::Replaced) {
                self.write(&file.path, file.mode, &file.bytes)?;
            }
            self.changes.push(Change { path: file.path.clone(), what });
        }
        if self.dry_run { Ok(()) } else { self.write_record(&record) }
    }

    /// Whether something was installed.
    ///
    /// # Errors
    /// The record is damaged or cannot be read.
    pub(super) fn is_installed(&self) -> Result<bool, InstallError> {
        self.record().map(|record| !record.0.is_empty())
    }

    /// Removes what [`install`](Self::install) wrote, but not what was changed since where `is_kept` says so of its path, nor
    /// folders with other files; and all that is in the folders `purged`.
    ///
    /// # Errors
    /// The first file that cannot be removed.
    pub(super) fn uninstall(
        &mut self,
        purged: &[&str],
        is_kept: impl Fn(&str) -> bool,
    ) -> Result<(), InstallError> {
        let record = self.record()?;
        let paths: BTreeSet<&String> =
            record.0.iter().filter(|(_, hash)| hash != FOLDER).map(|(path, _)| path).collect();
        for path in paths {
            let Some(found) = self.look(path)? else { continue };
            let is_edited = !record.has(path, &found);
            let what = match is_edited && is_kept(path) {
                true => ChangeKind::Edited,
                false => ChangeKind::Removed,
            };
            if what == ChangeKind::Removed && !self.dry_run {
                fs::remove_file(self.at(path))
                    .map_err(|error| InstallError::file("remove", path, error))?;
            }
            self.changes.push(Change { path: path.clone(), what });
        }
        for folder in purged {
            self.remove_all(folder)?;
        }
        if self.dry_run {
            return Ok(());
        }
        match fs::remove_file(self.at(RECORD)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(InstallError::file("remove", RECORD, error));
            }
            _ => {}
        }
        // Inner ones first.
        for (folder, _) in record.folders().rev() {
            match fs::remove_dir(self.at(folder)) {
                Ok(()) => {
                    self.changes.push(Change { path: folder.clone(), what: ChangeKind::Removed })
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
                    ) => {}
                Err(error) => return Err(InstallError::file("remove", folder, error)),
            }
        }
        Ok(())
    }

    /// Removes a folder with all that is in it.
    fn remove_all(&mut self, folder: &str) -> Result<(), InstallError> {
        self.refuse_links(folder)?;
        if fs::symlink_metadata(self.at(folder)).is_err() {
            return Ok(());
        }
        if !self.dry_run {
            fs::remove_dir_all(self.at(folder))
                .map_err(|error| InstallError::file("remove", folder, error))?;
        }
        self.changes.push(Change { path: folder.to_owned(), what: ChangeKind::Removed });
        Ok(())
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// In another tree a link may lead out of it.
    fn refuse_links(&self, path: &str) -> Result<(), InstallError> {
        if self.root == Path::new("/") {
            return Ok(());
        }
        for folder in Path::new(path).ancestors() {
            let is_link = |found: fs::Metadata| found.is_symlink();
            let folder = self.root.join(folder.strip_prefix("/").unwrap_or(folder));
            if folder != self.root && fs::symlink_metadata(&folder).is_ok_and(is_link) {
                return Err(InstallError::Link(folder));
            }
        }
        Ok(())
    }

    /// The hash of a file, if it is there.
    fn look(&self, path: &str) -> Result<Option<String>, InstallError> {
        self.refuse_links(path)?;
        match fs::read(self.at(path)) {
            Ok(bytes) => Ok(Some(hash(&bytes))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(InstallError::file("read", path, error)),
        }
    }

    /// Adds the folders above a path that are not there.
    fn new_folders(&self, path: &str, record: &mut Record) -> Result<(), InstallError> {
        let above = Path::new(path).ancestors().skip(1).map(Path::to_string_lossy);
        for folder in above.take_while(|folder| folder != "/") {
            match self.at(&folder).try_exists() {
                Ok(true) => {}
                Ok(false) => drop(record.0.insert((folder.into_owned(), FOLDER.to_owned()))),
                Err(error) => return Err(InstallError::file("look at", folder, error)),
            }
        }
        Ok(())
    }

    fn make_folder(&self, path: &str) -> Result<(), InstallError> {
        let folder = self.at(path);
        let made = match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => Err(error),
            Ok(()) => fs::set_permissions(&folder, Permissions::from_mode(0o755)),
        };
        made.map_err(|error| InstallError::file("make", path, error))
    }

    /// Writes a file so that there is always a whole one, and one that runs can be replaced.
    fn write(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), InstallError> {
        let mode = |file: &fs::File| file.set_permissions(Permissions::from_mode(mode));
        replace(&self.at(path), bytes, mode)
            .map_err(|error| InstallError::file("write", path, error))
    }

    fn record(&self) -> Result<Record, InstallError> {
        self.refuse_links(RECORD)?;
        let mut text = String::new();
        let read = match fs::File::open(self.at(RECORD)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Record::default()),
            Err(error) => Err(error),
            Ok(file) => file.take(RECORD_MAX).read_to_string(&mut text),
        };
        read.map_err(|error| InstallError::file("read", RECORD, error))?;
        let is_whole = (text.len() as u64) < RECORD_MAX;
        let lines = text.lines().map(|line| {
            let (hash, path) = line.split_once(' ')?;
            let is_plain = path.starts_with('/') && !path.split('/').any(|part| part == "..");
            (is_plain && is_whole).then(|| (path.to_owned(), hash.to_owned()))
        });
        let lines: Option<BTreeSet<_>> = lines.collect();
        lines.map(Record).ok_or(InstallError::DamagedRecord)
    }

    fn write_record(&self, record: &Record) -> Result<(), InstallError> {
        let mut text = String::new();
        for (path, hash) in &record.0 {
            let _ = writeln!(text, "{hash} {path}"); // a text takes everything
        }
        match fs::read_to_string(self.at(RECORD)) {
            Ok(same) if same == text => Ok(()),
            _ => self.write(RECORD, 0o644, text.as_bytes()),
        }
    }
}

/// Paths from `/` on, each with the hash of what was written there, or [`FOLDER`].
#[derive(Debug, Default)]
struct Record(BTreeSet<(String, String)>);

impl FromIterator<(String, String)> for Record {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(lines: T) -> Self {
        Self(lines.into_iter().collect())
    }
}

impl Record {
    fn folders(&self) -> impl DoubleEndedIterator<Item = &(String, String)> {
        self.0.iter().filter(|(_, hash)| hash == FOLDER)
    }

    fn of(&self, path: &str) -> impl Iterator<Item = &(String, String)> {
        self.0.iter().filter(move |(known, _)| known == path)
    }

    fn is_of(&self, path: &str) -> bool {
        self.of(path).next().is_some()
    }

    fn has(&self, path: &str, hash: &str) -> bool {
        self.of(path).any(|(_, known)| known == hash)
    }
}

fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
