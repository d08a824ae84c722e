//! The steps of a preparation, in their order, each with what it takes away.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tokio::time::Instant;

use super::CleanupLevel::{self, Deep, Minimal, Standard};
use super::tree::{StepOutcome, Tree, failed, fs_text, rewrite, truncate};
use super::{MARK, PrepareGoldenImage};
use crate::commands::actions::packages::{self, Operation, PackageError, Root};
use crate::commands::actions::users::{Range, accounts};
use crate::commands::actions::{ActionError, Context, program};
use crate::commands::process::Exit;

/// How a step is done.
#[derive(Clone, Copy)]
pub(super) enum StepMethod {
    Files(fn(&Tree) -> Result<StepOutcome, ActionError>),
    PackageCache,
    Trim,
}

/// One of [`STEPS`].
pub(super) struct Step {
    pub(super) name: &'static str,
    /// From which level on; `None` where user data is to be taken away.
    from: Option<CleanupLevel>,
    pub(super) how: StepMethod,
}

impl Step {
    const fn new(name: &'static str, from: Option<CleanupLevel>, how: StepMethod) -> Self {
        Self { name, from, how }
    }

    pub(super) fn is_part_of(&self, image: &PrepareGoldenImage) -> bool {
        self.from.map_or(image.sanitize_user_data, |from| image.level >= from)
    }
}

/// In this order: what the agent is is forgotten first, and what only saves room comes last.
pub(super) const STEPS: [Step; 15] = [
    Step::new("agent_state", Some(Minimal), StepMethod::Files(agent_state)),
    Step::new("cloud_init", Some(Minimal), StepMethod::Files(cloud_init)),
    Step::new("machine_id", Some(Minimal), StepMethod::Files(machine_id)),
    Step::new("random_seed", Some(Minimal), StepMethod::Files(random_seed)),
    Step::new("ssh_host_keys", Some(Minimal), StepMethod::Files(ssh_host_keys)),
    Step::new("dhcp_leases", Some(Minimal), StepMethod::Files(dhcp_leases)),
    Step::new("network", Some(Minimal), StepMethod::Files(network)),
    Step::new("users", None, StepMethod::Files(users)),
    Step::new("histories", Some(Standard), StepMethod::Files(histories)),
    Step::new("temporary_files", Some(Standard), StepMethod::Files(temporary)),
    Step::new("crashes", Some(Standard), StepMethod::Files(crashes)),
    Step::new("package_cache", Some(Standard), StepMethod::PackageCache),
    Step::new("logs", Some(Standard), StepMethod::Files(logs)),
    Step::new("subscription", Some(Deep), StepMethod::Files(subscription)),
    Step::new("trim", Some(Deep), StepMethod::Trim),
];

/// What the action would do, for a dry run.
pub(super) fn does(image: &PrepareGoldenImage) -> String {
    let names: Vec<&str> =
        STEPS.iter().filter(|step| step.is_part_of(image)).map(|step| step.name).collect();
    let off = if image.shutdown_after {
        ", answers, and three seconds later switches it off"
    } else {
        ""
    };
    format!("makes the machine ready to be copied: {}{off}", names.join(", "))
}

fn agent_state(tree: &Tree) -> Result<StepOutcome, ActionError> {
    let Some(state) = &tree.state else {
        return Ok(StepOutcome {
            note: Some("the agent has no state folder here".into()),
            removed: 0,
        });
    };
    let mark = state.join(MARK);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&mark);
    let done = file.and_then(|file| file.sync_all());
    done.map_err(failed("write", &mark))?;
    let note = "the agent empties its state folder at its next start; its shared secret stays";
    Ok(StepOutcome { removed: 0, note: Some(note.into()) })
}

fn cloud_init(tree: &Tree) -> Result<StepOutcome, ActionError> {
    // As `cloud-init clean --logs`: a seed is the image's own.
    let mut did = tree.inside("var/lib/cloud", |name| name != "seed")?;
    for file in ["var/log/cloud-init.log", "var/log/cloud-init-output.log"] {
        did.removed += tree.gone(file)?;
    }
    Ok(did)
}

/// Empty, not missing and not `uninitialized`: machine-id(5). With the latter the first boot would reset which services
/// are enabled.
fn machine_id(tree: &Tree) -> Result<StepOutcome, ActionError> {
    let mut did = StepOutcome::default();
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

fn random_seed(tree: &Tree) -> Result<StepOutcome, ActionError> {
    tree.all_gone(&[
        "var/lib/systemd/random-seed",
        "var/lib/urandom/random-seed",
        "var/lib/systemd/credential.secret",
        "boot/loader/random-seed",
        "efi/loader/random-seed",
    ])
}

fn ssh_host_keys(tree: &Tree) -> Result<StepOutcome, ActionError> {
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

fn dhcp_leases(tree: &Tree) -> Result<StepOutcome, ActionError> {
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
    Ok(StepOutcome { removed, note: None })
}

/// What was made for this machine's cards; what an administrator wrote stays.
fn network(tree: &Tree) -> Result<StepOutcome, ActionError> {
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
fn users(tree: &Tree) -> Result<StepOutcome, ActionError> {
    let etc = |name: &str| tree.root.join("etc").join(name);
    let Some(passwd) = fs_text(&etc("passwd")) else {
        return Ok(StepOutcome { note: Some("there is no /etc/passwd".into()), removed: 0 });
    };
    let range = Range::parse(fs_text(&etc("login.defs")).unwrap_or_default().as_bytes());
    let people: Vec<_> = accounts(passwd.as_bytes())
        .into_iter()
        .filter(|account| account.uid != 0 && range.holds(account.uid))
        .collect();
    let is_person = |name: &str| people.iter().any(|account| account.name == name);
    let mut did = StepOutcome::default();
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

fn histories(tree: &Tree) -> Result<StepOutcome, ActionError> {
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
fn temporary(tree: &Tree) -> Result<StepOutcome, ActionError> {
    let kept = |name: &str| name.starts_with("systemd-private-") || name.ends_with("-unix");
    let mut did = StepOutcome::default();
    for folder in ["tmp", "var/tmp"] {
        did.removed += tree.inside(folder, |name| !kept(name))?.removed;
    }
    Ok(did)
}

fn crashes(tree: &Tree) -> Result<StepOutcome, ActionError> {
    let mut did = StepOutcome::default();
    for folder in ["var/crash", "var/lib/systemd/coredump", "var/spool/abrt", "var/lib/kdump"] {
        did.removed += tree.inside(folder, |_| true)?.removed;
    }
    Ok(did)
}

/// Empties what is being written, and removes what was put aside. The journal goes as a whole: what is written to it
/// from now on is gone with its files.
fn logs(tree: &Tree) -> Result<StepOutcome, ActionError> {
    let mut did = tree.inside("var/log/journal", |_| true)?;
    did.removed += tree.logs_in(&tree.root.join("var/log"), 0)?;
    Ok(did)
}

fn subscription(tree: &Tree) -> Result<StepOutcome, ActionError> {
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

pub(super) async fn package_cache(
    root: &Path,
    cx: &Context,
    until: Instant,
) -> Result<StepOutcome, ActionError> {
    let place = Root::at(root);
    if let Err(why) = place.manager() {
        return Ok(StepOutcome { removed: 0, note: Some(why.to_string()) });
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
        None => Ok(StepOutcome::default()),
    }
}

/// Gives freed room back to the host. A file system that cannot is no failure.
pub(super) async fn trim(
    root: &Path,
    cx: &Context,
    until: Instant,
) -> Result<StepOutcome, ActionError> {
    if root != Path::new("/") {
        return Ok(StepOutcome {
            removed: 0,
            note: Some("only the running machine is trimmed".into()),
        });
    }
    let note = match cx.runner.run(program("fstrim", &["--all"], until)).await {
        Ok(finished) if finished.exit == Exit::Code(0) => None,
        Ok(finished) => finished.stderr.text.lines().next().map(str::to_owned),
        Err(why) => Some(why.to_string()),
    };
    Ok(StepOutcome { removed: 0, note })
}
