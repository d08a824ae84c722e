//! What pacman's database says is installed. Runs nothing; the format is that of
//! `/var/lib/pacman/local/NAME-VERSION/desc`: `%FIELD%`, the values a line each, an empty line.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::{Instant, timeout_at};

use super::super::PackageError;
use super::{Package, Root};
use crate::tasks::spawn_blocking;

/// The largest `desc` that is read.
const DESC_MAX: u64 = 256 * 1024;

/// The installed packages.
pub(crate) async fn installed(
    place: &Root,
    deadline: Instant,
) -> Result<Vec<Package>, PackageError> {
    let folder = place.path("var/lib/pacman/local");
    let read = spawn_blocking(move || read(folder));
    match timeout_at(deadline, read).await {
        Ok(Ok(packages)) => packages,
        Ok(Err(_)) => Err(PackageError::Panicked("pacman's database".into())),
        Err(_) => Err(PackageError::Late("pacman's database".into())),
    }
}

fn read(folder: PathBuf) -> Result<Vec<Package>, PackageError> {
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| PackageError::Read { path: folder.clone(), error })?;
    let descs = entries.flatten().map(|entry| entry.path().join("desc"));
    let sane = descs.filter(|path| path.metadata().is_ok_and(|data| data.len() <= DESC_MAX));
    let texts = sane.filter_map(|path| std::fs::read(path).ok());
    Ok(texts.filter_map(|text| package(&String::from_utf8_lossy(&text))).collect())
}

/// One package of a `desc`.
pub(super) fn package(text: &str) -> Option<Package> {
    let field = |name: &str| {
        let mut lines = text.lines().skip_while(|line| *line != name).skip(1);
        lines.next().filter(|line| !line.is_empty())
    };
    let text = |name| field(name).unwrap_or_default().to_owned();
    Some(Package {
        name: field("%NAME%")?.to_owned(),
        version: text("%VERSION%"),
        description: text("%DESC%"),
        installed: true,
        publisher: field("%PACKAGER%").map(str::to_owned),
        source: "pacman",
        architecture: text("%ARCH%"),
        size_bytes: field("%SIZE%").and_then(|bytes| bytes.parse().ok()),
        installed_at: field("%INSTALLDATE%")
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))),
        asked_for: field("%REASON%") != Some("1"),
        ..Package::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desc_is_read_and_an_empty_field_is_missing() {
        let text = "%NAME%\nbash\n\n%VERSION%\n5.2.026-2\n\n%DESC%\nThe GNU shell\n\n%ARCH%\nx86_64\n\n\
                    %INSTALLDATE%\n1700000000\n\n%PACKAGER%\n\n%SIZE%\n9000000\n\n%REASON%\n1\n";
        let bash = package(text).unwrap();
        assert_eq!((bash.name.as_str(), bash.version.as_str()), ("bash", "5.2.026-2"));
        assert_eq!(
            (bash.publisher, bash.size_bytes, bash.asked_for),
            (None, Some(9_000_000), false)
        );
        assert!(bash.installed_at.is_some());
        assert_eq!(package("%VERSION%\n1\n"), None);
    }
}
