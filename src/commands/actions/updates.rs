//! Updates of the system's packages: pending ones, past ones, and bringing everything up to date. Does
//! not restart the machine.

use std::path::Path;

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::action::{Action, NoArguments, SideEffects, Unfit};
use super::packages::PackageError;
use super::packages::{
    self, Operation, PackageArguments, PastUpdate, RestartCheck, Root, index_age, needs_restarting,
    wants_index,
};
use super::page::{Missing, Name, text};
use super::plan::{Argument, Effect, Plan, Value as Seen};
use super::{ActionOutcome, Context};
use crate::commands::argument::PackageName;
use crate::commands::outcome::Outcome;
use crate::commands::process::{Exit, Program};
use crate::metrics::collect::Release;
use crate::model::Iso8601;
use crate::sort;
use crate::tasks::spawn_blocking;

/// The most past updates that are told, the newest first.
const PAST_MAX: usize = 2_000;

/// How many updates are pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// In all.
    pub total: usize,
    /// Of them, those that their source calls security updates; `None` where it does not tell.
    pub security: Option<usize>,
}

/// Pending updates: `{pending_updates:[…], held_updates:[…], truncated, security_updates_count, total_pending_count, package_manager,
/// reboot_required, reboot_required_since, distro, index_age_seconds, note}`.
///
/// apt's index, or the agent's own lists for pacman, are fetched anew when they are older than a day, with a
/// third of the time there is; when that fails, what is known is told, and `note` says so. `reboot_required`
/// is null where nothing tells.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckLinuxUpdates;

impl Action for CheckLinuxUpdates {
    const NAMES: &'static [Name] = &[
        Name::new(
            "CheckLinuxUpdates",
            "lists pending updates, and those that are held back",
            "`{pending_updates: […], held_updates: […], security_updates_count, total_pending_count, reboot_required, …}`",
        )
        .sent_bare(),
        Name::new("GetPendingUpdates", "is CheckLinuxUpdates", "as that").sent_bare(),
        Name::new("GetPendingLinuxUpdates", "is CheckLinuxUpdates", "as that"),
    ];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads(packages::ASKS).besides(LOOKS)
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        packages::would_run(place, Operation::Check)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        check_in(&Root::machine(), cx).await.into()
    }
}

/// Brings everything up to date, or one package: `{reboot_required}`.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateSystemSoftware(pub Option<PackageName>);

impl UpdateSystemSoftware {
    fn operation(&self) -> Operation<'_> {
        self.0.as_ref().map_or(Operation::UpgradeAll, Operation::UpgradeOne)
    }
}

impl Action for UpdateSystemSoftware {
    const NAMES: &'static [Name] = &[Name::new(
        "UpdateSystemSoftware",
        "refreshes the package lists, and updates everything or one package",
        "`{reboot_required}`",
    )
    .takes("package?")
    .sent(&[text("package", Missing::Absent)])];
    const RULES: &'static [Argument] = &[Argument::Package];
    type Arguments = PackageArguments;

    fn new(_: &'static str, arguments: PackageArguments) -> Result<Self, Unfit> {
        Ok(Self(arguments.if_named()?))
    }

    fn plan(&self) -> Plan {
        let value = match &self.0 {
            Some(name) => Seen::Is(name.as_str().to_owned().into()),
            None => Seen::Everything,
        };
        let arguments = vec![(Argument::Package, value)];
        let effect = Effect::side_effect("PackageUpdate", arguments.clone());
        Plan { arguments, ..Plan::changes(packages::ASKS).besides(LOOKS).also([effect]) }
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        packages::would_run(place, self.operation())
    }

    fn side_effects<'a>(&'a self, cx: &'a Context) -> SideEffects<'a> {
        packages::side_effects(cx, self.operation()).boxed()
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        upgrade_in(&Root::machine(), cx, self.0.as_ref()).await.into()
    }
}

/// Past updates, the newest first: `{updates:[{title,kb_article,install_date,status,result_code}]}`. Of
/// apt's log, the current file; of zypper's and pacman's, its last 4 MiB.
#[derive(Debug, Clone, PartialEq)]
pub struct GetUpdateHistory;

impl Action for GetUpdateHistory {
    const NAMES: &'static [Name] = &[
        Name::new(
            "GetUpdateHistory",
            "lists past updates, newest first",
            "`{updates: [{title, install_date, status, result_code}], truncated}`",
        )
        .sent_bare(),
        Name::new("GetLinuxUpdateHistory", "is GetUpdateHistory", "as that"),
    ];
    type Arguments = NoArguments;

    fn new(_: &'static str, _: NoArguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("reads the log of apt, zypper or pacman, or asks dnf for its history")
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        packages::would_run(place, Operation::History)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        history_in(&Root::machine(), cx).await.into()
    }
}

/// What checking for updates and bringing them in does beside asking the package manager.
const LOOKS: &str = "and looks whether the machine waits for a restart: on Debian by its mark, elsewhere with zypper \
     needs-rebooting or needs-restarting -r";

/// How many updates are pending, by what is known now: fetches nothing on a machine with apt or pacman.
///
/// # Errors
/// The sentence of an answer.
pub(crate) async fn pending(cx: &Context) -> Result<Pending, PackageError> {
    let place = Root::machine();
    let tells = place.driver()?.tells_security();
    let upgrades = packages::upgrades(&place, cx, false).await?;
    Ok(Pending { total: upgrades.total, security: tells.then(|| upgrades.security()) })
}

/// [`CheckLinuxUpdates`] in a tree.
pub async fn check_in(place: &Root, cx: &Context) -> Outcome {
    let mut note = None;
    if off_worker(place, wants_index).await.unwrap_or(false) {
        let left = cx.deadline.saturating_duration_since(Instant::now());
        let refresh = packages::steps(place, Operation::Refresh, Instant::now() + left / 3);
        let refreshed = match refresh {
            Ok(steps) => packages::run(cx, &steps, "").await,
            Err(why) => Outcome::failed(why),
        };
        note = refreshed
            .error
            .map(|why| format!("the package index is old and could not be fetched anew: {why}"));
    }
    let upgrades = match packages::upgrades(place, cx, false).await {
        Ok(upgrades) => upgrades,
        Err(why) => return Outcome::failed(why),
    };
    let (reboot, since) = reboot_required(place, cx).await;
    let (security, total) = (upgrades.security(), upgrades.total);
    let listed = upgrades.list.len();
    let manager = place.driver().ok();
    if manager.is_some_and(|manager| !manager.tells_security()) {
        note.get_or_insert_with(|| "pacman does not tell which updates are for security".into());
    }
    if !upgrades.held.is_empty() {
        let names: Vec<&str> =
            upgrades.held.iter().map(|one| &*one.package_name).take(20).collect();
        let held = format!("held back, though there is an update: {}", names.join(", "));
        note = Some(note.map_or_else(|| held.clone(), |note| format!("{note}; {held}")));
    }
    Outcome::data(json!({
        "pending_updates": upgrades.list,
        "truncated": total.saturating_sub(listed),
        "held_updates": upgrades.held,
        "security_updates_count": security,
        "total_pending_count": total,
        "package_manager": manager.map(|manager| manager.name()),
        "reboot_required": reboot,
        "reboot_required_since": since,
        "distro": off_worker(place, distro).await,
        "index_age_seconds": off_worker(place, index_age).await.flatten().map(|age| age.as_secs()),
        "note": note,
    }))
}

/// [`UpdateSystemSoftware`] in a tree.
pub async fn upgrade_in(place: &Root, cx: &Context, name: Option<&PackageName>) -> Outcome {
    let change = name.map_or(Operation::UpgradeAll, Operation::UpgradeOne);
    let mut answer = packages::change_in(place, cx, change).await;
    let (reboot, _) = reboot_required(place, cx).await;
    answer.data = Some(json!({ "reboot_required": reboot }));
    answer
}

/// [`GetUpdateHistory`] in a tree.
pub async fn history_in(place: &Root, cx: &Context) -> Outcome {
    match past(place, cx).await {
        Ok(mut updates) => {
            sort::by(&mut updates, |a, b| b.install_date.cmp(&a.install_date));
            let all = updates.len();
            updates.truncate(PAST_MAX);
            Outcome::data(json!({ "truncated": all - updates.len(), "updates": updates }))
        }
        Err(why) => Outcome::failed(why),
    }
}

/// Whether the machine must be restarted, and since when, where something tells: Debian's mark
/// (`/run/reboot-required`), or what the package manager has for it.
pub(crate) async fn reboot_required(place: &Root, cx: &Context) -> (Option<bool>, Option<String>) {
    if let Ok(mark) = tokio::fs::metadata(place.path("run/reboot-required")).await {
        let since = mark.modified().ok().map(|at| Iso8601::new(at).as_str().to_owned());
        return (Some(true), since);
    }
    let check = place.driver().map(|manager| manager.restart_check(place));
    let (program, arguments, yes) = match check.unwrap_or_else(|_| needs_restarting(place)) {
        RestartCheck::Mark => return (Some(false), None),
        RestartCheck::Program { program, arguments, yes } => (program, arguments, yes),
        RestartCheck::Unknown => return (None, None),
    };
    let program = Program::new(program, arguments, cx.deadline);
    match cx.runner.run(program).await.map(|finished| finished.exit) {
        Ok(Exit::Code(code)) if code == 0 || code == yes => (Some(code == yes), None),
        _ => (None, None),
    }
}

async fn past(place: &Root, cx: &Context) -> Result<Vec<PastUpdate>, PackageError> {
    let zone = off_worker(place, zone).await.unwrap_or_default();
    place.driver()?.history(place, cx, zone).await
}

/// Reads a few small files of a place on the blocking pool.
async fn off_worker<T: Send + 'static>(place: &Root, read: fn(&Root) -> T) -> Option<T> {
    let place = place.clone();
    spawn_blocking(move || read(&place)).await.ok()
}

/// `Z` where the machine's clock is in UTC: no `/etc/localtime`, or a link to a zone of that name.
fn zone(place: &Root) -> &'static str {
    let named =
        |link: &Path| link.ends_with("UTC") || link.ends_with("Etc/UCT") || link.ends_with("Zulu");
    match std::fs::read_link(place.path("etc/localtime")) {
        Ok(link) if named(&link) => "Z",
        Ok(_) => "",
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "Z",
        Err(_) => "",
    }
}

/// The system's name by `os-release(5)`: `Debian GNU/Linux 12 (bookworm)`.
fn distro(place: &Root) -> Value {
    Release::of(&place.path("")).pretty_name.into()
}
