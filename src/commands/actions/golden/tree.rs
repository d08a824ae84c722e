//! The tree that the steps work on: names in it are removed, emptied or rewritten, links are not followed, and all in time.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::commands::actions::ActionError;
use crate::files::replace;

/// The longest account file that is rewritten.
const ACCOUNTS_MAX: u64 = 8 * 1024 * 1024;

/// What a step did.
#[derive(Debug, Default)]
pub(super) struct StepOutcome {
    pub(super) removed: u64,
    pub(super) note: Option<String>,
}

/// What a step works on.
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) state: Option<PathBuf>,
    pub(super) until: Instant,
}

impl Tree {
    fn in_time(&self) -> Result<(), ActionError> {
        match Instant::now() < self.until {
            true => Ok(()),
            false => Err(ActionError::StepLate),
        }
    }

    /// The names in a folder; none where it is not there, or is a link.
    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, ActionError> {
        let path = self.root.join(folder);
        if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            return Ok(Vec::new());
        }
        let read = fs::read_dir(&path).map_err(failed("read", &path))?;
        Ok(read.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Removes what is in a folder and has such a name.
    pub(super) fn inside(
        &self,
        folder: &str,
        named: impl Fn(&str) -> bool,
    ) -> Result<StepOutcome, ActionError> {
        let mut did = StepOutcome::default();
        for name in self.names(folder)?.iter().filter(|name| named(name)) {
            did.removed += self.gone(&format!("{folder}/{name}"))?;
        }
        Ok(did)
    }

    pub(super) fn all_gone(&self, paths: &[&str]) -> Result<StepOutcome, ActionError> {
        let mut did = StepOutcome::default();
        for path in paths {
            did.removed += self.gone(path)?;
        }
        Ok(did)
    }

    /// Removes a file, a link, or a folder with all that is in it; 1 where it was there.
    pub(super) fn gone(&self, path: &str) -> Result<u64, ActionError> {
        self.in_time()?;
        let path = self.root.join(path);
        match remove(&path) {
            Ok(()) => Ok(1),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    /// Follows no link, and goes no deeper than logs do.
    pub(super) fn logs_in(&self, folder: &Path, depth: u8) -> Result<u64, ActionError> {
        let Ok(read) = fs::read_dir(folder) else { return Ok(0) };
        let mut cleared = 0;
        for entry in read.flatten() {
            self.in_time()?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < 8 && name != "journal" {
                cleared += self.logs_in(&path, depth + 1)?;
            } else if kind.is_file() && is_aside(&name) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                cleared += 1;
            } else if kind.is_file() && entry.metadata().is_ok_and(|data| data.len() > 0) {
                truncate(&path)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }
}

/// Whether a log was put aside: `syslog.1`, `dpkg.log.2.gz`, `messages-20260101`, `x.old`.
fn is_aside(name: &str) -> bool {
    let name = [".gz", ".xz", ".bz2", ".zst"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    let last = name.rsplit(['.', '-']).next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) && !last.is_empty();
    last.len() < name.len() && (number || last == "old")
}

pub(super) fn failed(verb: &'static str, path: &Path) -> impl Fn(std::io::Error) -> ActionError {
    move |error| ActionError::File { verb, path: path.to_owned(), error }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path), // follows no link
        false => fs::remove_file(path),
    }
}

pub(super) fn truncate(path: &Path) -> Result<(), ActionError> {
    let file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    file.map(drop).map_err(failed("empty", path))
}

pub(super) fn fs_text(path: &Path) -> Option<String> {
    let data = path.metadata().ok()?;
    (data.is_file() && data.len() <= ACCOUNTS_MAX).then(|| fs::read_to_string(path).ok())?
}

/// Writes the lines that `line` gives in place of those that are there, with the same mode and owner; a file that is
/// missing stays so.
pub(super) fn rewrite(
    path: &Path,
    line: impl Fn(&str) -> Option<String>,
) -> Result<(), ActionError> {
    let Some(text) = fs_text(path) else { return Ok(()) };
    let new: String = text.lines().filter_map(line).map(|line| line + "\n").collect();
    if new == text {
        return Ok(());
    }
    let data = path.metadata().map_err(failed("rewrite", path))?;
    let as_before = |file: &File| {
        fchown(file, Some(data.uid()), Some(data.gid()))?;
        file.set_permissions(data.permissions())
    };
    replace(path, new.as_bytes(), as_before).map_err(failed("rewrite", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_put_aside_is_known_by_its_name() {
        for name in
            ["syslog.1", "dpkg.log.2.gz", "messages-20260101", "messages-20260101.xz", "x.old"]
        {
            assert!(is_aside(name), "{name}");
        }
        for name in ["syslog", "dpkg.log", "wtmp", "7", "old"] {
            assert!(!is_aside(name), "{name}");
        }
    }
}
