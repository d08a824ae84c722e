//! Makes a machine ready to be copied: takes away what makes it this one, as `cloud-init clean` and virt-sysprep(1) do.
//! Works on a folder, so that it can be tried on a tree. Does not switch the machine off itself.
//!
//! # What of the agent is taken away
//! A copy must not act on what its original was told: at its next start the agent empties its state folder before it opens
//! anything ([`forget`]). Until then a mark stands there, since the running agent still writes. The shared secret
//! stays: it is the installer's, and each copy gets its own with its id.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as StdInstant};

use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::action::{Action, Refused, Unfit};
use super::argument::{ArgumentError, shown};
use super::packages::{self, Operation, PackageError, Root};
use super::page::{Missing, Name, json as parameter, text};
use super::plan::{Effect, Part, Plan};
use super::users::{Range, accounts};
use super::{ActionError, Afterwards, Context, Done, program};
use crate::commands::execute::outcome::Outcome;
use crate::commands::process::Exit;
use crate::files::{StateFolder, replace};
use crate::metrics::collect::Release;

/// The longest that one step may take.
const STEP_MAX: Duration = Duration::from_secs(120);

/// Stands in the state folder of an agent whose machine is an image.
const MARK: &str = "forget-at-next-start";

/// The longest account file that is rewritten.
const ACCOUNTS_MAX: u64 = 8 * 1024 * 1024;

/// Makes the machine ready to be copied. It is switched off once that was answered, where that was asked for and every
/// step is done. The host has to say each of these.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrepareGoldenImage {
    /// How much is taken away.
    pub level: CleanupLevel,
    /// Whether the accounts of people go, with their homes.
    pub sanitize_user_data: bool,
    /// Whether the machine is switched off, seconds after the answer.
    pub shutdown_after: bool,
}

/// The arguments of [`PrepareGoldenImage`]. What cannot be taken back has no default.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct ImageArguments {
    cleanup_level: Option<String>,
    sanitize_user_data: Option<bool>,
    shutdown_after: Option<bool>,
}

impl Action for PrepareGoldenImage {
    const NAMES: &'static [Name] = &[Name::new(
        "PrepareGoldenImage",
        "takes away what makes the machine this one, then answers, and switches it off three seconds later",
        "`{os, distro, cleanup_level, sanitize_user_data, shutdown_after, steps: [{name, done, removed, note}]}`",
    )
    .takes("cleanup_level: minimal, standard or deep; sanitize_user_data; shutdown_after; all three, or it is refused")
    .sent(&[
        text("cleanup_level", Missing::Text("standard")),
        parameter("sanitize_user_data", Missing::Is(true)),
        parameter("shutdown_after", Missing::Is(true)),
    ])];
    type Arguments = ImageArguments;

    fn new(_: &'static str, arguments: ImageArguments) -> Result<Self, Unfit> {
        let ImageArguments { cleanup_level, sanitize_user_data, shutdown_after } = arguments;
        let level = cleanup_level.filter(|level| !level.is_empty());
        let (Some(level), Some(sanitize_user_data), Some(shutdown_after)) =
            (level, sanitize_user_data, shutdown_after)
        else {
            let why = "say cleanup_level (minimal, standard or deep), sanitize_user_data and shutdown_after; \
                       what is taken away does not come back";
            return Err(Unfit::Refused(Refused::Incomplete(why)));
        };
        let level = level.to_ascii_lowercase();
        let named = [Minimal, Standard, Deep].into_iter().find(|one| one.name() == level);
        let level = named.ok_or_else(|| ArgumentError::Choice {
            what: "there is no clean-up level",
            given: shown(&level),
            choices: "minimal, standard or deep",
        })?;
        Ok(Self { level, sanitize_user_data, shutdown_after })
    }

    fn plan(&self) -> Plan {
        Plan::changes(does(self))
            .also(self.shutdown_after.then(|| Effect::restart(Part::SideEffect)))
    }

    async fn run(&self, cx: &Context) -> Done {
        let outcome = prepare_in(Path::new("/"), cx, self, cx.state.as_deref()).await;
        let off = outcome.success && self.shutdown_after;
        Done { outcome, afterwards: off.then_some(Afterwards::PowerOff) }
    }
}

/// How much is taken away; each level does what the one before does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CleanupLevel {
    /// What makes the machine this one: ids, keys, leases, the agent's state.
    Minimal,
    /// What was written while it ran: logs, histories, caches, temporary files.
    Standard,
    /// Subscriptions, and room on the host.
    Deep,
}

impl CleanupLevel {
    /// The host's word for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Standard => "standard",
            Self::Deep => "deep",
        }
    }
}

/// Prepares the tree at `root`: `{os, distro, cleanup_level, sanitize_user_data, shutdown_after,
/// steps: [{name, done, removed, note}]}`. Success is that every step is done; a step that finds nothing is.
pub(crate) async fn prepare_in(
    root: &Path,
    cx: &Context,
    image: &PrepareGoldenImage,
    state: Option<&Path>,
) -> Outcome {
    let mut told = Vec::new();
    for step in STEPS.iter().filter(|step| step.is_part_of(image)) {
        let until = cx.deadline.min(Instant::now() + STEP_MAX);
        let did = match step.how {
            How::Files(work) => {
                let (root, state) = (root.to_owned(), state.map(Path::to_owned));
                // A little before, so that what it did is reported.
                let last = until.into_std();
                let last = last.checked_sub(Duration::from_millis(500)).unwrap_or(last);
                let tree = Tree { root, state, until: last };
                let work = tokio::task::spawn_blocking(move || work(&tree));
                match timeout_at(until, work).await {
                    Ok(Ok(did)) => did,
                    Ok(Err(_)) => Err(ActionError::Panicked("it")),
                    Err(_) => Err(ActionError::StepLate),
                }
            }
            How::PackageCache => package_cache(root, cx, until).await,
            How::Trim => trim(root, cx, until).await,
        };
        let failed = did.is_err();
        let Did { removed, note } =
            did.unwrap_or_else(|why| Did { removed: 0, note: Some(why.to_string()) });
        tracing::info!(
            step = step.name,
            done = !failed,
            removed,
            "step of preparing an image has ended"
        );
        told.push((
            step.name,
            failed,
            json!({
                "name": step.name, "done": !failed, "removed": removed, "note": note,
            }),
        ));
    }
    let failed: Vec<&str> =
        told.iter().filter(|(_, failed, _)| *failed).map(|(name, ..)| *name).collect();
    let at = root.to_owned();
    let release = tokio::task::spawn_blocking(move || Release::of(&at)).await.unwrap_or_default();
    let mut outcome = match failed.as_slice() {
        [] => Outcome::text("the machine is ready to be copied"),
        some => Outcome::failed(format!(
            "the machine is not ready to be copied: {} failed; see the steps",
            some.join(", ")
        )),
    };
    outcome.data = Some(json!({
        "os": "linux",
        "distro": release.pretty_name,
        "cleanup_level": image.level.name(),
        "sanitize_user_data": image.sanitize_user_data,
        "shutdown_after": image.shutdown_after && outcome.success,
        "steps": told.into_iter().map(|(_, _, step)| step).collect::<Vec<Value>>(),
    }));
    outcome
}

/// Empties the agent's state folder where its machine was made an image; whether it was. Blocks: before anything in
/// it is opened.
///
/// # Errors
/// What could not be taken away; the mark stays then.
pub(crate) fn forget(state: &StateFolder) -> Result<bool, ActionError> {
    if fs::symlink_metadata(state.path().join(MARK)).is_err() {
        return Ok(false); // nor is there a folder made for the question
    }
    let why = |(path, error)| ActionError::Forget { path, error };
    let mark = || state.path().join(MARK);
    state.open().map_err(|error| why((state.path().to_owned(), error)))?;
    if state.open_file(MARK, OFlags::RDONLY).is_err() {
        return Ok(false); // not the agent's own
    }
    state.empty(MARK).map_err(why)?;
    state.remove(MARK).map_err(|error| why((mark(), error)))
}

/// What a step did.
#[derive(Debug, Default)]
struct Did {
    removed: u64,
    note: Option<String>,
}

/// What a step works on.
struct Tree {
    root: PathBuf,
    state: Option<PathBuf>,
    until: StdInstant,
}

#[derive(Clone, Copy)]
enum How {
    Files(fn(&Tree) -> Result<Did, ActionError>),
    PackageCache,
    Trim,
}

struct Step {
    name: &'static str,
    /// From which level on; `None` where user data is to be taken away.
    from: Option<CleanupLevel>,
    how: How,
}

impl Step {
    const fn new(name: &'static str, from: Option<CleanupLevel>, how: How) -> Self {
        Self { name, from, how }
    }

    fn is_part_of(&self, image: &PrepareGoldenImage) -> bool {
        self.from.map_or(image.sanitize_user_data, |from| image.level >= from)
    }
}

use CleanupLevel::{Deep, Minimal, Standard};

/// In this order: what the agent is is forgotten first, and what only saves room comes last.
const STEPS: [Step; 15] = [
    Step::new("agent_state", Some(Minimal), How::Files(agent_state)),
    Step::new("cloud_init", Some(Minimal), How::Files(cloud_init)),
    Step::new("machine_id", Some(Minimal), How::Files(machine_id)),
    Step::new("random_seed", Some(Minimal), How::Files(random_seed)),
    Step::new("ssh_host_keys", Some(Minimal), How::Files(ssh_host_keys)),
    Step::new("dhcp_leases", Some(Minimal), How::Files(dhcp_leases)),
    Step::new("network", Some(Minimal), How::Files(network)),
    Step::new("users", None, How::Files(users)),
    Step::new("histories", Some(Standard), How::Files(histories)),
    Step::new("temporary_files", Some(Standard), How::Files(temporary)),
    Step::new("crashes", Some(Standard), How::Files(crashes)),
    Step::new("package_cache", Some(Standard), How::PackageCache),
    Step::new("logs", Some(Standard), How::Files(logs)),
    Step::new("subscription", Some(Deep), How::Files(subscription)),
    Step::new("trim", Some(Deep), How::Trim),
];

/// Names of the steps, for whoever asks before they are run.
fn does(image: &PrepareGoldenImage) -> String {
    let names: Vec<&str> =
        STEPS.iter().filter(|step| step.is_part_of(image)).map(|step| step.name).collect();
    let off = if image.shutdown_after {
        ", answers, and three seconds later switches it off"
    } else {
        ""
    };
    format!("makes the machine ready to be copied: {}{off}", names.join(", "))
}

fn agent_state(tree: &Tree) -> Result<Did, ActionError> {
    let Some(state) = &tree.state else {
        return Ok(Did { note: Some("the agent has no state folder here".into()), removed: 0 });
    };
    let mark = state.join(MARK);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&mark);
    let done = file.and_then(|file| file.sync_all());
    done.map_err(failed("write", &mark))?;
    let note = "the agent empties its state folder at its next start; its shared secret stays";
    Ok(Did { removed: 0, note: Some(note.into()) })
}

fn cloud_init(tree: &Tree) -> Result<Did, ActionError> {
    // As `cloud-init clean --logs`: a seed is the image's own.
    let mut did = tree.inside("var/lib/cloud", |name| name != "seed")?;
    for file in ["var/log/cloud-init.log", "var/log/cloud-init-output.log"] {
        did.removed += tree.gone(file)?;
    }
    Ok(did)
}

/// Empty, not missing and not `uninitialized`: machine-id(5). With the latter the first boot would reset which services
/// are enabled.
fn machine_id(tree: &Tree) -> Result<Did, ActionError> {
    let mut did = Did::default();
    let path = tree.root.join("etc/machine-id");
    if path.exists() {
        truncate(&path)?;
        did.removed += 1;
    }
    let dbus = tree.root.join("var/lib/dbus/machine-id");
    if fs::symlink_metadata(&dbus).is_ok_and(|data| data.is_file()) {
        did.removed += tree.gone("var/lib/dbus/machine-id")?;
    }
    Ok(did)
}

fn random_seed(tree: &Tree) -> Result<Did, ActionError> {
    tree.all_gone(&[
        "var/lib/systemd/random-seed",
        "var/lib/urandom/random-seed",
        "var/lib/systemd/credential.secret",
        "boot/loader/random-seed",
        "efi/loader/random-seed",
    ])
}

fn ssh_host_keys(tree: &Tree) -> Result<Did, ActionError> {
    let is_key = |name: &str| name.starts_with("ssh_host_") && name.contains("_key");
    let mut did = tree.inside("etc/ssh", is_key)?;
    // What makes new ones at the first boot: cloud-init, Fedora's and SUSE's units, Arch's.
    let makers = [
        "usr/bin/cloud-init",
        "usr/lib/systemd/system/sshd-keygen@.service",
        "usr/lib/systemd/system/sshd-keygen.service",
        "usr/lib/systemd/system/sshd.socket.d",
        "usr/lib/systemd/system/sshdgenkeys.service",
        "usr/sbin/sshd-gen-keys-start",
    ];
    if did.removed > 0 && !makers.iter().any(|maker| tree.root.join(maker).exists()) {
        did.note = Some(
            "nothing here makes new ones at the first boot of a copy; run \"ssh-keygen -A\" there"
                .into(),
        );
    }
    Ok(did)
}

fn dhcp_leases(tree: &Tree) -> Result<Did, ActionError> {
    let mut removed = 0;
    for folder in ["var/lib/dhcp", "var/lib/dhclient", "var/lib/dhcpcd", "run/systemd/netif/leases"]
    {
        removed += tree.inside(folder, |_| true)?.removed;
    }
    let nm = |name: &str| {
        name.ends_with(".lease") || ["secret_key", "timestamps", "seen-bssids"].contains(&name)
    };
    removed += tree.inside("var/lib/NetworkManager", nm)?.removed;
    removed += tree.inside("var/lib/wicked", |name| name.starts_with("lease"))?.removed;
    Ok(Did { removed, note: None })
}

/// What was made for this machine's cards; what an administrator wrote stays.
fn network(tree: &Tree) -> Result<Did, ActionError> {
    let cloud = |name: &str| name.contains("cloud-init");
    let mut did = tree.all_gone(&[
        "etc/udev/rules.d/70-persistent-net.rules",
        "etc/udev/rules.d/80-net-name-slot.rules",
    ])?;
    for folder in
        ["etc/netplan", "etc/NetworkManager/system-connections", "etc/network/interfaces.d"]
    {
        did.removed += tree.inside(folder, cloud)?.removed;
    }
    Ok(did)
}

/// Accounts of people (from `UID_MIN` to `UID_MAX`) with their homes, and keys that let people in as root.
fn users(tree: &Tree) -> Result<Did, ActionError> {
    let etc = |name: &str| tree.root.join("etc").join(name);
    let Some(passwd) = fs_text(&etc("passwd")) else {
        return Ok(Did { note: Some("there is no /etc/passwd".into()), removed: 0 });
    };
    let range = Range::parse(fs_text(&etc("login.defs")).unwrap_or_default().as_bytes());
    let people: Vec<_> = accounts(passwd.as_bytes())
        .into_iter()
        .filter(|account| account.uid != 0 && range.holds(account.uid))
        .collect();
    let is_person = |name: &str| people.iter().any(|account| account.name == name);
    let mut did = Did::default();
    let first = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
    for file in ["passwd", "shadow", "subuid", "subgid"] {
        rewrite(&etc(file), |line| (!is_person(&first(line))).then(|| line.to_owned()))?;
    }
    // A group of one person's own goes with it; from others it is taken out.
    for file in ["group", "gshadow"] {
        rewrite(&etc(file), |line| {
            if is_person(&first(line)) {
                return None;
            }
            let (rest, members) = line.rsplit_once(':')?;
            let members: Vec<&str> = members.split(',').filter(|name| !is_person(name)).collect();
            Some(format!("{rest}:{}", members.join(",")))
        })?;
    }
    for account in &people {
        did.removed += 1;
        // Only a folder of its own below /home: not `/`, not `/var/www`.
        let home = Path::new(&account.home);
        let Ok(below) = home.strip_prefix("/home") else { continue };
        let plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if plain && below.components().next().is_some() {
            tree.gone(&format!("home/{}", below.display()))?;
        }
    }
    did.removed += tree.gone("root/.ssh")?;
    did.removed += tree.inside("var/spool/mail", |_| true)?.removed;
    did.removed += tree.inside("var/mail", |_| true)?.removed;
    Ok(did)
}

fn histories(tree: &Tree) -> Result<Did, ActionError> {
    const NAMES: [&str; 10] = [
        ".bash_history",
        ".zsh_history",
        ".ash_history",
        ".python_history",
        ".mysql_history",
        ".psql_history",
        ".sqlite_history",
        ".lesshst",
        ".viminfo",
        ".wget-hsts",
    ];
    let mut did = tree.inside("root", |name| NAMES.contains(&name))?;
    for home in tree.names("home")? {
        did.removed += tree.inside(&format!("home/{home}"), |name| NAMES.contains(&name))?.removed;
    }
    Ok(did)
}

/// Everything but the folders of services that run, and sockets.
fn temporary(tree: &Tree) -> Result<Did, ActionError> {
    let kept = |name: &str| name.starts_with("systemd-private-") || name.ends_with("-unix");
    let mut did = Did::default();
    for folder in ["tmp", "var/tmp"] {
        did.removed += tree.inside(folder, |name| !kept(name))?.removed;
    }
    Ok(did)
}

fn crashes(tree: &Tree) -> Result<Did, ActionError> {
    let mut did = Did::default();
    for folder in ["var/crash", "var/lib/systemd/coredump", "var/spool/abrt", "var/lib/kdump"] {
        did.removed += tree.inside(folder, |_| true)?.removed;
    }
    Ok(did)
}

/// Empties what is being written, and removes what was put aside. The journal goes as a whole: what is written to it
/// from now on is gone with its files.
fn logs(tree: &Tree) -> Result<Did, ActionError> {
    let mut did = tree.inside("var/log/journal", |_| true)?;
    did.removed += tree.logs_in(&tree.root.join("var/log"), 0)?;
    Ok(did)
}

fn subscription(tree: &Tree) -> Result<Did, ActionError> {
    let mut did =
        tree.all_gone(&["etc/sysconfig/rhn/systemid", "etc/zypp/credentials.d/SCCcredentials"])?;
    for folder in ["etc/pki/consumer", "etc/pki/entitlement"] {
        did.removed += tree.inside(folder, |_| true)?.removed;
    }
    if tree.root.join("etc/selinux/config").exists() {
        // Files that a first boot makes anew must get their labels.
        let mark = tree.root.join(".autorelabel");
        File::create(&mark).map_err(failed("write", &mark))?;
    }
    Ok(did)
}

async fn package_cache(root: &Path, cx: &Context, until: Instant) -> Result<Did, ActionError> {
    let place = Root::at(root);
    if let Err(why) = place.manager() {
        return Ok(Did { removed: 0, note: Some(why.to_string()) });
    }
    let runner = cx.runner.clone();
    let cx = Context {
        runner,
        deadline: until,
        latest: cx.latest.clone(),
        state: None,
        agent: None,
        ..*cx
    };
    let cleaned = packages::change_in(&place, &cx, Operation::CleanCache).await;
    match cleaned.error.filter(|_| !cleaned.success) {
        Some(why) => Err(PackageError::Failed(why).into()),
        None => Ok(Did::default()),
    }
}

/// Gives freed room back to the host. A file system that cannot is no failure.
async fn trim(root: &Path, cx: &Context, until: Instant) -> Result<Did, ActionError> {
    if root != Path::new("/") {
        return Ok(Did { removed: 0, note: Some("only the running machine is trimmed".into()) });
    }
    let note = match cx.runner.run(program("fstrim", &["--all"], until)).await {
        Ok(finished) if finished.exit == Exit::Code(0) => None,
        Ok(finished) => finished.stderr.text.lines().next().map(str::to_owned),
        Err(why) => Some(why.to_string()),
    };
    Ok(Did { removed: 0, note })
}

impl Tree {
    fn in_time(&self) -> Result<(), ActionError> {
        match StdInstant::now() < self.until {
            true => Ok(()),
            false => Err(ActionError::StepLate),
        }
    }

    /// The names in a folder; none where it is not there, or is a link.
    fn names(&self, folder: &str) -> Result<Vec<String>, ActionError> {
        let path = self.root.join(folder);
        if !fs::symlink_metadata(&path).is_ok_and(|data| data.is_dir()) {
            return Ok(Vec::new());
        }
        let read = fs::read_dir(&path).map_err(failed("read", &path))?;
        Ok(read.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Removes what is in a folder and has such a name.
    fn inside(&self, folder: &str, named: impl Fn(&str) -> bool) -> Result<Did, ActionError> {
        let mut did = Did::default();
        for name in self.names(folder)?.iter().filter(|name| named(name)) {
            did.removed += self.gone(&format!("{folder}/{name}"))?;
        }
        Ok(did)
    }

    fn all_gone(&self, paths: &[&str]) -> Result<Did, ActionError> {
        let mut did = Did::default();
        for path in paths {
            did.removed += self.gone(path)?;
        }
        Ok(did)
    }

    /// Removes a file, a link, or a folder with all that is in it; 1 where it was there.
    fn gone(&self, path: &str) -> Result<u64, ActionError> {
        self.in_time()?;
        let path = self.root.join(path);
        match remove(&path) {
            Ok(()) => Ok(1),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(failed("remove", &path)(error)),
        }
    }

    /// Follows no link, and goes no deeper than logs do.
    fn logs_in(&self, folder: &Path, depth: u8) -> Result<u64, ActionError> {
        let Ok(read) = fs::read_dir(folder) else { return Ok(0) };
        let mut cleared = 0;
        for entry in read.flatten() {
            self.in_time()?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && depth < 8 && name != "journal" {
                cleared += self.logs_in(&path, depth + 1)?;
            } else if kind.is_file() && is_aside(&name) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
                cleared += 1;
            } else if kind.is_file() && entry.metadata().is_ok_and(|data| data.len() > 0) {
                truncate(&path)?;
                cleared += 1;
            }
        }
        Ok(cleared)
    }
}

/// Whether a log was put aside: `syslog.1`, `dpkg.log.2.gz`, `messages-20260101`, `x.old`.
fn is_aside(name: &str) -> bool {
    let name = [".gz", ".xz", ".bz2", ".zst"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    let last = name.rsplit(['.', '-']).next().unwrap_or_default();
    let number = last.bytes().all(|byte| byte.is_ascii_digit()) && !last.is_empty();
    last.len() < name.len() && (number || last == "old")
}

fn failed(verb: &'static str, path: &Path) -> impl Fn(std::io::Error) -> ActionError {
    move |error| ActionError::File { verb, path: path.to_owned(), error }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path), // follows no link
        false => fs::remove_file(path),
    }
}

fn truncate(path: &Path) -> Result<(), ActionError> {
    let file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    file.map(drop).map_err(failed("empty", path))
}

fn fs_text(path: &Path) -> Option<String> {
    let data = path.metadata().ok()?;
    (data.is_file() && data.len() <= ACCOUNTS_MAX).then(|| fs::read_to_string(path).ok())?
}

/// Writes the lines that `line` gives in place of those that are there, with the same mode and owner; a file that is
/// missing stays so.
fn rewrite(path: &Path, line: impl Fn(&str) -> Option<String>) -> Result<(), ActionError> {
    let Some(text) = fs_text(path) else { return Ok(()) };
    let new: String = text.lines().filter_map(line).map(|line| line + "\n").collect();
    if new == text {
        return Ok(());
    }
    let data = path.metadata().map_err(failed("rewrite", path))?;
    let as_before = |file: &File| {
        fchown(file, Some(data.uid()), Some(data.gid()))?;
        file.set_permissions(data.permissions())
    };
    replace(path, new.as_bytes(), as_before).map_err(failed("rewrite", path))
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A machine in a folder: what is to go, what is to stay, and the agent's state.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/os-release", "NAME=Test\nVERSION_ID=7\n"),
            ("etc/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
            ("var/lib/dbus/machine-id", "3d1219c7c4c5404aaa1f6d2a48adfda4\n"),
            ("etc/ssh/ssh_host_ed25519_key", "k"),
            ("etc/ssh/ssh_host_ed25519_key.pub", "k"),
            ("etc/ssh/sshd_config", "stays"),
            ("var/lib/cloud/instances/i-1/boot-finished", "x"),
            ("var/lib/cloud/seed/nocloud/meta-data", "stays"),
            ("var/lib/dhcp/dhclient.leases", "x"),
            ("var/lib/NetworkManager/internal-eth0.lease", "x"),
            ("etc/netplan/50-cloud-init.yaml", "x"),
            ("etc/netplan/01-own.yaml", "stays"),
            ("var/lib/systemd/random-seed", "x"),
            ("var/log/syslog", "long"),
            ("var/log/syslog.1", "old"),
            ("var/log/apt/history.log.2.gz", "old"),
            ("var/log/journal/3d12/system.journal", "x"),
            ("root/.bash_history", "secret"),
            ("home/ann/.bash_history", "secret"),
            ("home/ann/thesis", "dear"),
            ("tmp/x/y", "x"),
            ("tmp/systemd-private-1/z", "stays"),
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nodd:x:1001:1001::/:/bin/sh\n_apt:x:42:65534::/nonexistent:/x\n",
            ),
            ("etc/shadow", "root:*:1::::::\nann:hash:1::::::\n_apt:*:1::::::\n"),
            ("etc/group", "root:x:0:\nsudo:x:27:ann,bob\nann:x:1000:\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::set_permissions(root.path().join("etc/shadow"), fs::Permissions::from_mode(0o640))
            .unwrap();
        root
    }

    async fn prepared(root: &Path, level: CleanupLevel, sanitize_user_data: bool) -> Outcome {
        let state = root.join("state");
        fs::create_dir_all(&state).unwrap();
        let image = PrepareGoldenImage { level, sanitize_user_data, shutdown_after: true };
        prepare_in(root, &test_context(), &image, Some(&state)).await
    }

    #[tokio::test]
    async fn what_makes_the_machine_this_one_goes_and_what_somebody_made_stays() {
        let root = machine();
        let outcome = prepared(root.path(), CleanupLevel::Standard, true).await;
        assert!(outcome.success, "{outcome:#?}");
        let data = outcome.data.unwrap();
        assert_eq!(
            (&data["os"], &data["distro"], &data["cleanup_level"]),
            (&"linux".into(), &"Test 7".into(), &"standard".into())
        );
        let steps = data["steps"].as_array().unwrap();
        assert!(steps.iter().all(|step| step["done"] == true), "{steps:#?}");
        let text = |path: &str| fs::read_to_string(root.path().join(path)).ok();
        for gone in [
            "var/lib/dbus/machine-id",
            "etc/ssh/ssh_host_ed25519_key",
            "etc/ssh/ssh_host_ed25519_key.pub",
            "var/lib/cloud/instances/i-1/boot-finished",
            "var/lib/dhcp/dhclient.leases",
            "var/lib/NetworkManager/internal-eth0.lease",
            "etc/netplan/50-cloud-init.yaml",
            "var/lib/systemd/random-seed",
            "var/log/syslog.1",
            "var/log/apt/history.log.2.gz",
            "var/log/journal/3d12/system.journal",
            "root/.bash_history",
            "home/ann/thesis",
            "tmp/x/y",
        ] {
            assert_eq!(text(gone), None, "{gone}");
        }
        for (stays, as_is) in [
            ("etc/machine-id", ""),
            ("var/log/syslog", ""),
            ("etc/ssh/sshd_config", "stays"),
            ("var/lib/cloud/seed/nocloud/meta-data", "stays"),
            ("etc/netplan/01-own.yaml", "stays"),
            ("tmp/systemd-private-1/z", "stays"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/x\n"),
            ("etc/shadow", "root:*:1::::::\n_apt:*:1::::::\n"),
            ("etc/group", "root:x:0:\nsudo:x:27:bob\n"),
        ] {
            assert_eq!(text(stays).as_deref(), Some(as_is), "{stays}");
        }
        let mode = fs::metadata(root.path().join("etc/shadow")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }

    #[tokio::test]
    async fn a_lower_level_leaves_logs_and_people_alone() {
        let root = machine();
        assert!(prepared(root.path(), CleanupLevel::Minimal, false).await.success);
        for stays in ["var/log/syslog.1", "root/.bash_history", "home/ann/thesis", "tmp/x/y"] {
            assert!(root.path().join(stays).exists(), "{stays}");
        }
        assert_eq!(fs::read_to_string(root.path().join("etc/machine-id")).unwrap(), "");
    }

    #[tokio::test]
    async fn a_link_is_taken_away_and_not_followed() {
        let root = machine();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("dear"), "dear").unwrap();
        for link in ["tmp/link", "var/log/link", "home/link"] {
            symlink(outside.path(), root.path().join(link)).unwrap();
        }
        fs::remove_dir_all(root.path().join("var/lib/dhcp")).unwrap();
        symlink(outside.path(), root.path().join("var/lib/dhcp")).unwrap();
        assert!(prepared(root.path(), CleanupLevel::Deep, true).await.success);
        assert_eq!(fs::read_to_string(outside.path().join("dear")).unwrap(), "dear");
    }

    #[tokio::test]
    async fn a_step_that_fails_is_told_and_the_machine_is_not_called_ready() {
        let root = machine();
        let id = root.path().join("etc/machine-id");
        fs::remove_file(&id).unwrap();
        fs::create_dir(&id).unwrap();
        let outcome = prepared(root.path(), CleanupLevel::Minimal, false).await;
        assert!(outcome.error.unwrap().contains("machine_id failed"));
        let data = outcome.data.unwrap();
        assert_eq!(data["shutdown_after"], false, "what is half done is not switched off");
        let failed = data["steps"].as_array().unwrap().iter().find(|step| step["done"] == false);
        assert!(failed.unwrap()["note"].as_str().unwrap().contains("cannot empty"));
    }

    #[tokio::test]
    async fn the_agent_of_a_copy_knows_nothing_of_what_its_original_was_told() {
        let root = machine();
        let state = root.path().join("state");
        fs::create_dir_all(state.join("port-1")).unwrap();
        for file in ["scripts.jsonl", "audit.jsonl", "port-1/spool"] {
            fs::write(state.join(file), "x").unwrap();
        }
        let outside = root.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("dear"), "dear").unwrap();
        symlink(&outside, state.join("port-1/link")).unwrap();
        let forget = |state: &PathBuf| forget(&StateFolder::at(state));
        assert!(!forget(&state).unwrap(), "this machine is no image");
        assert!(state.join("port-1/spool").exists());
        assert!(prepared(root.path(), CleanupLevel::Minimal, false).await.success);
        assert!(state.join("port-1/spool").exists(), "the running agent still needs it");
        assert!(forget(&state).unwrap());
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        assert!(outside.join("dear").exists(), "no link is followed");
        assert!(!forget(&state).unwrap());
    }

    #[test]
    fn a_log_that_was_put_aside_is_known_by_its_name() {
        for name in
            ["syslog.1", "dpkg.log.2.gz", "messages-20260101", "messages-20260101.xz", "x.old"]
        {
            assert!(is_aside(name), "{name}");
        }
        for name in ["syslog", "dpkg.log", "wtmp", "7", "old"] {
            assert!(!is_aside(name), "{name}");
        }
    }
}
