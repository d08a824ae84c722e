//! Installed applications: the machine's packages as an inventory, and those that could be newer.
//! Changes nothing.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::action::{Action, NoArguments, Refused, Unfit};
use super::packages::PackageError;
use super::packages::{self, Operation, Package, PackageManager, Root};
use super::page::Name;
use super::plan::{Argument, Plan};
use super::{ActionOutcome, Context};
use crate::commands::argument::PackageName;
use crate::commands::outcome::Outcome;
use crate::model::Iso8601;
use crate::sort;
use crate::tasks::spawn_blocking;

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
/// those that a person asked for, then what came along. The name is Windows'; the host asks Linux too.
#[derive(Debug, Clone, PartialEq)]
pub struct GetInstalledApplicationsWMI;

impl Action for GetInstalledApplicationsWMI {
    const NAMES: &'static [Name] = &[
        Name::new(
            "GetInstalledApplicationsWMI",
            "lists packages as applications, those installed on request first",
            "`{applications: [{name, version, publisher, install_date, size_mb, …}], truncated}`",
        )
        .sent_bare(),
        Name::new("GetInstalledApplications", "is GetInstalledApplicationsWMI", "as that"),
    ];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads(packages::LISTS)
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        packages::would_run(place, Operation::List)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        installed_in(&Root::machine(), cx).await.into()
    }
}

/// What is known of one package: `{name, version, publisher, install_date, install_location, size_mb, description,
/// architecture, source, repository, asked_for}`. One that is there for several architectures may be named with one
/// (`:i386`, `.i686`); else the first is reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GetApplicationDetails(pub PackageName);

/// The name of an application.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ApplicationArguments {
    app_id: Option<String>,
    app_name: Option<String>,
    package: Option<String>,
}

impl Action for GetApplicationDetails {
    const NAMES: &'static [Name] = &[Name::new(
        "GetApplicationDetails",
        "shows what is known of one installed package",
        "`{name, version, publisher, install_date, size_mb, description, architecture, source, asked_for, …}`",
    )
    .takes("app_id (or app_name, package)")
    .sent_bare()];
    const RULES: &'static [Argument] = &[Argument::Package];
    type Arguments = ApplicationArguments;

    fn new(_: &'static str, arguments: ApplicationArguments) -> Result<Self, Unfit> {
        let ApplicationArguments { app_id, app_name, package } = arguments;
        match [app_id, app_name, package].into_iter().flatten().find(|name| !name.is_empty()) {
            Some(application) => Ok(Self(PackageName::new(&application)?)),
            None => Err(Unfit::Refused(Refused::Incomplete("name the application (app_id)"))),
        }
    }

    fn plan(&self) -> Plan {
        let does = format!("looks {} up among the installed packages", self.0);
        Plan::reads(does).with(Argument::Package, self.0.as_str())
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        details_in(&Root::machine(), cx, &self.0).await.into()
    }
}

/// The packages that could be newer: `{applications:[…], summary:{total, security, download_bytes,
/// installed, package_manager}, truncated}`; `download_bytes` is null where the manager tells no sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckApplicationUpdates;

impl Action for CheckApplicationUpdates {
    const NAMES: &'static [Name] = &[Name::new(
        "CheckApplicationUpdates",
        "lists applications for which there is a newer version",
        "`{applications: [{name, version, update_available, can_update, …}], summary, truncated}`",
    )
    .sent_bare()];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads(packages::ASKS)
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        packages::would_run(place, Operation::CheckSizes)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        updates_in(&Root::machine(), cx).await.into()
    }
}

/// [`GetApplicationDetails`] in a tree.
pub(crate) async fn details_in(place: &Root, cx: &Context, name: &PackageName) -> Outcome {
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

/// [`GetInstalledApplicationsWMI`] in a tree.
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

/// [`CheckApplicationUpdates`] in a tree.
pub async fn updates_in(place: &Root, cx: &Context) -> Outcome {
    let both = async {
        let there = packages::installed(place, cx).await?;
        Ok::<_, PackageError>((there, packages::upgrades(place, cx, true).await?))
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
        "package_manager": place.driver().ok().map(PackageManager::name),
    });
    // The manager itself would take it; pacman takes none without the others.
    let alone = place.driver().is_ok_and(PackageManager::updates_one_alone);
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
) -> Result<Vec<Package>, PackageError> {
    sort::by(&mut packages, |a, b| a.name.cmp(&b.name));
    let Some(look_closer) = place.driver()?.look_closer() else {
        sort::by_key(&mut packages, |package| !package.asked_for);
        return Ok(packages);
    };
    let place = place.clone();
    let until = deadline.into_std();
    let until = until.checked_sub(std::time::Duration::from_secs(1)).unwrap_or(until);
    let look = spawn_blocking(move || {
        look_closer(&place, &mut packages, until);
        packages
    });
    match timeout_at(deadline, look).await {
        Ok(Ok(packages)) => Ok(packages),
        Ok(Err(_)) => Err(PackageError::Panicked("dpkg's lists of files".into())),
        Err(_) => Err(PackageError::Late("dpkg's lists of files".into())),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    (bytes as f64 / (1024.0 * 1024.0) * 100.0).round() / 100.0
}
