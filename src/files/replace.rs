//! A file gets another content at once: a reader, and a machine whose power fails, finds the old one or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::folder_of;

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
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.new"));
    let replaced = (|| {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        finish(&file)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder_of(path))?.sync_all()
    })();
    replaced.inspect_err(|_| {
        let _ = fs::remove_file(&beside); // the first error is the one that is told
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
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
