//! Which package manager a tree has. Runs nothing.

use std::path::Path;

use super::PackageError;
use crate::commands::actions::root::Root;

/// A package manager, by the database it keeps and the tool that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manager {
    /// dpkg's database, `apt-get`.
    Apt,
    /// rpm's database, `dnf`.
    Dnf,
    /// rpm's database, `zypper`.
    Zypper,
    /// rpm's database, and only the `yum` that came before `dnf`: listed, not driven.
    Yum,
    /// `pacman`.
    Pacman,
    /// `apk`: listed, not driven; no test could run it for real.
    Apk,
}

/// Where tools are, as in the `PATH` that programs get.
const TOOLS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];

impl Root {
    /// Its manager: the one whose database is there. A tool without its database does not count (Debian
    /// has `dnf` and `pacman` as packages).
    ///
    /// # Errors
    /// The sentence of an answer, where there is none.
    pub fn manager(&self) -> Result<Manager, PackageError> {
        let has = |path: &str| self.path(path).metadata().is_ok_and(|data| data.len() > 0);
        if has("var/lib/dpkg/status") {
            return Ok(Manager::Apt);
        }
        let rpm = ["usr/lib/sysimage/rpm", "var/lib/rpm"].iter().any(|folder| {
            ["rpmdb.sqlite", "Packages.db", "Packages"]
                .iter()
                .any(|file| has(&format!("{folder}/{file}")))
        });
        if rpm {
            // A system may have both as packages; the one that has repositories is at home there.
            let zypper = has("etc/zypp") && tool("zypper");
            return match (zypper && self.zypper_repositories(), tool("dnf"), tool("yum")) {
                (true, _, _) => Ok(Manager::Zypper),
                (_, true, _) => Ok(Manager::Dnf),
                _ if zypper => Ok(Manager::Zypper),
                (_, _, true) => Ok(Manager::Yum),
                _ => Err(PackageError::NoManager),
            };
        }
        if has("lib/apk/db/installed") {
            return Ok(Manager::Apk);
        }
        if has("var/lib/pacman/local") {
            return Ok(Manager::Pacman);
        }
        Err(PackageError::NoDatabase)
    }
}

impl Root {
    fn zypper_repositories(&self) -> bool {
        let list = |entry: std::fs::DirEntry| entry.path().extension() == Some("repo".as_ref());
        let entries = std::fs::read_dir(self.path("etc/zypp/repos.d"));
        entries.is_ok_and(|entries| entries.flatten().any(list))
    }
}

fn tool(name: &str) -> bool {
    TOOLS.iter().any(|folder| Path::new("/").join(folder).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn with(file: &str) -> (tempfile::TempDir, Root) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        let place = Root::at(root.path());
        (root, place)
    }

    #[test]
    fn the_manager_is_told_by_its_database_not_by_a_tool_that_lies_about() {
        for (file, manager) in [
            ("var/lib/dpkg/status", Manager::Apt),
            ("lib/apk/db/installed", Manager::Apk),
            ("var/lib/pacman/local/ALPM_DB_VERSION", Manager::Pacman),
        ] {
            let (_root, place) = with(file);
            assert_eq!(place.manager().unwrap(), manager, "{file}");
        }
        let nothing = tempfile::tempdir().unwrap();
        assert!(
            Root::at(nothing.path())
                .manager()
                .unwrap_err()
                .to_string()
                .contains("no package database")
        );
    }
}
