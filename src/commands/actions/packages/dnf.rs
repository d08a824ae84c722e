//! dnf: what is run, and what it says, parsed. Never asks a person anything.
//!
//! # Why a name is looked up before it is used
//! dnf also takes what a package provides (`dnf remove libsystemd.so.0` is about `systemd-libs`), so a rule
//! on names could be walked around. A step before asks whether exactly this is a package's name.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use tokio::time::Instant;

use super::super::Context;
use super::PackageError;
use super::history::{PastUpdate, dnf_history};
use super::manager::{Answer, PackageManager, Parse};
use super::transaction::{Step, StepKind, ask};
use super::upgrades::{Upgrade, Upgrades};
use super::{ChangeKind, FOUND_MAX, Operation, Package, Planned, Root, rpm};
use crate::commands::argument::{PackageName, Query};
use crate::sort;

/// One package of `dnf repoquery`. dnf 4 ends each with a line of its own, dnf 5 does not: empty lines
/// are passed over.
const FORMAT: &str = "%{name}\\t%{evr}\\t%{arch}\\t%{repoid}\\t%{downloadsize}\\t%{summary}\\n";

/// rpm's database, `dnf`.
pub(super) struct Dnf;

impl PackageManager for Dnf {
    fn tool(&self) -> &'static str {
        "dnf"
    }

    fn installed<'a>(&self, place: &'a Root, cx: &'a Context) -> Answer<'a, Vec<Package>> {
        rpm::installed(place, cx).boxed()
    }

    fn steps(
        &self,
        place: &Root,
        change: Operation<'_>,
        deadline: Instant,
    ) -> Result<Vec<Step>, PackageError> {
        Ok(steps(place, change, deadline))
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

    fn pending<'a>(&self, place: &'a Root, cx: &'a Context, _sizes: bool) -> Answer<'a, Upgrades> {
        pending(place, cx).boxed()
    }

    fn history<'a>(
        &self,
        place: &'a Root,
        cx: &'a Context,
        zone: &'static str,
    ) -> Answer<'a, Vec<PastUpdate>> {
        async move {
            let mut updates = Vec::new();
            for step in steps(place, Operation::History, cx.deadline) {
                let (text, _) = ask(cx, &step, &[0]).await?;
                updates.extend(dnf_history(&text, zone));
            }
            Ok(updates)
        }
        .boxed()
    }

    fn cache(&self) -> Option<&'static str> {
        Some("var/cache/dnf")
    }
}

/// The steps of `change`.
fn steps(place: &Root, change: Operation<'_>, deadline: Instant) -> Vec<Step> {
    let act = |words: &[&str]| dnf(place, deadline, words, StepKind::Act);
    let upgrades = |words: &[&str]| {
        let upgrades = ["repoquery", "--upgrades", "--latest-limit=1", "--qf", FORMAT];
        dnf(place, deadline, &[&upgrades, words].concat(), StepKind::Ask)
    };
    match change {
        Operation::Install(name) => {
            vec![offered(place, deadline, name), act(&["install", "--", name.as_str()])]
        }
        Operation::Remove(name) => {
            vec![rpm::there(place, deadline, name), act(&["remove", "--", name.as_str()])]
        }
        Operation::Update(name) => {
            vec![rpm::there(place, deadline, name), act(&["upgrade", "--", name.as_str()])]
        }
        Operation::UpgradeOne(name) => {
            vec![
                rpm::there(place, deadline, name),
                act(&["upgrade", "--refresh", "--", name.as_str()]),
            ]
        }
        Operation::UpgradeAll => vec![act(&["upgrade", "--refresh"])],
        // Without the option, dnf leaves what is younger than its `metadata_expire` as it is.
        Operation::Refresh => vec![act(&["makecache", "--refresh"])],
        Operation::CleanCache => vec![act(&["clean", "packages"])],
        Operation::Search(query) => {
            vec![
                search_step(place, deadline, query),
                details(place, deadline, &["(the names found)"]),
            ]
        }
        Operation::List => vec![rpm::query(place, deadline, &[])],
        Operation::Check | Operation::CheckSizes => {
            vec![upgrades(&[]), upgrades(&["--security"]), rpm::query(place, deadline, &[])]
        }
        Operation::History => vec![dnf(place, deadline, &["history", "list"], StepKind::Ask)],
    }
}

/// Finds packages, with the newest version that can be had; and how many are left out.
async fn search(
    place: &Root,
    cx: &Context,
    query: &Query,
) -> Result<(Vec<Package>, usize), PackageError> {
    let (text, _) = ask(cx, &search_step(place, cx.deadline, query), &[0]).await?;
    let mut names = found(&text);
    let wanted = query.as_str();
    sort::by_key(&mut names, |name| {
        (name.rsplit_once('.').map(|(name, _)| name) != Some(wanted), !name.contains(wanted))
    });
    let left_out = names.len().saturating_sub(FOUND_MAX);
    names.truncate(FOUND_MAX);
    if names.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let (text, _) = ask(cx, &details(place, cx.deadline, &names), &[0]).await?;
    let there: HashSet<String> =
        rpm::installed(place, cx).await?.into_iter().map(|package| package.name).collect();
    let mut packages: Vec<Package> =
        text.lines().filter_map(available).map(|(package, _)| package).collect();
    packages.iter_mut().for_each(|package| package.installed = there.contains(&package.name));
    sort::by_key(&mut packages, |package| (package.name != wanted, !package.name.contains(wanted)));
    Ok((packages, left_out))
}

/// The upgrades that repositories have for what is installed; dnf fetches what it knows of them anew when
/// it is older than its `metadata_expire`.
async fn pending(place: &Root, cx: &Context) -> Result<Upgrades, PackageError> {
    let steps = steps(place, Operation::Check, cx.deadline);
    let [all, secure, _] = &*steps else {
        return Err(PackageError::Output("dnf", "a check has other steps"));
    };
    let (all, cut) = ask(cx, all, &[0]).await?;
    let (secure, _) = ask(cx, secure, &[0]).await?;
    let there = rpm::installed(place, cx).await?;
    let mut found = upgrades(&all, &secure, &there, cut);
    // Without what excludes packages there may be more. A dnf that does not know these options tells none.
    let free = ["--disableexcludes=all", "--disableplugin=versionlock"];
    let query = ["repoquery", "--upgrades", "--latest-limit=1", "--qf", FORMAT];
    let step = dnf(place, cx.deadline, &[&free[..], &query].concat(), StepKind::Ask);
    if let Ok((all, _)) = ask(cx, &step, &[0]).await {
        let more = upgrades(&all, &secure, &there, false).list;
        let known: HashSet<_> =
            found.list.iter().map(|one| (&one.package_name, &one.architecture)).collect();
        let is_held = |one: &Upgrade| !known.contains(&(&one.package_name, &one.architecture));
        found.held = more.into_iter().filter(is_held).collect();
    }
    Ok(found)
}

/// The steps that tell what `change` would do: dnf plans it, and is told not to.
fn simulate(place: &Root, change: Operation<'_>, deadline: Instant) -> Vec<Step> {
    let words: &[&str] = match change {
        Operation::Install(name) => &["install", "--", name.as_str()],
        Operation::Remove(name) => &["remove", "--", name.as_str()],
        Operation::Update(name) => &["upgrade", "--", name.as_str()],
        Operation::UpgradeOne(name) => &["upgrade", "--refresh", "--", name.as_str()],
        Operation::UpgradeAll => &["upgrade", "--refresh"],
        _ => return Vec::new(),
    };
    let mut step = dnf(place, deadline, words, StepKind::Act);
    step.kind = StepKind::Ask;
    step.program.arguments[0] = "--assumeno".into();
    vec![step]
}

/// The table of a transaction: under `Installing:`, `Removing dependent packages:` and the like, one line for each
/// package, its name first, behind one space. A line that begins with more goes on with the one before, or says what
/// a package takes the place of: ` replacing  name.arch version`.
fn planned(text: &str) -> Vec<Planned> {
    let (mut kind, mut all) = (None, Vec::new());
    for line in text.lines() {
        if !line.starts_with(' ') {
            kind = match line.split([' ', ':']).next().unwrap_or_default() {
                "Installing" => Some(ChangeKind::Install),
                "Upgrading" | "Downgrading" | "Reinstalling" => Some(ChangeKind::Update),
                "Removing" => Some(ChangeKind::Remove),
                _ => None,
            };
            continue;
        }
        let Some(kind) = kind else { continue };
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("replacing") if line.starts_with("  ") => {
                all.extend(words.next().map(|name| Planned::new(ChangeKind::Remove, name)));
            }
            Some(name) if !line.starts_with("  ") => all.push(Planned::new(kind, name)),
            _ => {}
        }
    }
    all
}

/// Joins the upgrades with the advisories' and with what is there now.
fn upgrades(all: &str, secure: &str, there: &[Package], cut: bool) -> Upgrades {
    let key = |package: &Package| (package.name.clone(), package.architecture.clone());
    let secure: HashSet<_> =
        secure.lines().filter_map(available).map(|(package, _)| key(&package)).collect();
    let there: HashMap<_, _> =
        there.iter().map(|package| (key(package), package.version.clone())).collect();
    let upgrade = |(package, fetch_bytes): (Package, Option<u64>)| Upgrade {
        current_version: there.get(&key(&package)).cloned().unwrap_or_default(),
        is_security: secure.contains(&key(&package)),
        package_name: package.name,
        available_version: package.version,
        repository: package.repository.unwrap_or_default(),
        architecture: package.architecture,
        fetch_bytes,
    };
    let list: Vec<Upgrade> = all.lines().filter_map(available).map(upgrade).collect();
    Upgrades { total: list.len() + usize::from(cut), list, held: Vec::new() }
}

/// One line of [`FORMAT`], with the bytes to fetch.
fn available(line: &str) -> Option<(Package, Option<u64>)> {
    let [name, version, architecture, repository, bytes, description] =
        *line.splitn(6, '\t').collect::<Vec<&str>>()
    else {
        return None;
    };
    let package = Package {
        name: name.to_owned(),
        version: version.trim_start_matches("0:").to_owned(), // rpm leaves the epoch 0 out
        description: description.to_owned(),
        source: "dnf",
        repository: Some(repository.to_owned()),
        architecture: architecture.to_owned(),
        ..Package::default()
    };
    Some((package, bytes.parse().ok()))
}

/// The `name.arch` of `dnf search`: `infini-hello.noarch : A file`, under headings of `=`.
fn found(text: &str) -> Vec<&str> {
    let lines = text.lines().filter(|line| !line.starts_with('='));
    let names = lines.filter_map(|line| Some(line.split_once(" : ")?.0.trim()));
    names.filter(|name| name.contains('.') && !name.contains(' ')).collect()
}

/// Asks whether exactly this is the name, or name and architecture, of a package in a repository.
fn offered(place: &Root, deadline: Instant, name: &PackageName) -> Step {
    let words = ["repoquery", "--qf", "%{name}\\n%{name}.%{arch}\\n", "--", name.as_str()];
    dnf(place, deadline, &words, StepKind::Known(vec![name.to_string()]))
}

fn search_step(place: &Root, deadline: Instant, query: &Query) -> Step {
    let words = query.as_str().split_ascii_whitespace();
    let words: Vec<&str> = ["search", "--"].into_iter().chain(words).collect();
    dnf(place, deadline, &words, StepKind::Ask)
}

fn details(place: &Root, deadline: Instant, names: &[&str]) -> Step {
    let words = ["repoquery", "--available", "--latest-limit=1", "--qf", FORMAT, "--"];
    dnf(place, deadline, &[&words, names].concat(), StepKind::Ask)
}

/// dnf waits for its lock without an end; told to give up, it is tried again until the deadline.
fn dnf(place: &Root, deadline: Instant, words: &[&str], kind: StepKind) -> Step {
    let mut arguments =
        vec!["--assumeyes".to_owned(), "--setopt=exit_on_lock=True".into(), "--color=never".into()];
    arguments.extend((!matches!(kind, StepKind::Act)).then(|| "--quiet".to_owned()));
    arguments.extend(place.elsewhere().map(|root| format!("--installroot={}", root.display())));
    arguments.extend(words.iter().map(|word| (*word).to_owned()));
    Step::new("dnf", arguments, deadline, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upgrades_are_joined_with_advisories_and_with_what_is_there() {
        let all = "infini-hello\t1:2.0-1\tnoarch\tlocal\t6233\tA file\n\nbash\t0:5.2-1\tx86_64\tbaseos\t1800000\tGNU\n";
        let secure = "bash\t0:5.2-1\tx86_64\tbaseos\t1800000\tGNU\n";
        let there = [rpm::package("infini-hello\t1:1.0-1\tnoarch\tV\t3\t1\tA").unwrap()];
        let found = upgrades(all, secure, &there, false);
        assert_eq!((found.total, found.security()), (2, 1));
        assert_eq!(found.list[0].current_version, "1:1.0-1");
        assert_eq!(found.list[0].fetch_bytes, Some(6233));
        assert_eq!(found.list[1].available_version, "5.2-1");
        assert!(found.list[1].is_security && !found.list[0].is_security);
    }

    #[test]
    fn what_a_search_says_is_read_without_its_headings() {
        let text = "===================== Name & Summary Matched: file, hello ======================\n\
                    infini-hello.noarch : A file that says hello\n\
                    ========================= Summary Matched: file, hello =========================\n\
                    infini-other.noarch : A file that says hello\n";
        assert_eq!(found(text), ["infini-hello.noarch", "infini-other.noarch"]);
    }
}
