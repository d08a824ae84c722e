//! What pacman 6 says, parsed. Runs nothing. What is not as expected is an error, not an empty list.

use std::collections::HashMap;

use super::super::Package;
use super::super::PackageError;
use super::super::upgrades::Upgrade;

/// What `-Ss` found: `core/bash 5.2-1 (group) [installed: 5.1-1]`, and the description below it.
pub(super) fn found(text: &str, cut: bool) -> Result<Vec<Package>, PackageError> {
    let mut packages: Vec<Package> = Vec::new();
    for line in text.lines() {
        if let Some(description) = line.strip_prefix("    ") {
            if let Some(package) = packages.last_mut() {
                package.description = description.to_owned();
            }
            continue;
        }
        match package(line) {
            Some(package) => packages.push(package),
            None if cut => {}
            None => {
                return Err(PackageError::Output("pacman", "a line names no package"));
            }
        }
    }
    Ok(packages)
}

fn package(line: &str) -> Option<Package> {
    let (repository, rest) = line.split_once('/')?;
    let mut words = rest.splitn(3, ' ');
    let (name, version) = (words.next()?, words.next()?);
    // Another version than the repository's stands after a colon.
    let mark = words.next().unwrap_or_default().rsplit_once("[installed");
    let there = mark.map(|(_, rest)| rest.trim_end_matches(']').trim_start_matches(": "));
    Some(Package {
        name: name.to_owned(),
        version: there.filter(|there| !there.is_empty()).unwrap_or(version).to_owned(),
        installed: there.is_some(),
        source: "pacman",
        repository: Some(repository.to_owned()),
        ..Package::default()
    })
}

/// What `-Qu` calls outdated: `bash 5.1-1 -> 5.2-1`; and apart those that end in `[ignored]`: an upgrade
/// leaves them alone.
pub(super) fn outdated(
    text: &str,
    cut: bool,
) -> Result<(Vec<Upgrade>, Vec<Upgrade>), PackageError> {
    let (mut list, mut held) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let upgrade = |name: &str, current: &str, available: &str| Upgrade {
            package_name: name.to_owned(),
            current_version: current.to_owned(),
            available_version: available.to_owned(),
            ..Upgrade::default()
        };
        match *line.split_ascii_whitespace().collect::<Vec<&str>>() {
            [name, current, "->", available] => list.push(upgrade(name, current, available)),
            [name, current, "->", available, "[ignored]"] => {
                held.push(upgrade(name, current, available));
            }
            _ if cut => {}
            _ => return Err(PackageError::Output("pacman", "a line tells no update")),
        }
    }
    Ok((list, held))
}

/// Repository and bytes to fetch of each package of `--print-format` `"%n %v %r %s"`, by name.
pub(super) fn planned(text: &str) -> HashMap<&str, (&str, Option<u64>)> {
    let each = text.lines().filter_map(|line| {
        let [name, _, repository, bytes] = *line.split_ascii_whitespace().collect::<Vec<&str>>()
        else {
            return None;
        };
        Some((name, (repository, bytes.parse().ok())))
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_tells_the_installed_version_where_there_is_one() {
        let text = "core/bash 5.2-1 (base base-devel) [installed: 5.1-1]\n    The GNU shell\n\
                    extra/zsh 5.9-4 [installed]\n    A shell [installed: 3]\n\
                    extra/fish 3.6-1\n    Another\n";
        let found = found(text, false).unwrap();
        let shown: Vec<_> =
            found.iter().map(|one| (&*one.name, &*one.version, one.installed)).collect();
        assert_eq!(
            shown,
            [("bash", "5.1-1", true), ("zsh", "5.9-4", true), ("fish", "3.6-1", false)]
        );
        assert_eq!(found[1].description, "A shell [installed: 3]");
        assert_eq!(found[0].repository.as_deref(), Some("core"));
    }

    #[test]
    fn an_ignored_package_is_not_pending_and_an_odd_line_is_an_error() {
        let text = "bash 5.1-1 -> 5.2-1\nlinux 6.1-1 -> 6.2-1 [ignored]\n";
        let (list, held) = outdated(text, false).unwrap();
        assert_eq!((list.len(), held.len(), &*held[0].package_name), (1, 1, "linux"));
        assert_eq!((&*list[0].current_version, &*list[0].available_version), ("5.1-1", "5.2-1"));
        assert!(outdated("something else\n", false).is_err());
        assert_eq!(outdated("cut he\n", true).unwrap(), (Vec::new(), Vec::new()));
        assert!(super::found("something else\n", false).is_err());
        assert_eq!(planned("bash 5.2-1 core 1800000\n")["bash"], ("core", Some(1_800_000)));
    }
}
