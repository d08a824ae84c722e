//! Packages: list, search, install, remove, update, by the machine's own package manager. Does not
//! decide who may, and never makes a line for a shell.
//!
//! What is installed is read from the database's files where they are plain text (dpkg, pacman, apk)
//! and asked of `rpm` otherwise. What changes the machine is a list of [`Step`]s, made by one function
//! for the real run and for `explain` alike.

mod apk;
mod apt;
mod operation;
mod dnf;
mod dpkg;
mod history;
mod pacman;
mod root;
mod simulation;
mod rpm;
mod deb822;
mod transaction;
mod errors;
mod upgrades;
mod zypper;

use serde::Serialize;
use serde_json::json;
use std::time::SystemTime;
use tokio::time::Instant;

pub use deb822::{Stanza, Stanzas, read_chunks, read_end, read_stanzas};
pub use history::{PastUpdate, apt_history, dnf_history, pacman_history, zypper_history};
pub use operation::Operation;
pub use root::{Manager, Root};
pub use simulation::{ChangeKind, Planned, planned_changes_in};
pub use transaction::{Step, steps};
pub use upgrades::{Upgrade, Upgrades};

pub(super) use dpkg::look_closer;
pub(super) use pacman::lists_age;
pub(super) use transaction::{ask, run};

use super::Context;
use crate::commands::decode::argument::{PackageName, Query};
use crate::commands::decode::request::Action;
use crate::commands::execute::outcome::Outcome;

/// The most packages a search tells.
pub const FOUND_MAX: usize = 200;

/// A package, as every manager here tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Package {
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
    /// Whether somebody asked for it, rather than another package.
    #[serde(skip)]
    pub asked_for: bool,
}

/// All installed packages: `{packages:[…], truncated}`; `truncated` tells how many are missing.
pub async fn list(cx: &Context) -> Outcome {
    list_in(&Root::machine(), cx).await
}

/// Packages whose name or description has every word of `query`, at most [`FOUND_MAX`], exact names
/// first: `{packages:[…], truncated}`.
pub async fn search(cx: &Context, query: &Query) -> Outcome {
    search_in(&Root::machine(), cx, query).await
}

/// Installs one package. Success is what the manager calls it: exit code 0.
pub async fn install(cx: &Context, name: &PackageName) -> Outcome {
    change_in(&Root::machine(), cx, Operation::Install(name)).await
}

/// Removes one package; its configuration files stay.
pub async fn remove(cx: &Context, name: &PackageName) -> Outcome {
    change_in(&Root::machine(), cx, Operation::Remove(name)).await
}

/// Brings one package up to date; does not install it where it is not. Refused with pacman, which brings a
/// system up to date as a whole.
pub async fn update(cx: &Context, name: &PackageName) -> Outcome {
    change_in(&Root::machine(), cx, Operation::Update(name)).await
}

/// What `action`, one that changes packages, would change here; nothing for any other.
///
/// # Errors
/// It could not be told: the sentence of an answer.
pub async fn planned_changes(cx: &Context, action: &Action) -> Result<Vec<Planned>, String> {
    match changed_by(action) {
        Some(change) => planned_changes_in(&Root::machine(), cx, change).await,
        None => Ok(Vec::new()),
    }
}

/// What `action` changes; `None` for one that changes no package.
fn changed_by(action: &Action) -> Option<Operation<'_>> {
    Some(match action {
        Action::PackageInstall(name) => Operation::Install(name),
        Action::PackageRemove(name) => Operation::Remove(name),
        Action::PackageUpdate(name) => Operation::Update(name),
        Action::UpdateSystemSoftware(None) => Operation::UpgradeAll,
        Action::UpdateSystemSoftware(Some(name)) => Operation::UpgradeOne(name),
        _ => return None,
    })
}

/// What `action` would start here, program first, in order, without starting anything; `None` where it
/// is no action on packages, or there is no manager that can do it. The steps are the very ones that
/// are run.
pub fn would_run(action: &Action) -> Option<Vec<Vec<String>>> {
    would_run_in(&Root::machine(), action)
}

/// [`would_run`] in another tree.
pub fn would_run_in(place: &Root, action: &Action) -> Option<Vec<Vec<String>>> {
    let change = match action {
        Action::PackageSearch(query) => Operation::Search(query),
        Action::PackageList | Action::GetInstalledApplicationsWMI => Operation::List,
        Action::CheckLinuxUpdates => Operation::Check,
        Action::CheckApplicationUpdates => Operation::CheckSizes,
        Action::GetUpdateHistory => Operation::History,
        Action::DiskCleanup { targets }
            if targets.iter().any(|target| target == "system_cache") =>
        {
            Operation::CleanCache
        }
        Action::DiskCleanup { .. } => return Some(Vec::new()), // deletes files itself
        _ => changed_by(action)?,
    };
    let nominal = Instant::now() + transaction::NOMINAL;
    let first = match change {
        Operation::Check if super::updates::wants_index(place) => {
            steps(place, Operation::Refresh, nominal).ok()?
        }
        _ => Vec::new(),
    };
    let steps = steps(place, change, nominal).ok()?;
    Some(first.iter().chain(&steps).map(Step::argv).collect())
}

/// [`list`] in another tree.
pub async fn list_in(place: &Root, cx: &Context) -> Outcome {
    match installed(place, cx).await {
        Ok(mut packages) => {
            packages.sort_by(|a, b| a.name.cmp(&b.name));
            packages_data(packages, 0)
        }
        Err(why) => Outcome::failed(why),
    }
}

/// [`search`] in another tree.
pub async fn search_in(place: &Root, cx: &Context, query: &Query) -> Outcome {
    let found = match place.manager() {
        Ok(Manager::Apt) => apt::search(place, cx, query).await,
        Ok(Manager::Dnf) => dnf::search(place, cx, query).await,
        Ok(Manager::Zypper) => zypper::search(place, cx, query).await,
        Ok(Manager::Pacman) => pacman::search(place, cx, query).await,
        Ok(other) => Err(other.refusal("search packages")),
        Err(why) => Err(why),
    };
    match found {
        Ok((packages, left_out)) => packages_data(packages, left_out),
        Err(why) => Outcome::failed(why),
    }
}

/// Runs the steps of `change` in another tree.
pub async fn change_in(place: &Root, cx: &Context, change: Operation<'_>) -> Outcome {
    match steps(place, change, cx.deadline) {
        Ok(steps) => run(cx, &steps, change.name()).await,
        Err(why) => Outcome::failed(why),
    }
}

/// The installed packages, whatever keeps them.
pub(super) async fn installed(place: &Root, cx: &Context) -> Result<Vec<Package>, String> {
    match place.manager()? {
        Manager::Apt => dpkg::installed(place, cx.deadline).await,
        Manager::Dnf | Manager::Yum | Manager::Zypper => rpm::installed(place, cx).await,
        Manager::Pacman => pacman::installed(place, cx.deadline).await,
        Manager::Apk => apk::installed(place, cx.deadline).await,
    }
}

/// The pending upgrades, by what the manager knows now, with the bytes to fetch where `sizes` is wanted.
pub(super) async fn upgrades(place: &Root, cx: &Context, sizes: bool) -> Result<Upgrades, String> {
    match place.manager()? {
        Manager::Apt => apt::pending(place, cx, sizes).await,
        Manager::Dnf => dnf::pending(place, cx).await,
        Manager::Zypper => zypper::pending(place, cx).await,
        Manager::Pacman => pacman::pending(place, cx).await,
        other => Err(other.refusal("tell pending updates")),
    }
}

fn packages_data(packages: Vec<Package>, left_out: usize) -> Outcome {
    Outcome::data(json!({ "packages": packages, "truncated": left_out }))
}
