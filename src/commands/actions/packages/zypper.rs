//! zypper: what is run, and what it says, parsed. Never asks a person anything, never agrees to a
//! license and never takes a signing key in for somebody.
//!
//! # Why a name is looked up before it is used
//! `zypper remove +vim` *installs* vim, `install x` also takes what provides x, `x.arch`, `repository:x`
//! and `kind:x` (`zypper(8)`, Package Specification). So a step before asks whether exactly this is a
//! package's name; `--name` then keeps zypper from looking for anything else.
//!
//! # Why tables here and XML there
//! Names and versions are read from XML where its size is bounded by what was asked. The XML of updates
//! and patches carries whole descriptions, a kilobyte each, and a machine may have a thousand; their
//! tables have a line each, and are read by the names of their columns.
//!
//! # Why a system that rolls is brought up to date otherwise
//! Tumbleweed and Slowroll move as a whole and may take packages away or back: openSUSE supports only
//! `dist-upgrade` there, and only `update` on systems with releases. `os-release(5)` says which it is.

mod output;

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use tokio::time::Instant;

use super::super::Context;
use super::PackageError;
use super::deb822::read_end;
use super::history::{HISTORY_MAX, PastUpdate, zypper_history};
use super::manager::{Answer, PackageManager, Parse, RestartCheck};
use super::transaction::{Step, StepKind, ask};
use super::upgrades::{Upgrade, Upgrades};
use super::{FOUND_MAX, Operation, Package, Root, rpm};
use crate::commands::argument::{PackageName, Query};
use crate::sort;

use output::{lists, planned};

/// The most words of a query: each is searched by itself, because zypper finds what has *any* of several.
const WORDS_MAX: usize = 8;

/// The most security patches whose packages are looked up, and how many at once.
const PATCHES_MAX: usize = 512;
const PATCHES_AT_ONCE: usize = 32;

/// Exit codes, from `zypper(8)`: a repository that did not answer was left out; nothing was found; done,
/// and the machine, or zypper itself, should be started anew.
const SKIPPED: i32 = 106;
const NOT_FOUND: i32 = 104;
const DONE: [i32; 3] = [102, 103, SKIPPED];

/// A repository could not be fetched anew: before an upgrade that is no reason to do nothing, zypper leaves
/// it out (and then says so with [`SKIPPED`]).
const STALE: [i32; 2] = [4, SKIPPED];

/// rpm's database, `zypper`.
pub(super) struct Zypper;

impl PackageManager for Zypper {
    fn tool(&self) -> &'static str {
        "zypper"
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
            let log = place.path("var/log/zypp/history");
            let text = read_end(&log, HISTORY_MAX, cx.deadline).await?;
            Ok(zypper_history(&text, zone))
        }
        .boxed()
    }

    fn cache(&self) -> Option<&'static str> {
        Some("var/cache/zypp")
    }

    /// zypper has a `needs-restarting` too, which says 1 also when it failed.
    fn restart_check(&self, place: &Root) -> RestartCheck {
        let root = place.elsewhere().map(|root| format!("--root={}", root.display()));
        let words = ["--non-interactive".to_owned()].into_iter().chain(root);
        let arguments = words.chain(["needs-rebooting".to_owned()]).collect();
        RestartCheck::Program { program: "zypper", arguments, yes: 102 }
    }
}

/// The steps of `change`.
fn steps(place: &Root, change: Operation<'_>, deadline: Instant) -> Vec<Step> {
    let act = |words: &[&str]| zypper(place, deadline, words, StepKind::Act).fine(&DONE);
    let refresh = || zypper(place, deadline, &["refresh"], StepKind::Act).fine(&STALE);
    match change {
        Operation::Install(name) => {
            vec![offered(place, deadline, name), act(&["install", "--name", "--", name.as_str()])]
        }
        Operation::Remove(name) => {
            vec![rpm::there(place, deadline, name), act(&["remove", "--name", "--", name.as_str()])]
        }
        Operation::Update(name) => {
            vec![rpm::there(place, deadline, name), act(&["update", "--", name.as_str()])]
        }
        Operation::UpgradeOne(name) => {
            let mut steps = self::steps(place, Operation::Update(name), deadline);
            steps.insert(1, refresh());
            steps
        }
        Operation::UpgradeAll if rolls(place) => vec![refresh(), act(&["dist-upgrade"])],
        Operation::UpgradeAll => vec![refresh(), act(&["update"])],
        Operation::Refresh => vec![zypper(place, deadline, &["refresh"], StepKind::Act)],
        Operation::CleanCache => vec![zypper(place, deadline, &["clean"], StepKind::Act)],
        Operation::Search(query) => {
            let each = words(query).into_iter().map(|word| search_step(place, deadline, word));
            each.chain([details(place, deadline, &["(the names found)"])]).collect()
        }
        Operation::List => vec![rpm::query(place, deadline, &[])],
        Operation::Check | Operation::CheckSizes => vec![
            table(place, deadline, &["list-updates"]),
            table(place, deadline, &["list-patches", "--category", "security"]),
            patches(place, deadline, &["(the patches found)"]),
        ],
        Operation::History => Vec::new(), // from a file
    }
}

/// The steps that tell what `change` would do: the last one is a dry run.
fn simulate(place: &Root, change: Operation<'_>, deadline: Instant) -> Vec<Step> {
    let dry = |words: &[&str]| {
        let words = [&["--xmlout", words[0], "--dry-run"], &words[1..]].concat();
        zypper(place, deadline, &words, StepKind::Ask).fine(&DONE)
    };
    let refresh = || zypper(place, deadline, &["refresh"], StepKind::Act).fine(&STALE);
    match change {
        Operation::Install(name) => vec![dry(&["install", "--name", "--", name.as_str()])],
        Operation::Remove(name) => vec![dry(&["remove", "--name", "--", name.as_str()])],
        Operation::Update(name) => vec![dry(&["update", "--", name.as_str()])],
        Operation::UpgradeOne(name) => vec![refresh(), dry(&["update", "--", name.as_str()])],
        Operation::UpgradeAll if rolls(place) => vec![refresh(), dry(&["dist-upgrade"])],
        Operation::UpgradeAll => vec![refresh(), dry(&["update"])],
        _ => Vec::new(),
    }
}

/// Finds packages that have every word, with the installed version or the newest that can be had; and how
/// many are left out.
async fn search(
    place: &Root,
    cx: &Context,
    query: &Query,
) -> Result<(Vec<Package>, usize), PackageError> {
    let words = words(query);
    if words.len() > WORDS_MAX {
        return Err(PackageError::TooManyWords(WORDS_MAX));
    }
    let (mut summaries, mut cut) = (HashMap::new(), false);
    for (number, word) in words.into_iter().enumerate() {
        let step = search_step(place, cx.deadline, word);
        let (text, cut_now) = ask(cx, &step, &[0, NOT_FOUND, SKIPPED]).await?;
        let found = output::summaries(&text, cut_now)?;
        match number {
            0 => summaries = found,
            _ => summaries.retain(|name, _| found.contains_key(name)),
        }
        cut |= cut_now;
    }
    let wanted = query.as_str();
    let mut names: Vec<&str> = summaries.keys().map(String::as_str).collect();
    sort::by_key(&mut names, |name| (*name != wanted, !name.contains(wanted), *name));
    let left_out = names.len().saturating_sub(FOUND_MAX).max(usize::from(cut));
    names.truncate(FOUND_MAX);
    if names.is_empty() {
        return Ok((Vec::new(), left_out));
    }
    let step = details(place, cx.deadline, &names);
    let (text, cut) = ask(cx, &step, &[0, NOT_FOUND, SKIPPED]).await?;
    let mut known = output::solvables(&text, cut)?;
    let package = |name: &str| {
        let mut package = known.remove(name)?;
        package.description = summaries.get(name).cloned().unwrap_or_default();
        Some(package)
    };
    Ok((names.into_iter().filter_map(package).collect(), left_out))
}

/// The updates that repositories have for what is installed. zypper fetches what it knows of those that are
/// set to refresh by themselves anew.
async fn pending(place: &Root, cx: &Context) -> Result<Upgrades, PackageError> {
    let (text, cut) = ask(cx, &table(place, cx.deadline, &["list-updates"]), &[0, SKIPPED]).await?;
    let mut list = output::updates(&text)?;
    if !list.is_empty() {
        let secure = secure(place, cx).await?;
        for upgrade in &mut list {
            let whole = format!("{}.{}", upgrade.package_name, upgrade.architecture);
            upgrade.is_security = secure.contains(&upgrade.package_name) || secure.contains(&whole);
        }
    }
    // With `--all` there are those that are locked, too, and those that cannot be installed now.
    let step = table(place, cx.deadline, &["list-updates", "--all"]);
    let held = match ask(cx, &step, &[0, SKIPPED]).await {
        Ok((text, _)) => output::updates(&text)?,
        Err(_) => Vec::new(),
    };
    let is_known =
        |one: &Upgrade| list.iter().any(|other: &Upgrade| other.package_name == one.package_name);
    let held = held.into_iter().filter(|one| !is_known(one)).collect();
    Ok(Upgrades { total: list.len() + usize::from(cut), list, held })
}

/// The packages that needed security patches speak of: a patch conflicts with those that are older than
/// what it brings.
async fn secure(place: &Root, cx: &Context) -> Result<HashSet<String>, PackageError> {
    let words = ["list-patches", "--category", "security"];
    let (text, _) = ask(cx, &table(place, cx.deadline, &words), &[0, SKIPPED]).await?;
    let mut names = output::patches(&text)?;
    sort::by(&mut names, Ord::cmp);
    names.dedup();
    if names.len() > PATCHES_MAX {
        tracing::warn!(
            patches = names.len(),
            looked_up = PATCHES_MAX,
            "too many security patches to look up"
        );
        names.truncate(PATCHES_MAX);
    }
    let mut secure = HashSet::new();
    let mut waiting: Vec<&[&str]> = names.chunks(PATCHES_AT_ONCE).collect();
    while let Some(some) = waiting.pop() {
        let (text, cut) = ask(cx, &patches(place, cx.deadline, some), &[0, SKIPPED]).await?;
        if cut && some.len() > 1 {
            let (one, other) = some.split_at(some.len() / 2);
            waiting.extend([one, other]);
        } else {
            secure.extend(output::conflicts(&text).map(str::to_owned));
        }
    }
    Ok(secure)
}

fn words(query: &Query) -> Vec<&str> {
    query.as_str().split_ascii_whitespace().collect()
}

/// Asks whether exactly this is the name, or name and architecture, of a package in a repository.
fn offered(place: &Root, deadline: Instant, name: &PackageName) -> Step {
    let words = ["--xmlout", "search", "--match-exact", "--details", "--type", "package", "--"];
    let kind = StepKind::Listed(name.to_string(), lists);
    zypper(place, deadline, &[&words, &[name.as_str()][..]].concat(), kind).fine(&[SKIPPED])
}

fn search_step(place: &Root, deadline: Instant, word: &str) -> Step {
    let words = ["--xmlout", "search", "--search-descriptions", "--type", "package", "--", word];
    zypper(place, deadline, &words, StepKind::Ask)
}

fn details(place: &Root, deadline: Instant, names: &[&str]) -> Step {
    let words = ["--xmlout", "search", "--match-exact", "--details", "--type", "package", "--"];
    zypper(place, deadline, &[&words, names].concat(), StepKind::Ask)
}

fn patches(place: &Root, deadline: Instant, names: &[&str]) -> Step {
    zypper(place, deadline, &[&["info", "--type", "patch", "--"], names].concat(), StepKind::Ask)
}

fn table(place: &Root, deadline: Instant, words: &[&str]) -> Step {
    let plain = ["--table-style=0", "--no-abbrev"];
    zypper(place, deadline, &[&plain, words].concat(), StepKind::Ask)
}

/// It fails at once where another one has its lock (exit code 7), also when it only reports, and is then
/// tried again until the deadline.
fn zypper(place: &Root, deadline: Instant, words: &[&str], kind: StepKind) -> Step {
    let mut arguments = vec!["--non-interactive".to_owned(), "--no-color".into()];
    arguments.extend(place.elsewhere().map(|root| format!("--root={}", root.display())));
    arguments.extend(words.iter().map(|word| (*word).to_owned()));
    Step::new("zypper", arguments, deadline, kind)
}

/// Whether the system has no releases.
fn rolls(place: &Root) -> bool {
    let files = ["etc/os-release", "usr/lib/os-release"].map(|file| place.path(file));
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    let id = text.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("ID="));
    id.is_some_and(|id| matches!(id.trim_matches('"'), "opensuse-tumbleweed" | "opensuse-slowroll"))
}
