//! apt: what is run, and what it says, parsed. Never asks a person anything.
//!
//! # Why a name is looked up before it is used
//! `apt-get install sudo-` *removes* sudo, `apt-get remove vim+` *installs* vim, and a name with a dot
//! that no package has is a regular expression (`apt-get(8)`). So a step before asks whether a package
//! of exactly this name is known; apt then takes the name as it stands.

use std::collections::HashMap;

use tokio::time::Instant;

use super::super::Context;
use super::step::{Change, Kind, Step, ask};
use super::upgrades::{Upgrade, Upgrades};
use super::{FOUND_MAX, Package, Place};
use crate::commands::words::{PackageName, Query};

/// The steps of `change`.
pub fn steps(place: &Place, change: Change<'_>, deadline: Instant) -> Result<Vec<Step>, String> {
    let act = |words: &[&str]| act(place, deadline, words);
    let ask = |words: &[&str]| get(place, deadline, words, Kind::Ask);
    Ok(match change {
        Change::Install(name) => {
            vec![known(place, deadline, name)?, act(&["install", "--", name.as_str()])]
        }
        Change::Remove(name) => {
            vec![known(place, deadline, name)?, act(&["remove", "--", name.as_str()])]
        }
        Change::Update(name) => {
            vec![
                known(place, deadline, name)?,
                act(&["install", "--only-upgrade", "--", name.as_str()]),
            ]
        }
        Change::UpgradeOne(name) => {
            let mut steps = vec![act(&["update"])];
            steps.extend(self::steps(place, Change::Update(name), deadline)?);
            steps
        }
        Change::UpgradeAll => vec![act(&["update"]), act(&["dist-upgrade"])],
        // Alone, it fails when any source does; before an upgrade a dead one is no reason to do nothing.
        Change::Refresh => vec![act(&["update", "-o", "APT::Update::Error-Mode=any"])],
        Change::CleanCache => vec![act(&["clean"])],
        Change::Search(query) => vec![
            search_step(place, deadline, query, false),
            policy(place, deadline, &["(the names found)".to_owned()]),
        ],
        Change::List | Change::History => Vec::new(), // from files
        Change::Check => vec![ask(&SIMULATE)],
        Change::CheckSizes => vec![ask(&SIMULATE), ask(&URIS)],
    })
}

const SIMULATE: [&str; 2] = ["--simulate", "dist-upgrade"];
const URIS: [&str; 2] = ["--print-uris", "dist-upgrade"];

/// Finds packages, with the versions that are installed or can be had; and how many are left out.
pub async fn search(
    place: &Place,
    cx: &Context,
    query: &Query,
) -> Result<(Vec<Package>, usize), String> {
    let (mut text, cut) = ask(cx, &search_step(place, cx.deadline, query, false), &[0]).await?;
    if cut {
        // More than is kept: the names alone are the better answer.
        let step = search_step(place, cx.deadline, query, true);
        text = ask(cx, &step, &[0]).await?.0;
    }
    let mut found: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(" - ")).collect();
    let wanted = query.as_str();
    found.sort_by_key(|(name, _)| (*name != wanted, !name.contains(wanted), *name));
    let left_out = found.len().saturating_sub(FOUND_MAX);
    found.truncate(FOUND_MAX);
    if found.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let names: Vec<String> = found.iter().map(|(name, _)| (*name).to_owned()).collect();
    let (text, _) = ask(cx, &policy(place, cx.deadline, &names), &[0]).await?;
    let versions = versions(&text);
    let package = |(name, description): (&str, &str)| {
        let version = versions.get(name).cloned().unwrap_or_default();
        Package {
            name: name.to_owned(),
            description: description.to_owned(),
            installed: version.installed.is_some(),
            version: version.installed.or(version.candidate).unwrap_or_default(),
            repository: version.repository,
            source: "apt",
            ..Package::default()
        }
    };
    Ok((found.into_iter().map(package).collect(), left_out))
}

/// What a full upgrade would do, without locks and without doing it.
pub async fn pending(place: &Place, cx: &Context, sizes: bool) -> Result<Upgrades, String> {
    let change = if sizes { Change::CheckSizes } else { Change::Check };
    let mut upgrades = Upgrades::default();
    for (at, step) in steps(place, change, cx.deadline)?.iter().enumerate() {
        let (text, _) = ask(cx, step, &[0]).await?;
        match at {
            0 => upgrades = self::upgrades(&text),
            _ => fill_sizes(&mut upgrades, &text),
        }
    }
    Ok(upgrades)
}

/// The upgrades in what `apt-get -s dist-upgrade` says:
/// `Inst name [old] (new Origin:release/archive, … [arch])`. Lines without an old version are packages
/// that come along and are no upgrades.
///
/// Security is told by the origin: an archive that ends in `-security`, or a label that says so.
pub fn upgrades(text: &str) -> Upgrades {
    let list: Vec<Upgrade> = text.lines().filter_map(upgrade).collect();
    let told = text.lines().find_map(|line| line.split_once(" upgraded, ")?.0.parse().ok());
    Upgrades { total: told.unwrap_or(0).max(list.len()), list }
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
fn fill_sizes(upgrades: &mut Upgrades, text: &str) {
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

#[derive(Debug, Clone, Default, PartialEq)]
struct Versions {
    installed: Option<String>,
    candidate: Option<String>,
    repository: Option<String>,
}

/// What `apt-cache policy` says, by name.
fn versions(text: &str) -> HashMap<String, Versions> {
    let mut all = HashMap::new();
    let mut name = None;
    let some = |version: &str| (version != "(none)").then(|| version.to_owned());
    for line in text.lines() {
        if let Some(told) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            name = Some(told);
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

/// apt's own wait for the lock: a quarter of the time that is left, 1 to 30 s. The rest is waited for by
/// trying again.
fn lock_seconds(deadline: Instant) -> u64 {
    (deadline.saturating_duration_since(Instant::now()).as_secs() / 4).clamp(1, 30)
}

fn act(place: &Place, deadline: Instant, words: &[&str]) -> Step {
    let lock = format!("DPkg::Lock::Timeout={}", lock_seconds(deadline));
    let options = [
        "--assume-yes",
        "--quiet",
        "-o",
        "Dpkg::Options::=--force-confdef",
        "-o",
        "Dpkg::Options::=--force-confold",
        "-o",
        "Dpkg::Use-Pty=0",
        "-o",
        "APT::Cmd::Pattern-Only=true",
        "-o",
        &lock,
    ];
    get(place, deadline, &[&options, words].concat(), Kind::Act)
}

fn get(place: &Place, deadline: Instant, words: &[&str], kind: Kind) -> Step {
    let words = match kind {
        Kind::Act => words.to_vec(),
        _ => [&["--quiet", "-o", "Debug::NoLocking=1"], words].concat(),
    };
    Step::new("apt-get", arguments(place, &words), deadline, kind)
}

fn cache(place: &Place, deadline: Instant, words: &[&str], kind: Kind) -> Step {
    Step::new("apt-cache", arguments(place, words), deadline, kind)
}

/// Where a tree is not the machine itself, apt is told so first.
fn arguments(place: &Place, words: &[&str]) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(root) = place.elsewhere().map(|root| root.display()) {
        for option in [
            format!("Dir={root}"),
            format!("Dir::State::status={root}/var/lib/dpkg/status"),
            format!("DPkg::Options::=--root={root}"),
        ] {
            arguments.extend(["-o".to_owned(), option]);
        }
    }
    arguments.extend(words.iter().map(|word| (*word).to_owned()));
    arguments
}

/// Asks whether exactly this name is known: `apt-cache policy` then has a line of it and a colon, without
/// the architecture where that is the machine's own.
fn known(place: &Place, deadline: Instant, name: &PackageName) -> Result<Step, String> {
    let name = name.as_str();
    let base = name.split(':').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    if base.len() < 2
        || !base.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !base.chars().all(plain)
    {
        return Err("that is no name of a Debian package: two or more of letters, digits and \"+.-\", a letter or digit first".into());
    }
    let lines = vec![format!("{name}:"), format!("{base}:")];
    Ok(cache(place, deadline, &["policy", "--", name], Kind::Known(lines)))
}

fn policy(place: &Place, deadline: Instant, names: &[String]) -> Step {
    let names = names.iter().map(String::as_str);
    let words: Vec<&str> = ["policy", "--"].into_iter().chain(names).collect();
    cache(place, deadline, &words, Kind::Ask)
}

/// The words of a query are regular expressions to apt, so its signs are quoted.
fn search_step(place: &Place, deadline: Instant, query: &Query, names_only: bool) -> Step {
    let quoted: Vec<String> = query.as_str().split_ascii_whitespace().map(quote).collect();
    let mut words = vec!["search"];
    words.extend(names_only.then_some("--names-only"));
    words.push("--");
    words.extend(quoted.iter().map(String::as_str));
    cache(place, deadline, &words, Kind::Ask)
}

fn quote(word: &str) -> String {
    word.replace('+', "[+]").replace('.', "[.]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIMULATED: &str = include_str!("../../../../tests/packages/apt-simulate.txt");
    const PRINTED: &str = include_str!("../../../../tests/packages/apt-uris.txt");
    const POLICY: &str = include_str!("../../../../tests/packages/apt-policy.txt");

    #[test]
    fn a_recorded_simulation_tells_each_upgrade_once_with_its_origin() {
        let found = upgrades(SIMULATED);
        let told: usize =
            SIMULATED.lines().find_map(|l| l.split_once(" upgraded, ")?.0.parse().ok()).unwrap();
        assert_eq!((found.list.len(), found.total), (told, told));
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

    #[test]
    fn a_name_that_apt_would_read_otherwise_is_looked_up_or_refused() {
        let (place, deadline) = (Place::machine(), Instant::now());
        for name in [".", "a", ".x", "a_b", "+x"] {
            let name = PackageName::new(name).unwrap();
            assert!(steps(&place, Change::Remove(&name), deadline).is_err(), "{name}");
        }
        let name = PackageName::new("sudo-").unwrap();
        let steps = steps(&place, Change::Install(&name), deadline).unwrap();
        assert_eq!(steps[0].kind, Kind::Known(vec!["sudo-:".into(), "sudo-:".into()]));
        assert_eq!(steps[0].argv(), ["apt-cache", "policy", "--", "sudo-"]);
    }

    #[test]
    fn the_signs_of_a_query_are_letters_to_apt() {
        assert_eq!(quote("libstdc++6.x"), "libstdc[+][+]6[.]x");
    }
}
