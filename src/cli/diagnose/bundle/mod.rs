//! `diagnose --bundle`: one file for support, with what `diagnose` saw and what the machine, the agent and systemd tell.
//!
//! Each part is bounded in size and in time, and one that is missing says why. No part holds a secret: `secrets` removes those that
//! are known, and what looks like one; the values of variables are never taken. `archive` packs the parts.

mod archive;
mod parts;
mod secrets;

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use thiserror::Error;

use super::{Diagnose, Findings};
use crate::files::{create, replace};
use crate::sinks::io_reason;
use archive::Tar;
use secrets::Secrets;

/// The most bytes of a part; what is longer is cut off.
const PART_BYTES_MAX: usize = 512 * 1024;
/// The folder in the archive.
const FOLDER: &str = "infiniservice-bundle";

/// Why there is no bundle.
#[derive(Debug, Error)]
pub(super) enum BundleError {
    /// The file is there, and may not be replaced.
    #[error("{} is there already; name another file, or add --overwrite", .0.display())]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {}", path.display(), io_reason(error))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// Refuses a file that is there, before anything is looked at.
pub(super) fn check(file: &Path, overwrite: bool) -> Result<(), BundleError> {
    match file.symlink_metadata() {
        Ok(_) if !overwrite => Err(BundleError::Exists(file.to_owned())),
        _ => Ok(()),
    }
}

/// Gathers all parts and writes them to `file`, with mode 0600 and as a whole or not at all. Returns the line to say.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(
    diagnose: &Diagnose,
    findings: &Findings,
    file: &Path,
    overwrite: bool,
) -> Result<String, BundleError> {
    let now = SystemTime::now();
    let secrets = Secrets::of(diagnose, findings);
    let mut tar = Tar::new(now);
    let mut contents = String::new();
    for part in parts::gather(diagnose, findings, now) {
        let (name, about) = (part.name, part.about);
        match part.text {
            Ok(text) => {
                let text = cut(secrets.remove(text));
                tar.file(&format!("{FOLDER}/{name}"), text.as_bytes());
                contents += &format!("{name}: {about}\n");
            }
            Err(why) => contents += &secrets.remove(format!("{name}: missing: {why}\n")),
        }
    }
    tar.file(&format!("{FOLDER}/contents.txt"), contents.as_bytes());
    let bytes = tar.into_zstd();
    let (shown, size) = (file.display(), bytes.len().div_ceil(1024));
    put(file, &bytes, overwrite)
        .map_err(|error| BundleError::Write { path: file.to_owned(), error })?;
    Ok(format!(
        "written: {shown} ({size} KiB), without secrets as far as they are known or look like one; `tar --zstd -xf {shown}` unpacks it, \
         to be looked at before it is sent"
    ))
}

/// The first [`PART_BYTES_MAX`] bytes, which the last line says.
fn cut(mut text: String) -> String {
    if text.len() > PART_BYTES_MAX {
        text.truncate(text.floor_char_boundary(PART_BYTES_MAX));
        text += "\n[cut off here]\n";
    }
    text
}

/// Writes the file, over another only if `overwrite`.
fn put(path: &Path, bytes: &[u8], overwrite: bool) -> io::Result<()> {
    if overwrite { replace(path, bytes, |_| Ok(())) } else { create(path, bytes) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_file_is_written_whole_for_its_owner_only_and_over_another_only_where_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tar.zst");
        put(&path, b"one", false).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert!(matches!(check(&path, false), Err(BundleError::Exists(_))));
        check(&path, true).unwrap();
        let there = put(&path, b"two", false).unwrap_err();
        assert_eq!(there.kind(), io::ErrorKind::AlreadyExists, "it came in between");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        put(&path, b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");

        // A link is replaced, and not followed.
        let (link, other) = (folder.path().join("link"), folder.path().join("other"));
        fs::write(&other, "precious").unwrap();
        symlink(&other, &link).unwrap();
        put(&link, b"three", true).unwrap();
        assert_eq!(fs::read(&other).unwrap(), b"precious");
        assert!(put(&folder.path().join("no/such"), b"x", false).is_err());
        put(&folder.path().join("into"), b"x", false).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(put(&folder.path().join("folder"), b"x", true).is_err());
        let left = fs::read_dir(folder.path()).unwrap().flatten();
        let left = left.filter(|entry| entry.file_name().as_bytes().starts_with(b"."));
        assert_eq!(left.count(), 0, "nothing stays of what failed");
    }

    #[test]
    fn what_is_long_is_cut_off_and_says_so() {
        let text = cut("é".repeat(PART_BYTES_MAX));
        assert!(text.len() < PART_BYTES_MAX + 32 && text.ends_with("é\n[cut off here]\n"));
        assert_eq!(cut("a".to_owned()), "a");
    }
}
