//! Deletes what declared targets name, and nothing else. Follows no link, leaves no file system, and
//! deletes nothing that a process has open.

mod sweep;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout_at;

use super::action::{Action, Unfit};
use super::packages::{self, Operation, Root};
use super::page::{Missing, Name, json as parameter};
use super::plan::{Argument, Plan};
use super::{ActionOutcome, Context};
use crate::commands::argument::{ArgumentError, plain_name};
use crate::commands::outcome::Outcome;
use crate::sort;
use crate::tasks::spawn_blocking;

pub(crate) use sweep::{Rules, Swept, open_files, sweep};

/// What can be cleaned, by the names the host uses.
pub const TARGETS: [&str; 4] = ["temp_files", "system_cache", "browser_cache", "recycle_bin"];

/// Targets of one clean-up at most.
const TARGETS_MAX: usize = 32;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Temporary files and how long they are kept: systemd's own figures (`tmpfiles.d/tmp.conf`).
const TEMPORARY: [(&str, Duration); 2] =
    [("tmp", DAY.saturating_mul(10)), ("var/tmp", DAY.saturating_mul(30))];

/// Caches of browsers below a home. What is in `~/.cache` can be deleted at any time (XDG base directory
/// specification); these are kept for a day, and open ones are left.
const BROWSERS: [&str; 7] = [
    ".cache/mozilla",
    ".cache/google-chrome",
    ".cache/chromium",
    ".cache/BraveSoftware",
    ".cache/microsoft-edge",
    ".cache/opera",
    ".cache/vivaldi",
];

/// Where deleted files are kept (freedesktop.org trash specification 1.0).
const TRASH: [&str; 3] =
    [".local/share/Trash/files", ".local/share/Trash/info", ".local/share/Trash/expunged"];

/// Cleans what its targets name, temporary files where there is none:
/// `{space_cleared_mb, files_deleted, targets:{NAME:{space_cleared_mb, files_deleted, kept, note}}}`.
///
/// A target that is not in [`TARGETS`] is refused before anything is deleted. `system_cache` is the
/// package manager's own doing; the space of the rest is what the file system gave the deleted files.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskCleanup {
    /// `temp_files`, `system_cache`, …; empty: temporary files.
    pub targets: Vec<String>,
}

/// What to clean up.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct CleanupArguments {
    targets: Option<Vec<String>>,
}

impl Action for DiskCleanup {
    const NAMES: &'static [Name] = &[
        Name::new(
            "DiskCleanup",
            "deletes what the targets name; without targets, temporary files",
            "`{space_cleared_mb, files_deleted, targets}`",
        )
        .takes("targets?: temp_files, system_cache, browser_cache, recycle_bin")
        .sent_bare(),
        Name::new("CleanTemporaryFiles", "is DiskCleanup", "as DiskCleanup")
            .takes("targets?")
            .sent(&[parameter("targets", Missing::Absent)]),
    ];
    const RULES: &'static [Argument] = &[Argument::Target];
    type Arguments = CleanupArguments;

    fn new(_: &'static str, arguments: CleanupArguments) -> Result<Self, Unfit> {
        let targets = arguments.targets.unwrap_or_default();
        if targets.len() > TARGETS_MAX {
            return Err(ArgumentError::TooMany("targets", TARGETS_MAX).into());
        }
        let targets = targets.into_iter().map(|name| plain_name(name, "a target"));
        Ok(Self { targets: targets.collect::<Result<_, _>>()? })
    }

    fn plan(&self) -> Plan {
        let does = does(&self.targets);
        let plan = Plan::changes(does.clone()).besides(does);
        match self.targets.as_slice() {
            [] => plan.with(Argument::Target, TARGETS[0]),
            some => some.iter().fold(plan, |plan, target| plan.with(Argument::Target, target)),
        }
    }

    fn programs(&self, place: &Root) -> Option<Vec<Vec<String>>> {
        match self.targets.iter().any(|target| target == "system_cache") {
            true => packages::would_run(place, Operation::CleanCache),
            false => Some(Vec::new()), // deletes files itself
        }
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        run_in(&Root::machine(), cx, &self.targets, SystemTime::now()).await.into()
    }
}

/// What cleaning `targets` does, after "it": for `explain`.
fn does(targets: &[String]) -> String {
    let unknown = targets.iter().any(|name| !TARGETS.contains(&name.as_str()));
    if unknown {
        return format!("fails: can be cleaned are only {}", TARGETS.join(", "));
    }
    let named = |name: &str| {
        targets.iter().any(|target| target == name) || (targets.is_empty() && name == TARGETS[0])
    };
    let each = TARGETS.into_iter().filter(|name| named(name)).map(|name| match name {
        "temp_files" => {
            "files unused for 10 days in /tmp and for 30 in /var/tmp, but none that is open"
        }
        "system_cache" => "what the package manager has fetched, by the package manager",
        "browser_cache" => "what browsers have cached in all homes, older than a day",
        _ => "the trash of all homes",
    });
    format!("deletes {}", each.collect::<Vec<_>>().join("; "))
}

/// [`DiskCleanup`] in a tree, with the time that ages are measured by.
pub async fn run_in(place: &Root, cx: &Context, targets: &[String], now: SystemTime) -> Outcome {
    let named: Vec<&str> = match targets {
        [] => vec![TARGETS[0]],
        some => some.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = named.iter().find(|name| !TARGETS.contains(name)) {
        let unknown: String = unknown.chars().take(40).collect();
        return Outcome::failed(format!(
            "{unknown:?} is nothing that can be cleaned; name some of: {}",
            TARGETS.join(", ")
        ));
    }
    let (mut by_target, mut all) = (Map::new(), Swept::default());
    for target in TARGETS.into_iter().filter(|target| named.contains(target)) {
        let swept = match target {
            "system_cache" => package_cache(place, cx).await,
            other => files(place, cx, other, now).await,
        };
        all.bytes += swept.bytes;
        all.deleted += swept.deleted;
        by_target.insert(target.to_owned(), tell(&swept));
    }
    tracing::info!(
        files = all.deleted,
        bytes = all.bytes,
        targets = named.len(),
        "files were deleted"
    );
    let mut data = tell(&all);
    if let Some(data) = data.as_object_mut() {
        data.retain(|key, _| key == "space_cleared_mb" || key == "files_deleted");
        data.insert("targets".into(), Value::Object(by_target));
    }
    Outcome::data(data)
}

fn tell(swept: &Swept) -> Value {
    let mebibytes = (swept.bytes as f64 / (1024.0 * 1024.0) * 100.0).round() / 100.0;
    json!({
        "space_cleared_mb": mebibytes,
        "files_deleted": swept.deleted,
        "kept": swept.kept,
        "note": swept.note,
    })
}

async fn files(place: &Root, cx: &Context, target: &str, now: SystemTime) -> Swept {
    // It ends by itself a second before it is given up, so that what it did is reported.
    let last = cx.deadline.into_std();
    let until = last.checked_sub(Duration::from_secs(1)).unwrap_or(last);
    let (place, target) = (place.clone(), target.to_owned());
    let work = spawn_blocking(move || {
        let folders: Vec<(PathBuf, &str, Duration)> = match target.as_str() {
            "temp_files" => {
                TEMPORARY.iter().map(|(path, age)| (place.path(path), "", *age)).collect()
            }
            "browser_cache" => below_homes(&place, &BROWSERS, DAY),
            _ => below_homes(&place, &TRASH, Duration::ZERO),
        };
        let rules = Rules { now, until, open: open_files() };
        let mut all = Swept::default();
        for (base, below, age) in folders {
            sweep(&base, below, age, &rules, &mut all);
        }
        all
    });
    match timeout_at(cx.deadline, work).await {
        Ok(Ok(swept)) => swept,
        Ok(Err(_)) => Swept::noted("it failed midway; what was deleted is not counted"),
        Err(_) => {
            Swept::noted("it took longer than the command may; what was deleted is not counted")
        }
    }
}

/// The manager deletes what it fetched; what that was is counted before and after.
async fn package_cache(place: &Root, cx: &Context) -> Swept {
    let manager = match place.driver() {
        Ok(manager) => manager,
        Err(why) => return Swept::noted(format!("not applicable: {why}")),
    };
    let Some(folder) = manager.cache().map(|folder| place.path(folder)) else {
        let tool = manager.tool();
        return Swept::noted(format!("not applicable: {tool} is not driven by this agent"));
    };
    let before = sweep::size(folder.clone(), cx.deadline).await;
    let answer = packages::change_in(place, cx, Operation::CleanCache).await;
    let after = sweep::size(folder, cx.deadline).await;
    Swept {
        bytes: before.bytes.saturating_sub(after.bytes),
        deleted: before.deleted.saturating_sub(after.deleted),
        kept: 0,
        note: answer.error,
    }
}

/// Each of `paths` below each home of `/etc/passwd`: root's and people's (from 1000 on, not `nobody`).
fn below_homes(
    place: &Root,
    paths: &[&'static str],
    age: Duration,
) -> Vec<(PathBuf, &'static str, Duration)> {
    let accounts = std::fs::read_to_string(place.path("etc/passwd")).unwrap_or_default();
    let home = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let uid: u32 = fields.next()?.parse().ok()?;
        let home = fields.nth(2)?.strip_prefix('/').filter(|home| !home.is_empty())?;
        (uid == 0 || (1_000..65_534).contains(&uid)).then(|| place.path(home))
    };
    let mut homes: Vec<PathBuf> = accounts.lines().filter_map(home).collect();
    sort::by(&mut homes, Ord::cmp);
    homes.dedup();
    homes.iter().flat_map(|home| paths.iter().map(|path| (home.clone(), *path, age))).collect()
}
