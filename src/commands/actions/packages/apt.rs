//! apt: what is run, and what it says, parsed. Never asks a person anything.
//!
//! # Why a name is looked up before it is used
//! `apt-get install sudo-` *removes* sudo, `apt-get remove vim+` *installs* vim, and a name with a dot
//! that no package has is a regular expression (`apt-get(8)`). So a step before asks whether a package
//! of exactly this name is known; apt then takes the name as it stands.

mod output;

use std::time::{Duration, SystemTime};

use futures::FutureExt;
use tokio::time::Instant;

use super::super::Context;
use super::PackageError;
use super::deb822::{Stanza, read_stanzas};
use super::history::{PastUpdate, apt_history};
use super::manager::{Answer, LookCloser, PackageManager, Parse, RestartCheck};
use super::transaction::{Step, StepKind, ask};
use super::upgrades::Upgrades;
use super::{ChangeKind, FOUND_MAX, Operation, Package, Planned, Root, dpkg};
use crate::commands::argument::{PackageName, Query};
use crate::sort;

/// dpkg's database, `apt-get`.
pub(super) struct Apt;

impl PackageManager for Apt {
    fn tool(&self) -> &'static str {
        "apt-get"
    }

    fn name(&self) -> &'static str {
        "apt"
    }

    fn installed<'a>(&self, place: &'a Root, cx: &'a Context) -> Answer<'a, Vec<Package>> {
        dpkg::installed(place, cx.deadline).boxed()
    }

    fn steps(
        &self,
        place: &Root,
        change: Operation<'_>,
        deadline: Instant,
    ) -> Result<Vec<Step>, PackageError> {
        steps(place, change, deadline)
    }

    fn simulation(
        &self,
        place: &Root,
        change: Operation<'_>,
        deadline: Instant,
    ) -> (Vec<Step>, Parse) {
        (simulate(place, change, deadline), planned)
    }

    fn search<'a>(
        &self,
        place: &'a Root,
        cx: &'a Context,
        query: &'a Query,
    ) -> Answer<'a, (Vec<Package>, usize)> {
        search(place, cx, query).boxed()
    }

    fn pending<'a>(&self, place: &'a Root, cx: &'a Context, sizes: bool) -> Answer<'a, Upgrades> {
        pending(place, cx, sizes).boxed()
    }

    fn history<'a>(
        &self,
        place: &'a Root,
        cx: &'a Context,
        zone: &'static str,
    ) -> Answer<'a, Vec<PastUpdate>> {
        async move {
            let log = place.path("var/log/apt/history.log");
            let mut updates = Vec::new();
            if tokio::fs::try_exists(&log).await.unwrap_or(false) {
                let each = |stanza: Stanza<'_>| updates.extend(apt_history(stanza, zone));
                read_stanzas(&log, cx.deadline, each).await?;
            }
            Ok(updates)
        }
        .boxed()
    }

    fn fetches_index(&self) -> bool {
        false
    }

    /// apt touches these folders at each update, also where nothing is new.
    fn index_age(&self, place: &Root) -> Option<Duration> {
        let folders =
            ["var/lib/apt/lists", "var/lib/apt/lists/partial"].map(|folder| place.path(folder));
        let fetched = |name: std::ffi::OsString| name.to_string_lossy().ends_with("Release");
        let any =
            std::fs::read_dir(&folders[0]).ok()?.flatten().any(|entry| fetched(entry.file_name()));
        let times = folders.iter().filter_map(|folder| folder.metadata().ok()?.modified().ok());
        let newest = times.max().filter(|_| any)?;
        Some(SystemTime::now().duration_since(newest).unwrap_or_default())
    }

    fn cache(&self) -> Option<&'static str> {
        Some("var/cache/apt")
    }

    fn restart_check(&self, _: &Root) -> RestartCheck {
        RestartCheck::Mark
    }

    fn look_closer(&self) -> Option<LookCloser> {
        Some(dpkg::look_closer)
    }
}

/// The steps of `change`.
fn steps(
    place: &Root,
    change: Operation<'_>,
    deadline: Instant,
) -> Result<Vec<Step>, PackageError> {
    let act = |words: &[&str]| act(place, deadline, words);
    let ask = |words: &[&str]| get(place, deadline, words, StepKind::Ask);
    Ok(match change {
        Operation::Install(name) => {
            vec![known(place, deadline, name)?, act(&["install", "--", name.as_str()])]
        }
        Operation::Remove(name) => {
            vec![known(place, deadline, name)?, act(&["remove", "--", name.as_str()])]
        }
        Operation::Update(name) => {
            vec![
                known(place, deadline, name)?,
                act(&["install", "--only-upgrade", "--", name.as_str()]),
            ]
        }
        Operation::UpgradeOne(name) => {
            let mut steps = vec![act(&["update"])];
            steps.extend(self::steps(place, Operation::Update(name), deadline)?);
            steps
        }
        Operation::UpgradeAll => vec![act(&["update"]), act(&["dist-upgrade"])],
        // Alone, it fails when any source does; before an upgrade a dead one is no reason to do nothing.
        Operation::Refresh => vec![act(&["update", "-o", "APT::Update::Error-Mode=any"])],
        Operation::CleanCache => vec![act(&["clean"])],
        Operation::Search(query) => vec![
            search_step(place, deadline, query, false),
            policy(place, deadline, &["(the names found)".to_owned()]),
        ],
        Operation::List | Operation::History => Vec::new(), // from files
        Operation::Check => vec![ask(&SIMULATE)],
        Operation::CheckSizes => vec![ask(&SIMULATE), ask(&URIS)],
    })
}

const SIMULATE: [&str; 2] = ["--simulate", "dist-upgrade"];
const URIS: [&str; 2] = ["--print-uris", "dist-upgrade"];

/// Finds packages, with the versions that are installed or can be had; and how many are left out.
async fn search(
    place: &Root,
    cx: &Context,
    query: &Query,
) -> Result<(Vec<Package>, usize), PackageError> {
    let (mut text, cut) = ask(cx, &search_step(place, cx.deadline, query, false), &[0]).await?;
    if cut {
        // More than is kept: the names alone are the better answer.
        let step = search_step(place, cx.deadline, query, true);
        text = ask(cx, &step, &[0]).await?.0;
    }
    let mut found: Vec<(&str, &str)> =
        text.lines().filter_map(|line| line.split_once(" - ")).collect();
    let wanted = query.as_str();
    sort::by_key(&mut found, |(name, _)| (*name != wanted, !name.contains(wanted), *name));
    let left_out = found.len().saturating_sub(FOUND_MAX);
    found.truncate(FOUND_MAX);
    if found.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let names: Vec<String> = found.iter().map(|(name, _)| (*name).to_owned()).collect();
    let (text, _) = ask(cx, &policy(place, cx.deadline, &names), &[0]).await?;
    let versions = output::versions(&text);
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
async fn pending(place: &Root, cx: &Context, sizes: bool) -> Result<Upgrades, PackageError> {
    let change = if sizes { Operation::CheckSizes } else { Operation::Check };
    let mut upgrades = Upgrades::default();
    for (at, step) in steps(place, change, cx.deadline)?.iter().enumerate() {
        let (text, _) = ask(cx, step, &[0]).await?;
        match at {
            0 => {
                upgrades = output::upgrades(&text);
                let kept = output::kept_back(&text);
                if !kept.is_empty() {
                    let (policy, _) = ask(cx, &policy(place, cx.deadline, &kept), &[0]).await?;
                    upgrades.held = output::held(&kept, &policy);
                }
            }
            _ => output::fill_sizes(&mut upgrades, &text),
        }
    }
    Ok(upgrades)
}

/// The steps that tell what `change` would do: the last one simulates, without a lock.
fn simulate(place: &Root, change: Operation<'_>, deadline: Instant) -> Vec<Step> {
    let ask = |words: &[&str]| {
        let options = ["--simulate", "--assume-yes", "-o", "APT::Cmd::Pattern-Only=true"];
        get(place, deadline, &[&options, words].concat(), StepKind::Ask)
    };
    match change {
        Operation::Install(name) => vec![ask(&["install", "--", name.as_str()])],
        Operation::Remove(name) => vec![ask(&["remove", "--", name.as_str()])],
        Operation::Update(name) => vec![ask(&["install", "--only-upgrade", "--", name.as_str()])],
        Operation::UpgradeOne(name) => vec![
            act(place, deadline, &["update"]),
            ask(&["install", "--only-upgrade", "--", name.as_str()]),
        ],
        Operation::UpgradeAll => vec![act(place, deadline, &["update"]), ask(&["dist-upgrade"])],
        _ => Vec::new(),
    }
}

/// What a simulation says: `Inst name [old] (new …)`, without `[old]` where it is new, and `Remv` or `Purg`.
fn planned(text: &str) -> Vec<Planned> {
    let line = |line: &str| {
        let (word, rest) = line.split_once(' ')?;
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let kind = match word {
            "Inst" if rest.starts_with('[') => ChangeKind::Update,
            "Inst" => ChangeKind::Install,
            "Remv" | "Purg" => ChangeKind::Remove,
            _ => return None,
        };
        Some(Planned::new(kind, name))
    };
    text.lines().filter_map(line).collect()
}

/// apt's own wait for the lock: a quarter of the time that is left, 1 to 30 s. The rest is waited for by
/// trying again.
fn lock_seconds(deadline: Instant) -> u64 {
    (deadline.saturating_duration_since(Instant::now()).as_secs() / 4).clamp(1, 30)
}

fn act(place: &Root, deadline: Instant, words: &[&str]) -> Step {
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
    get(place, deadline, &[&options, words].concat(), StepKind::Act)
}

fn get(place: &Root, deadline: Instant, words: &[&str], kind: StepKind) -> Step {
    let words = match kind {
        StepKind::Act => words.to_vec(),
        _ => [&["--quiet", "-o", "Debug::NoLocking=1"], words].concat(),
    };
    Step::new("apt-get", arguments(place, &words), deadline, kind)
}

fn cache(place: &Root, deadline: Instant, words: &[&str], kind: StepKind) -> Step {
    Step::new("apt-cache", arguments(place, words), deadline, kind)
}

/// Where a tree is not the machine itself, apt is told so first.
fn arguments(place: &Root, words: &[&str]) -> Vec<String> {
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
fn known(place: &Root, deadline: Instant, name: &PackageName) -> Result<Step, PackageError> {
    let name = name.as_str();
    let base = name.split(':').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "+.-".contains(c);
    if base.len() < 2
        || !base.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !base.chars().all(plain)
    {
        return Err(PackageError::DebianName);
    }
    let lines = vec![format!("{name}:"), format!("{base}:")];
    Ok(cache(place, deadline, &["policy", "--", name], StepKind::Known(lines)))
}

fn policy(place: &Root, deadline: Instant, names: &[String]) -> Step {
    let names = names.iter().map(String::as_str);
    let words: Vec<&str> = ["policy", "--"].into_iter().chain(names).collect();
    cache(place, deadline, &words, StepKind::Ask)
}

/// The words of a query are regular expressions to apt, so its signs are quoted.
fn search_step(place: &Root, deadline: Instant, query: &Query, names_only: bool) -> Step {
    let quoted: Vec<String> = query.as_str().split_ascii_whitespace().map(quote).collect();
    let mut words = vec!["search"];
    words.extend(names_only.then_some("--names-only"));
    words.push("--");
    words.extend(quoted.iter().map(String::as_str));
    cache(place, deadline, &words, StepKind::Ask)
}

fn quote(word: &str) -> String {
    word.replace('+', "[+]").replace('.', "[.]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_apt_would_read_otherwise_is_looked_up_or_refused() {
        let (place, deadline) = (Root::machine(), Instant::now());
        for name in [".", "a", ".x", "a_b", "+x"] {
            let name = PackageName::new(name).unwrap();
            assert!(steps(&place, Operation::Remove(&name), deadline).is_err(), "{name}");
        }
        let name = PackageName::new("sudo-").unwrap();
        let steps = steps(&place, Operation::Install(&name), deadline).unwrap();
        assert!(matches!(&steps[0].kind, StepKind::Known(lines) if *lines == ["sudo-:", "sudo-:"]));
        assert_eq!(steps[0].argv(), ["apt-cache", "policy", "--", "sudo-"]);
    }

    #[test]
    fn the_signs_of_a_query_are_letters_to_apt() {
        assert_eq!(quote("libstdc++6.x"), "libstdc[+][+]6[.]x");
    }
}
