//! Makes a machine ready to be copied: takes away what makes it this one, as `cloud-init clean` and virt-sysprep(1) do.
//! Works on a folder, so that it can be tried on a tree. Does not switch the machine off itself.
//!
//! # What of the agent is taken away
//! A copy must not act on what its original was told: at its next start the agent empties its state folder before it opens
//! anything ([`forget`]). Until then a mark stands there, since the running agent still writes. The shared secret
//! stays: it is the installer's, and each copy gets its own with its id.

mod steps;
mod tree;

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::action::{Action, Refused, Unfit};
use super::page::{Missing, Name, json as parameter, text};
use super::plan::{Effect, Part, Plan};
use super::{ActionError, ActionOutcome, Afterwards, Context};
use crate::commands::argument::{ArgumentError, shown};
use crate::commands::outcome::Outcome;
use crate::files::StateFolder;
use crate::metrics::collect::Release;
use crate::tasks::spawn_blocking;
use CleanupLevel::{Deep, Minimal, Standard};
use steps::{STEPS, StepMethod, does, package_cache, trim};
use tree::{StepOutcome, Tree};

/// The longest that one step may take.
const STEP_MAX: Duration = Duration::from_secs(120);

/// Stands in the state folder of an agent whose machine is an image.
const MARK: &str = "forget-at-next-start";

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
        "removes what identifies this machine, answers, and switches it off three seconds later",
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

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let outcome = prepare_in(Path::new("/"), cx, self, cx.state.as_deref()).await;
        let off = outcome.success && self.shutdown_after;
        ActionOutcome { outcome, afterwards: off.then_some(Afterwards::PowerOff) }
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
    let mut results = Vec::new();
    for step in STEPS.iter().filter(|step| step.is_part_of(image)) {
        let until = cx.deadline.min(Instant::now() + STEP_MAX);
        let did = match step.how {
            StepMethod::Files(work) => {
                let (root, state) = (root.to_owned(), state.map(Path::to_owned));
                // A little before, so that what it did is reported.
                let last = until.into_std();
                let last = last.checked_sub(Duration::from_millis(500)).unwrap_or(last);
                let tree = Tree { root, state, until: last };
                let work = spawn_blocking(move || work(&tree));
                match timeout_at(until, work).await {
                    Ok(Ok(did)) => did,
                    Ok(Err(_)) => Err(ActionError::Panicked("it")),
                    Err(_) => Err(ActionError::StepLate),
                }
            }
            StepMethod::PackageCache => package_cache(root, cx, until).await,
            StepMethod::Trim => trim(root, cx, until).await,
        };
        let failed = did.is_err();
        let StepOutcome { removed, note } =
            did.unwrap_or_else(|why| StepOutcome { removed: 0, note: Some(why.to_string()) });
        tracing::info!(
            step = step.name,
            done = !failed,
            removed,
            "step of preparing an image has ended"
        );
        results.push((
            step.name,
            failed,
            json!({
                "name": step.name, "done": !failed, "removed": removed, "note": note,
            }),
        ));
    }
    let failed: Vec<&str> =
        results.iter().filter(|(_, failed, _)| *failed).map(|(name, ..)| *name).collect();
    let at = root.to_owned();
    let release = spawn_blocking(move || Release::of(&at)).await.unwrap_or_default();
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
        "steps": results.into_iter().map(|(_, _, step)| step).collect::<Vec<Value>>(),
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

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::PathBuf;

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
}
