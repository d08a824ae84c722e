//! What apt says, parsed. Runs nothing.

use std::collections::HashMap;

use super::super::upgrades::{Upgrade, Upgrades};

/// The upgrades in what `apt-get -s dist-upgrade` says:
/// `Inst name [old] (new Origin:release/archive, … [arch])`. Lines without an old version are packages
/// that come along and are no upgrades.
///
/// Security is told by the origin: an archive that ends in `-security`, or a label that says so.
pub(super) fn upgrades(text: &str) -> Upgrades {
    let list: Vec<Upgrade> = text.lines().filter_map(upgrade).collect();
    let total = text.lines().find_map(|line| line.split_once(" upgraded, ")?.0.parse().ok());
    Upgrades { total: total.unwrap_or(0).max(list.len()), list, held: Vec::new() }
}

/// The packages that a simulation keeps back: held ones, and those whose update needs what cannot be had.
pub(super) fn kept_back(text: &str) -> Vec<String> {
    let below = text
        .lines()
        .skip_while(|line| !line.starts_with("The following packages have been kept back"));
    let names = below.skip(1).take_while(|line| line.starts_with("  "));
    names.flat_map(str::split_ascii_whitespace).map(str::to_owned).collect()
}

/// Those of `names` that could be newer, by what `apt-cache policy` says of them.
pub(super) fn held(names: &[String], policy: &str) -> Vec<Upgrade> {
    let mut versions = versions(policy);
    let held = |name: &String| {
        let Versions { installed, candidate, repository } = versions.remove(name)?;
        let repository = repository.unwrap_or_default();
        let (installed, candidate) = (installed?, candidate?);
        (installed != candidate).then(|| Upgrade {
            package_name: name.clone(),
            current_version: installed,
            available_version: candidate,
            is_security: repository.contains("-security"),
            repository,
            ..Upgrade::default()
        })
    };
    names.iter().filter_map(held).collect()
}

fn upgrade(line: &str) -> Option<Upgrade> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(" [")?;
    let (old, rest) = rest.split_once("] (")?;
    let (new, rest) = rest.split_once(' ')?;
    let (origins, rest) = rest.split_once(" [")?; // what is broken meanwhile stands after it
    let architecture = rest.split(']').next()?;
    if name.contains(' ') || old.contains(' ') {
        return None;
    }
    let safe = |origin: &str| {
        let (label, archive) = origin.split_once(':').unwrap_or((origin, ""));
        archive.ends_with("-security") || label.to_ascii_lowercase().contains("security")
    };
    let secure = origins.split(", ").find(|origin| safe(origin));
    Some(Upgrade {
        package_name: name.to_owned(),
        current_version: old.to_owned(),
        available_version: new.to_owned(),
        repository: secure.or_else(|| origins.split(", ").next())?.to_owned(),
        is_security: secure.is_some(),
        architecture: architecture.to_owned(),
        fetch_bytes: None,
    })
}

/// Adds the bytes to fetch from what `--print-uris` says: `'URI' name_version_arch.deb BYTES HASH`.
pub(super) fn fill_sizes(upgrades: &mut Upgrades, text: &str) {
    let size = |line: &str| {
        let mut words = line.strip_prefix('\'')?.split_ascii_whitespace().skip(1);
        let file = words.next()?.strip_suffix(".deb")?;
        let bytes: u64 = words.next()?.parse().ok()?;
        let (name, rest) = file.split_once('_')?;
        let (_, architecture) = rest.rsplit_once('_')?;
        Some(((name.to_owned(), architecture.to_owned()), bytes))
    };
    let sizes: HashMap<(String, String), u64> = text.lines().filter_map(size).collect();
    for upgrade in &mut upgrades.list {
        // An architecture other than the machine's own stands in the name: `libc6:i386`.
        let name = upgrade.package_name.split(':').next().unwrap_or_default();
        upgrade.fetch_bytes = sizes.get(&(name.to_owned(), upgrade.architecture.clone())).copied();
    }
}

/// The versions of one name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Versions {
    /// The version that is there.
    pub installed: Option<String>,
    /// The one that would be installed.
    pub candidate: Option<String>,
    /// Where the newest comes from.
    pub repository: Option<String>,
}

/// What `apt-cache policy` says, by name.
pub(super) fn versions(text: &str) -> HashMap<String, Versions> {
    let mut all = HashMap::new();
    let mut name = None;
    let some = |version: &str| (version != "(none)").then(|| version.to_owned());
    for line in text.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            name = Some(heading);
        } else if let Some(name) = name {
            let entry: &mut Versions = all.entry(name.to_owned()).or_default();
            let line = line.trim_start();
            if let Some(version) = line.strip_prefix("Installed: ") {
                entry.installed = some(version);
            } else if let Some(version) = line.strip_prefix("Candidate: ") {
                entry.candidate = some(version);
            } else if entry.repository.is_none() && line.ends_with(" Packages") {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                entry.repository = words.get(2).map(|suite| (*suite).to_owned());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMULATED: &str = include_str!("../../../../../tests/packages/apt-simulate.txt");
    const PRINTED: &str = include_str!("../../../../../tests/packages/apt-uris.txt");
    const POLICY: &str = include_str!("../../../../../tests/packages/apt-policy.txt");

    #[test]
    fn a_recorded_simulation_tells_each_upgrade_once_with_its_origin() {
        let found = upgrades(SIMULATED);
        let total: usize =
            SIMULATED.lines().find_map(|l| l.split_once(" upgraded, ")?.0.parse().ok()).unwrap();
        assert_eq!((found.list.len(), found.total), (total, total));
        let of =
            |name: &str| found.list.iter().find(|upgrade| upgrade.package_name == name).unwrap();
        let liblzma = of("liblzma5");
        assert_eq!(liblzma.current_version, "5.4.1-1");
        assert_eq!(liblzma.available_version, "5.4.1-1+deb12u2");
        assert_eq!(liblzma.repository, "Debian-Security:12/oldstable-security");
        assert!(liblzma.is_security);
        assert_eq!(liblzma.architecture, "amd64");
        let libcap = of("libcap2");
        assert_eq!(libcap.current_version, "1:2.66-4+deb12u2+b2");
        assert!(!libcap.is_security, "from the main archive");
        assert!(
            of("libgcrypt20-dev").is_security,
            "where one of two origins is the security archive"
        );
    }

    #[test]
    fn what_comes_along_is_no_upgrade_and_what_is_cut_is_still_counted() {
        let text = "3 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.\n\
                    Inst new (1 Debian:12/stable [all])\n\
                    Inst a [1] (2 Ubuntu:22.04/jammy-security [amd64]) [b:amd64 ]\nInst b [1";
        let found = upgrades(text);
        assert_eq!((found.list.len(), found.total), (1, 3));
        assert!(found.list[0].is_security);
    }

    #[test]
    fn what_is_kept_back_is_told_with_its_versions() {
        let text = "Calculating upgrade...\nThe following packages have been kept back:\n  jq zypper\n  gone\n\
                    1 upgraded, 0 newly installed, 0 to remove and 2 not upgraded.\n";
        let names = kept_back(text);
        assert_eq!(names, ["jq", "zypper", "gone"]);
        let held = held(&names, POLICY);
        assert_eq!(held.len(), 1, "what is not installed is not held");
        assert_eq!(held[0].available_version, "1.6-2.1+deb12u3");
        assert!(held[0].is_security);
        assert_eq!(kept_back(SIMULATED), Vec::<String>::new());
    }

    #[test]
    fn sizes_are_found_by_name_and_architecture() {
        let mut found = upgrades(SIMULATED);
        fill_sizes(&mut found, PRINTED);
        let of = |name: &str| {
            found.list.iter().find(|upgrade| upgrade.package_name == name).unwrap().fetch_bytes
        };
        assert_eq!(of("liblzma5"), Some(205_796));
        assert_eq!(of("libcap2"), Some(27_708), "its version has an epoch");
        assert!(found.list.iter().all(|upgrade| upgrade.fetch_bytes.is_some()));
    }

    #[test]
    fn a_policy_tells_what_is_installed_and_what_can_be_had() {
        let all = versions(POLICY);
        assert_eq!(all["jq"].installed.as_deref(), Some("1.6-2.1+deb12u1"));
        assert_eq!(all["jq"].candidate.as_deref(), Some("1.6-2.1+deb12u3"));
        assert_eq!(all["jq"].repository.as_deref(), Some("bookworm-security/main"));
        assert_eq!(all["zypper"].installed, None);
        assert!(all["zypper"].candidate.is_some());
    }
}
