//! A file gets another content at once: a reader, and a machine whose power fails, finds the old one or the new one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, fsync, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{folder_of, open_in};

/// Gives the file at `path` this content: it is written beside it as `.NAME.new`, gets its mode and owner from `finish`
/// while only this user can open it, is synced, and takes the name. What stood there is replaced, a link too; the folder must
/// be one that no other user can change. Blocks.
///
/// # Errors
/// A step fails; what is at `path` has not changed then, unless it was the last one, the sync of the folder.
pub(crate) fn replace(
    path: &Path,
    content: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    write(path, content, finish, RenameFlags::empty())
}

/// The same for a new file, of mode 0600.
///
/// # Errors
/// As [`replace`], or something stands there already ([`AlreadyExists`](io::ErrorKind::AlreadyExists)).
pub(crate) fn create(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, content, |_| Ok(()), RenameFlags::NOREPLACE)
}

fn write(
    path: &Path,
    content: &[u8],
    finish: impl FnOnce(&File) -> io::Result<()>,
    how: RenameFlags,
) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let beside = format!(".{}.new", name.to_string_lossy());
    // Opened once, so that all steps are taken in the same folder.
    let as_folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder_of(path), as_folder, Mode::empty())?;
    let remove = || match unlinkat(&folder, &beside, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(io::Error::from(error)),
    };
    let written = (|| {
        remove()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let mut file = open_in(&folder, &beside, flags)?;
        file.write_all(content)?;
        finish(&file)?;
        file.sync_all()?;
        renameat_with(&folder, &beside, &folder, name, how)?;
        Ok(fsync(&folder)?)
    })();
    written.inspect_err(|_| {
        let _ = remove(); // the first error is the one that is returned
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_has_its_new_content_and_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unit");
        fs::write(folder.path().join(".unit.new"), "of an agent that was killed").unwrap();
        for content in ["one", "another"] {
            let mode = |file: &File| file.set_permissions(Permissions::from_mode(0o640));
            replace(&path, content.as_bytes(), mode).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_finished_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("unit");
        fs::write(&path, "old").unwrap();
        let refused = replace(&path, b"new", |_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
