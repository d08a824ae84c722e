//! Packages: list, search, install, remove, update, by the machine's own package manager. Does not
//! decide who may, and never makes a line for a shell.
//!
//! What is installed is read from the database's files where they are plain text (dpkg, pacman, apk)
//! and asked of `rpm` otherwise. What changes the machine is a list of [`Step`]s, made by one function
//! for the real run and for `explain` alike.

mod error;
mod actions;
mod apk;
mod apt;
mod operation;
mod dnf;
mod dpkg;
mod history;
mod manager;
mod driver;
mod pacman;
mod detect;
mod simulation;
mod rpm;
mod deb822;
mod transaction;
mod failure;
mod upgrades;
mod zypper;

use serde::Serialize;
use serde_json::json;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

pub use super::root::Root;
pub use actions::{PackageInstall, PackageList, PackageRemove, PackageSearch, PackageUpdate};
pub use detect::Manager;
pub(crate) use error::PackageError;
pub(crate) use history::PastUpdate;
pub use operation::Operation;
pub use simulation::{ChangeKind, Planned};
pub(crate) use transaction::Step;
pub(crate) use upgrades::{Upgrade, Upgrades};

pub(super) use actions::{ASKS, LISTS, PackageArguments};
pub(super) use manager::{PackageManager, RestartCheck, needs_restarting};
pub(super) use transaction::run;

use super::plan::{Argument, Effect, Value};
use super::{ActionError, Context};
use crate::commands::argument::Query;
use crate::commands::outcome::Outcome;
use crate::sort;

/// An index older than this is fetched anew before pending updates are reported.
const INDEX_OLD: Duration = Duration::from_secs(24 * 60 * 60);

/// The most packages a search tells.
pub(crate) const FOUND_MAX: usize = 200;

/// A package, as every manager here reports it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Package {
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision where it has them.
    pub version: String,
    /// One line.
    pub description: String,
    /// Whether it is on the machine.
    pub installed: bool,
    /// Who made it.
    pub publisher: Option<String>,
    /// The manager it is known to: `apt`, `rpm`, …
    pub source: &'static str,
    /// Where it comes from; the databases of dpkg, pacman and apk do not say it.
    pub repository: Option<String>,
    /// For which machine: `amd64`, `all`, `x86_64`, …
    pub architecture: String,
    /// The space it takes, in bytes.
    #[serde(skip)]
    pub size_bytes: Option<u64>,
    /// When it was installed or last brought up to date.
    #[serde(skip)]
    pub installed_at: Option<SystemTime>,
    /// Whether a person asked for it, rather than another package.
    #[serde(skip)]
    pub asked_for: bool,
}

/// The programs that `operation` would start in `place`, each with its arguments, in order, without starting one;
/// `None` where no manager there can do it. The steps are the very ones that are run.
pub(super) fn would_run(place: &Root, operation: Operation<'_>) -> Option<Vec<Vec<String>>> {
    let nominal = Instant::now() + transaction::NOMINAL;
    let first = match operation {
        Operation::Check if wants_index(place) => steps(place, Operation::Refresh, nominal).ok()?,
        _ => Vec::new(),
    };
    let steps = steps(place, operation, nominal).ok()?;
    Some(first.iter().chain(&steps).map(Step::argv).collect())
}

/// The steps of `change` in `place`, for the real run and for `explain` alike.
///
/// # Errors
/// The sentence of an answer, where its manager cannot do that.
pub(crate) fn steps(
    place: &Root,
    change: Operation<'_>,
    deadline: Instant,
) -> Result<Vec<Step>, PackageError> {
    place.driver()?.steps(place, change, deadline)
}

/// What `change` would change in `place`. Where the change itself would first fetch what is known of packages, that is
/// done.
///
/// # Errors
/// The manager cannot tell.
pub async fn planned_changes_in(
    place: &Root,
    cx: &Context,
    change: Operation<'_>,
) -> Result<Vec<Planned>, PackageError> {
    let (steps, parse) = place.driver()?.simulation(place, change, cx.deadline);
    simulation::simulate(cx, &steps, parse, change.name()).await
}

/// Whether the index is to be fetched anew before pending updates are listed: apt's, or the agent's own for pacman, when it is
/// older than a day; dnf and zypper decide that themselves.
pub(super) fn wants_index(place: &Root) -> bool {
    place.driver().is_ok_and(|manager| !manager.fetches_index())
        && index_age(place).is_none_or(|age| age > INDEX_OLD)
}

/// How old the index is.
pub(super) fn index_age(place: &Root) -> Option<Duration> {
    place.driver().ok()?.index_age(place)
}

/// What a change to a package does to others, by the manager's own simulation.
pub(super) async fn side_effects(
    cx: &Context,
    change: Operation<'_>,
) -> Result<Vec<Effect<'static>>, ActionError> {
    let effect = |Planned { kind, name }| {
        let action = match kind {
            ChangeKind::Install => "PackageInstall",
            ChangeKind::Update => "PackageUpdate",
            ChangeKind::Remove => "PackageRemove",
        };
        Effect::side_effect(action, vec![(Argument::Package, Value::Is(String::into(name)))])
    };
    let planned = planned_changes_in(&Root::machine(), cx, change).await?;
    Ok(planned.into_iter().map(effect).collect())
}

/// All installed packages in a tree: `{packages:[…], truncated}`; `truncated` says how many are missing.
pub async fn list_in(place: &Root, cx: &Context) -> Outcome {
    match installed(place, cx).await {
        Ok(mut packages) => {
            sort::by(&mut packages, |a, b| a.name.cmp(&b.name));
            packages_data(packages, 0)
        }
        Err(why) => Outcome::failed(why),
    }
}

/// Packages of a tree whose name or description has every word of `query`, at most `FOUND_MAX`, exact names
/// first: `{packages:[…], truncated}`.
pub async fn search_in(place: &Root, cx: &Context, query: &Query) -> Outcome {
    let found = async { place.driver()?.search(place, cx, query).await }.await;
    match found {
        Ok((packages, left_out)) => packages_data(packages, left_out),
        Err(why) => Outcome::failed(why),
    }
}

/// Runs the steps of `change` in a tree. Success is what the manager calls it: exit code 0.
pub async fn change_in(place: &Root, cx: &Context, change: Operation<'_>) -> Outcome {
    match steps(place, change, cx.deadline) {
        Ok(steps) => run(cx, &steps, change.name()).await,
        Err(why) => Outcome::failed(why),
    }
}

/// The installed packages, whatever keeps them.
pub(super) async fn installed(place: &Root, cx: &Context) -> Result<Vec<Package>, PackageError> {
    place.driver()?.installed(place, cx).await
}

/// The pending upgrades, by what the manager knows now, with the bytes to fetch where `sizes` is wanted.
pub(super) async fn upgrades(
    place: &Root,
    cx: &Context,
    sizes: bool,
) -> Result<Upgrades, PackageError> {
    place.driver()?.pending(place, cx, sizes).await
}

fn packages_data(packages: Vec<Package>, left_out: usize) -> Outcome {
    Outcome::data(json!({ "packages": packages, "truncated": left_out }))
}
