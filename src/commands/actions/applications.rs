//! Installed applications: the machine's packages as an inventory, and those that could be newer.
//! Changes nothing.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::packages::{self, Manager, Package, Root};
use crate::commands::decode::argument::PackageName;
use crate::commands::execute::outcome::Outcome;
use crate::model::Iso8601;

/// One application as the host's inventory has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Application {
    name: String,
    version: String,
    publisher: Option<String>,
    install_date: Option<String>,
    /// A package's files are all over the system, so there is none.
    install_location: Option<String>,
    size_mb: Option<f64>,
}

/// One application that could be newer. The host merges them into the inventory by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Newer {
    name: String,
    version: String,
    vendor: Option<String>,
    /// The version that can be had.
    update_available: String,
    update_source: String,
    update_size_bytes: Option<u64>,
    is_security_update: bool,
    can_update: bool,
}

/// The machine's packages: `{applications:[…], truncated}`; first those with an entry in the menu, then
/// those that somebody asked for, then what came along.
pub async fn installed(cx: &Context) -> Outcome {
    installed_in(&Root::machine(), cx).await
}

/// What is known of one package: `{name, version, publisher, install_date, install_location, size_mb, description,
/// architecture, source, repository, asked_for}`. One that is there for several architectures may be named with one
/// (`:i386`, `.i686`); else the first is told.
pub async fn details(cx: &Context, name: &PackageName) -> Outcome {
    details_in(&Root::machine(), cx, name).await
}

/// [`details`] in another tree.
pub async fn details_in(place: &Root, cx: &Context, name: &PackageName) -> Outcome {
    let mut packages = match packages::installed(place, cx).await {
        Ok(packages) => packages,
        Err(why) => return Outcome::failed(why),
    };
    packages.retain(|package| {
        let Package { name: own, architecture, .. } = package;
        let with = [format!("{own}:{architecture}"), format!("{own}.{architecture}")];
        own == name.as_str() || with.iter().any(|with| with == name.as_str())
    });
    packages.truncate(1);
    let package = match ordered(place, packages, cx.deadline).await {
        Ok(found) => found.into_iter().next(),
        Err(why) => return Outcome::failed(why),
    };
    let Some(package) = package else {
        return Outcome::failed(format!(
            "there is no application {name}; GetInstalledApplications lists them"
        ));
    };
    Outcome::data(json!({
        "name": package.name,
        "version": package.version,
        "publisher": package.publisher,
        "install_date": package.installed_at.map(|at| Iso8601::new(at).as_str().to_owned()),
        "install_location": null,
        "size_mb": package.size_bytes.map(mebibytes),
        "description": package.description,
        "architecture": package.architecture,
        "source": package.source,
        "repository": package.repository,
        "asked_for": package.asked_for,
    }))
}

/// The packages that could be newer: `{applications:[…], summary:{total, security, download_bytes,
/// installed, package_manager}, truncated}`; `download_bytes` is null where the manager tells no sizes.
pub async fn updates(cx: &Context) -> Outcome {
    updates_in(&Root::machine(), cx).await
}

/// [`installed`] in another tree.
pub async fn installed_in(place: &Root, cx: &Context) -> Outcome {
    let packages = match packages::installed(place, cx).await {
        Ok(packages) => packages,
        Err(why) => return Outcome::failed(why),
    };
    let ordered = match ordered(place, packages, cx.deadline).await {
        Ok(ordered) => ordered,
        Err(why) => return Outcome::failed(why),
    };
    let application = |package: Package| Application {
        name: package.name,
        version: package.version,
        publisher: package.publisher,
        install_date: package.installed_at.map(|at| Iso8601::new(at).as_str().to_owned()),
        install_location: None,
        size_mb: package.size_bytes.map(mebibytes),
    };
    let applications: Vec<Application> = ordered.into_iter().map(application).collect();
    Outcome::data(json!({ "applications": applications, "truncated": 0 }))
}

/// [`updates`] in another tree.
pub async fn updates_in(place: &Root, cx: &Context) -> Outcome {
    let both = async {
        let there = packages::installed(place, cx).await?;
        Ok::<_, String>((there, packages::upgrades(place, cx, true).await?))
    };
    let (there, upgrades) = match both.await {
        Ok(both) => both,
        Err(why) => return Outcome::failed(why),
    };
    let vendors: HashMap<&str, &Option<String>> =
        there.iter().map(|package| (package.name.as_str(), &package.publisher)).collect();
    let summary = json!({
        "installed": there.len(),
        "total": upgrades.total,
        "security": upgrades.security(),
        "held": upgrades.held.len(),
        "download_bytes": download_bytes(&upgrades),
        "package_manager": place.manager().map(Manager::name).ok(),
    });
    // The manager itself would take it; pacman takes none without the others.
    let alone = place.manager() != Ok(Manager::Pacman);
    let newer = |upgrade: &packages::Upgrade, can_update: bool| Newer {
        name: upgrade.package_name.clone(),
        version: upgrade.current_version.clone(),
        vendor: vendors.get(upgrade.package_name.as_str()).and_then(|vendor| (*vendor).clone()),
        update_available: upgrade.available_version.clone(),
        update_source: upgrade.repository.clone(),
        update_size_bytes: upgrade.fetch_bytes,
        is_security_update: upgrade.is_security,
        can_update,
    };
    // A held one is told, and that it is not to be updated.
    let pending = upgrades.list.iter().map(|upgrade| newer(upgrade, alone));
    let held = upgrades.held.iter().map(|upgrade| newer(upgrade, false));
    let applications: Vec<Newer> = pending.chain(held).collect();
    let cut = upgrades.total.saturating_sub(upgrades.list.len());
    Outcome::data(json!({ "applications": applications, "summary": summary, "truncated": cut }))
}

/// The bytes to fetch in all; `None` where updates are pending and the manager tells no size of any.
fn download_bytes(upgrades: &packages::Upgrades) -> Option<u64> {
    let mut known = upgrades.list.iter().filter_map(|upgrade| upgrade.fetch_bytes).peekable();
    let some = known.peek().is_some() || upgrades.total == 0;
    some.then(|| known.sum())
}

/// The order of the inventory, and dates where only the database's files have them.
async fn ordered(
    place: &Root,
    mut packages: Vec<Package>,
    deadline: Instant,
) -> Result<Vec<Package>, String> {
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    if place.manager()? != Manager::Apt {
        packages.sort_by_key(|package| !package.asked_for);
        return Ok(packages);
    }
    let place = place.clone();
    let until = deadline.into_std();
    let until = until.checked_sub(std::time::Duration::from_secs(1)).unwrap_or(until);
    let look = tokio::task::spawn_blocking(move || {
        packages::look_closer(&place, &mut packages, until);
        packages
    });
    match timeout_at(deadline, look).await {
        Ok(Ok(packages)) => Ok(packages),
        Ok(Err(_)) => Err("reading dpkg's lists of files failed; they are not as expected".into()),
        Err(_) => Err("reading dpkg's lists of files took longer than the command may".into()),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0) * 100.0).round() / 100.0
}
