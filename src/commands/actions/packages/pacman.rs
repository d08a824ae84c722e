//! pacman: what is run, and what it says, parsed. Never asks a person anything.
//!
//! # Why one package is not brought up to date by itself
//! Arch Linux moves as a whole: a package that is newer than what it was built against may not run, and
//! "partial upgrades are unsupported" (its wiki, System maintenance). So the package lists of the machine
//! are fetched anew only by the step that also upgrades everything (`-Syu`); an installation takes what
//! the lists that are there have; and to update one package is refused, with that reason. With the lists
//! that are there it would do nothing, with newer ones it would break the rule.
//!
//! # Why updates are looked for in lists of the agent's own
//! The machine's lists are as old as its last upgrade, so they never have an update. As `checkupdates(8)`
//! does, newer ones are fetched into another folder, [`LISTS`], that shares the database of what is
//! installed; pacman itself never installs from them.
//!
//! # Why it is asked to end by SIGINT
//! pacman 6.0 takes its lock, a file, away at SIGINT and SIGHUP; at SIGTERM it just ends, and the file would be
//! in everybody's way. Where a package is being unpacked the time for that may be too short: the next one to
//! find the lock is told of the file.
//!
//! # Why a name is looked up before it is used
//! `pacman -S x` also takes what provides x and all of a group x. A step before asks what it would take.

mod local;
mod output;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use tokio::time::Instant;

use super::super::Context;
use super::PackageError;
use super::deb822::read_end;
use super::history::{HISTORY_MAX, PastUpdate, pacman_history};
use super::manager::{Answer, PackageManager, Parse};
use super::transaction::{Step, StepKind, finished};
use super::upgrades::Upgrades;
use super::{ChangeKind, FOUND_MAX, Operation, Package, Planned, Root};
use crate::commands::argument::{PackageName, Query};
use crate::commands::process::Exit;
use crate::sort;

use local::installed;

/// The agent's own package lists, and in them the file `fetched`, as old as they are.
const LISTS: &str = "var/cache/infiniservice-pacman";

/// The mark of a fetch that was done; the lists themselves have the server's times.
const FETCHED: &str = "fetched";

/// The machine's.
const OWN: &str = "var/lib/pacman";

/// What `--print` reports of each package.
const FORMAT: &str = "%n %v %r %s";

/// `pacman`.
pub(super) struct Pacman;

impl PackageManager for Pacman {
    fn tool(&self) -> &'static str {
        "pacman"
    }

    fn installed<'a>(&self, place: &'a Root, cx: &'a Context) -> Answer<'a, Vec<Package>> {
        installed(place, cx.deadline).boxed()
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
        let parse = match change {
            Operation::Remove(_) => removed,
            _ => planned,
        };
        (simulate(place, change, deadline), parse)
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
            let text =
                read_end(&place.path("var/log/pacman.log"), HISTORY_MAX, cx.deadline).await?;
            Ok(pacman_history(&text, zone))
        }
        .boxed()
    }

    /// Its repositories do not say it.
    fn tells_security(&self) -> bool {
        false
    }

    fn updates_one_alone(&self) -> bool {
        false
    }

    fn fetches_index(&self) -> bool {
        false
    }

    /// That of the agent's own lists.
    fn index_age(&self, place: &Root) -> Option<Duration> {
        lists_age(place)
    }

    fn cache(&self) -> Option<&'static str> {
        Some("var/cache/pacman")
    }
}

/// The steps of `change`.
///
/// # Errors
/// The sentence of an answer, where pacman should not do that.
fn steps(
    place: &Root,
    change: Operation<'_>,
    deadline: Instant,
) -> Result<Vec<Step>, PackageError> {
    let act = |words: &[&str]| {
        let words = [words, &["--noprogressbar"]].concat();
        pacman(place, deadline, OWN, &words, &[], StepKind::Act)
    };
    let about = |words: &[&str], name: &PackageName, kind| {
        pacman(place, deadline, OWN, words, &[name.as_str()], kind)
    };
    Ok(match change {
        Operation::Install(name) => {
            let known = StepKind::Known(vec![name.to_string()]);
            vec![
                about(&["-S", "--print-format", "%n"], name, known),
                about(&["-S", "--needed", "--noprogressbar"], name, StepKind::Act),
            ]
        }
        Operation::Remove(name) => {
            let known = StepKind::Known(vec![name.to_string()]);
            vec![
                about(&["-Q", "--quiet"], name, known),
                about(&["-R", "--noprogressbar"], name, StepKind::Act),
            ]
        }
        Operation::Update(_) | Operation::UpgradeOne(_) => {
            return Err(PackageError::WholeSystemOnly);
        }
        Operation::UpgradeAll => vec![act(&["-Syu"])],
        Operation::Refresh => refresh(place, deadline),
        Operation::CleanCache => vec![act(&["-Sc"])],
        Operation::Search(query) => vec![search_step(place, deadline, query)],
        Operation::List | Operation::History => Vec::new(), // from files
        // Where they are missing, the check fetches them before.
        Operation::Check => check(place, deadline, LISTS),
        Operation::CheckSizes => check(place, deadline, newest_lists(place)),
    })
}

/// The steps that tell what `change` would do. Before an upgrade of everything, newer lists are fetched into the
/// agent's own. What an upgrade would replace pacman does not tell.
fn simulate(place: &Root, change: Operation<'_>, deadline: Instant) -> Vec<Step> {
    let ask = |lists, words: &[&str], names: &[&str]| {
        let words = [words, &["--print-format", "%n"]].concat();
        pacman(place, deadline, lists, &words, names, StepKind::Ask)
    };
    match change {
        Operation::Install(name) => vec![ask(OWN, &["-S", "--needed"], &[name.as_str()])],
        Operation::Remove(name) => vec![ask(OWN, &["-R"], &[name.as_str()])],
        Operation::UpgradeAll => {
            let mut steps = refresh(place, deadline);
            steps.push(ask(LISTS, &["-Su"], &[]));
            steps
        }
        _ => Vec::new(),
    }
}

/// The names that `--print-format` tells; whether each is there already it does not, so both is planned.
fn planned(text: &str) -> Vec<Planned> {
    let both =
        |name| [ChangeKind::Install, ChangeKind::Update].map(|kind| Planned::new(kind, name));
    names(text).flat_map(both).collect()
}

/// The same of a removal.
fn removed(text: &str) -> Vec<Planned> {
    names(text).map(|name| Planned::new(ChangeKind::Remove, name)).collect()
}

/// Lines of one word: others are said to people.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.contains(' '))
}

/// Finds packages in the lists that are there; and how many are left out.
async fn search(
    place: &Root,
    cx: &Context,
    query: &Query,
) -> Result<(Vec<Package>, usize), PackageError> {
    let (text, cut) = output_of(cx, &search_step(place, cx.deadline, query)).await?;
    let mut packages = output::found(&text, cut)?;
    let wanted = query.as_str();
    sort::by_key(&mut packages, |package| (package.name != wanted, !package.name.contains(wanted)));
    let left_out = packages.len().saturating_sub(FOUND_MAX).max(usize::from(cut));
    packages.truncate(FOUND_MAX);
    Ok((packages, left_out))
}

/// The updates that the newest lists have, but for packages that the machine is told to ignore. Repository
/// and size are of the upgrade as a whole, and missing where that could not be done now.
async fn pending(place: &Root, cx: &Context) -> Result<Upgrades, PackageError> {
    let steps = check(place, cx.deadline, newest_lists(place));
    let [outdated, plan] = &*steps else {
        return Err(PackageError::Output("pacman", "a check has other steps"));
    };
    let (text, cut) = output_of(cx, outdated).await?;
    let (mut list, held) = output::outdated(&text, cut)?;
    if list.is_empty() {
        return Ok(Upgrades { held, ..Upgrades::default() });
    }
    let planned = finished(cx, plan).await?;
    let planned = output::planned(&planned.stdout.text);
    let there: HashMap<String, String> = installed(place, cx.deadline)
        .await?
        .into_iter()
        .map(|package| (package.name, package.architecture))
        .collect();
    for upgrade in &mut list {
        if let Some((repository, bytes)) = planned.get(&*upgrade.package_name) {
            (upgrade.repository, upgrade.fetch_bytes) = ((*repository).to_owned(), *bytes);
        }
        upgrade.architecture = there.get(&upgrade.package_name).cloned().unwrap_or_default();
    }
    Ok(Upgrades { total: list.len() + usize::from(cut), list, held })
}

/// How old the agent's own lists are; `None` where there are none.
fn lists_age(place: &Root) -> Option<Duration> {
    let fetched = place.path(LISTS).join(FETCHED).metadata().ok()?.modified().ok()?;
    Some(SystemTime::now().duration_since(fetched).unwrap_or_default())
}

/// The agent's own lists where they have been fetched, else the machine's.
fn newest_lists(place: &Root) -> &'static str {
    if lists_age(place).is_some() { LISTS } else { OWN }
}

/// Fetches the agent's own lists. A lock there is of this agent alone, and no command lasts an hour: an
/// older one is left over.
fn refresh(place: &Root, deadline: Instant) -> Vec<Step> {
    let text = |path: &str| place.path(path).to_string_lossy().into_owned();
    let (lists, local) = (text(LISTS), text("var/lib/pacman/local"));
    let link = format!("{lists}/local");
    let ready = |program: &str, words: &[&str]| {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Step::new(program, words, deadline, StepKind::Ask)
    };
    vec![
        ready("mkdir", &["-p", "-m", "755", "--", &lists]),
        ready("ln", &["-sfn", "--", &local, &link]),
        ready("find", &[&lists, "-maxdepth", "1", "-name", "db.lck", "-mmin", "+60", "-delete"]),
        pacman(place, deadline, LISTS, &["-Sy", "--noprogressbar"], &[], StepKind::Act),
        ready("touch", &["--", &format!("{lists}/{FETCHED}")]),
    ]
}

/// What is outdated, and what an upgrade would fetch; neither takes a lock.
fn check(place: &Root, deadline: Instant, lists: &str) -> Vec<Step> {
    let ask = |words: &[&str]| pacman(place, deadline, lists, words, &[], StepKind::Ask);
    vec![ask(&["-Qu"]), ask(&["-Su", "--print-format", FORMAT])]
}

/// The words of a query are regular expressions to pacman, so its signs are quoted.
fn search_step(place: &Root, deadline: Instant, query: &Query) -> Step {
    let quote = |word: &str| word.replace('+', "[+]").replace('.', "[.]");
    let words: Vec<String> = query.as_str().split_ascii_whitespace().map(quote).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    pacman(place, deadline, OWN, &["-Ss"], &words, StepKind::Ask)
}

/// What a question was answered with: pacman ends with exit code 1 and says nothing where it found nothing.
async fn output_of(cx: &Context, step: &Step) -> Result<(String, bool), PackageError> {
    let finished = finished(cx, step).await?;
    let complaint = |line: &str| line.starts_with("error:") || line.contains("database file for");
    let nothing =
        finished.stdout.text.trim().is_empty() && !finished.stderr.text.lines().any(complaint);
    match finished.exit {
        Exit::Code(0) => Ok((finished.stdout.text, finished.stdout.truncated)),
        Exit::Code(1) if nothing => Ok((String::new(), false)),
        _ => Err(step.failure(&finished, "")),
    }
}

/// Options, `words`, and `names` after `--`. In a tree, pacman is told where everything is: without
/// `--sysroot`, which would need a whole system in it.
fn pacman(
    place: &Root,
    deadline: Instant,
    lists: &str,
    words: &[&str],
    names: &[&str],
    kind: StepKind,
) -> Step {
    let mut options: Vec<(&str, PathBuf)> = Vec::new();
    if let Some(root) = place.elsewhere() {
        options.push(("--root", root.into()));
        let paths = [
            ("--config", "etc/pacman.conf"),
            ("--cachedir", "var/cache/pacman/pkg"),
            ("--gpgdir", "etc/pacman.d/gnupg"),
            ("--hookdir", "etc/pacman.d/hooks"),
        ];
        options.extend(paths.map(|(option, path)| (option, place.path(path))));
    }
    match (lists, place.elsewhere()) {
        (OWN, None) => {}
        (OWN, Some(_)) => {
            options.push(("--dbpath", place.path(OWN)));
            options.push(("--logfile", place.path("var/log/pacman.log")));
        }
        // What the agent looks at for itself is no event of the machine.
        _ => options.extend([("--dbpath", place.path(lists)), ("--logfile", "/dev/null".into())]),
    }
    let mut arguments = vec!["--noconfirm".to_owned(), "--color".into(), "never".into()];
    for (option, path) in options {
        arguments.extend([option.to_owned(), path.to_string_lossy().into_owned()]);
    }
    arguments.extend(words.iter().map(|word| (*word).to_owned()));
    arguments.extend((!names.is_empty()).then(|| "--".to_owned()));
    arguments.extend(names.iter().map(|name| (*name).to_owned()));
    let mut step = Step::new("pacman", arguments, deadline, kind);
    step.program.interrupt = true;
    step
}
