//! `zypper` and `rpm` in a tree of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use infiniservice::internals::commands::actions::Action as _;
use infiniservice::internals::commands::actions::cleanup::run_in;
use infiniservice::internals::commands::actions::packages::{
    self, ChangeKind, Manager, Operation, Planned, Root,
};
use infiniservice::internals::commands::actions::updates::UpdateSystemSoftware;
use infiniservice::internals::commands::actions::{applications, updates};
use infiniservice::internals::commands::argument::Query;
use tokio::time::timeout;

use super::dnf::{ADVISORY, FAILING, index, rpm, rpm_with};
use super::{can, done, item, minutes, name, refused, tool, within, write};

/// A SUSE machine in a folder, with a repository in another that has `infini-hello` and two more 1.0, and
/// `infini-base` installed: rpm's database of such a machine is never empty, and libzypp fails on one that is.
struct Suse {
    folder: tempfile::TempDir,
    root: PathBuf,
    place: Root,
}

impl Suse {
    fn new() -> Option<Self> {
        if !can(&["zypper", "rpm", "rpmbuild", "createrepo_c", "modifyrepo_c"]) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let place = Root::at(&root);
        let suse = Self { folder, root, place };
        for package in ["infini-base", "infini-hello", "infini-other"] {
            rpm(&suse.work(), &suse.repository(), package, "1.0");
        }
        index(&suse.repository());
        suse.add("local", &suse.repository());
        // Debian's rpm keeps its database in the home of whoever runs it; here it stands where others do.
        for (link, target) in [("root/.rpmdb", "../var/lib/rpm"), (".rpmdb", "var/lib/rpm")] {
            fs::create_dir_all(suse.root.join("var/lib/rpm")).unwrap();
            fs::create_dir_all(suse.root.join(link).parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, suse.root.join(link)).unwrap();
        }
        let at = format!("--root={}", suse.root.display());
        let base = suse.repository().join("noarch/infini-base-1.0-1.noarch.rpm");
        tool(Command::new("rpm").args([&at, "--force-debian", "--nodeps", "-i"]).arg(base));
        assert_eq!(suse.place.manager().unwrap(), Manager::Zypper);
        Some(suse)
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn add(&self, name: &str, repository: &Path) {
        let text = format!(
            "[{name}]\nname={name}\nbaseurl=file://{}\nenabled=1\nautorefresh=1\ngpgcheck=0\n",
            repository.display()
        );
        write(&self.root.join(format!("etc/zypp/repos.d/{name}.repo")), &text);
    }

    fn hello(&self) -> Option<String> {
        fs::read_to_string(self.root.join("usr/share/infini-hello/hello")).ok()
    }
}

#[tokio::test]
async fn a_package_is_found_installed_brought_up_to_date_and_removed_by_zypper() {
    let Some(suse) = Suse::new() else { return };
    let (place, hello) = (&suse.place, name("infini-hello"));

    let query = |text| Query::new(text).unwrap();
    let found = done(packages::search_in(place, &minutes(), &query("says hello")).await);
    let one = item(&found, "packages", "name", "infini-hello").unwrap();
    assert_eq!((&one["version"], &one["installed"]), (&"1:1.0-1".into(), &false.into()));
    assert_eq!(one["description"], "A file that says hello");
    assert!(item(&found, "packages", "name", "infini-other").is_some(), "by its description");
    let found = done(packages::search_in(place, &minutes(), &query("hello other")).await);
    assert_eq!(found["packages"].as_array().unwrap().len(), 1, "every word counts: {found:#}");
    let none = done(packages::search_in(place, &minutes(), &query("infini-nosuch")).await);
    assert_eq!(none["packages"].as_array().unwrap().len(), 0);

    done(packages::change_in(place, &minutes(), Operation::Install(&hello)).await);
    assert_eq!(suse.hello().as_deref(), Some("1.0\n"));
    done(packages::change_in(place, &minutes(), Operation::Install(&hello)).await); // once more
    let list = done(packages::list_in(place, &minutes()).await);
    let one = item(&list, "packages", "name", "infini-hello").unwrap();
    assert_eq!((&one["version"], &one["publisher"]), (&"1:1.0-1".into(), &"Test Vendor".into()));
    let none = done(updates::check_in(place, &minutes()).await);
    assert_eq!(none["total_pending_count"], 0, "{none:#}");

    done(packages::change_in(place, &minutes(), Operation::Install(&name("infini-other"))).await);
    for package in ["infini-hello", "infini-other"] {
        rpm(&suse.work(), &suse.repository(), package, "2.0");
    }
    index(&suse.repository());
    write(&suse.work().join("updateinfo.xml"), ADVISORY);
    let mut add = Command::new("modifyrepo_c");
    tool(add.arg(suse.work().join("updateinfo.xml")).arg(suse.repository().join("repodata")));
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 2, "{pending:#}");
    assert_eq!(pending["security_updates_count"], 1, "{pending:#}");
    assert_eq!(pending["package_manager"], "zypper");
    assert_eq!(pending["reboot_required"], false);
    let update = item(&pending, "pending_updates", "package_name", "infini-hello").unwrap();
    assert_eq!(
        (&update["current_version"], &update["available_version"]),
        (&"1:1.0-1".into(), &"1:2.0-1".into())
    );
    assert_eq!(
        (&update["repository"], &update["architecture"], &update["is_security"]),
        (&"local".into(), &"noarch".into(), &true.into())
    );
    let newer = done(applications::updates_in(place, &minutes()).await);
    assert_eq!(newer["summary"]["download_bytes"], serde_json::Value::Null, "not told");
    let newer = item(&newer, "applications", "name", "infini-hello").unwrap();
    assert_eq!(
        (&newer["update_available"], &newer["vendor"]),
        (&"1:2.0-1".into(), &"Test Vendor".into())
    );

    let one = |kind, name: &str| Planned { kind, name: name.to_owned() };
    let plan =
        async |change| packages::planned_changes_in(place, &minutes(), change).await.unwrap();
    assert_eq!(
        plan(Operation::Remove(&hello)).await,
        vec![one(ChangeKind::Remove, "infini-hello")]
    );
    let all = ["infini-hello", "infini-other"].map(|name| one(ChangeKind::Update, name));
    assert_eq!(plan(Operation::UpgradeAll).await, all);
    let at = format!("--root={}", suse.root.display());
    let lock = |verb: &str| {
        let mut zypper = Command::new("zypper");
        tool(zypper.args([&at, "--non-interactive", verb, "infini-hello"]));
    };
    lock("addlock");
    let held = done(updates::check_in(place, &minutes()).await);
    assert_eq!(held["total_pending_count"], 1, "{held:#}");
    assert_eq!(held["held_updates"][0]["package_name"], "infini-hello", "{held:#}");
    lock("removelock");

    done(packages::change_in(place, &minutes(), Operation::Update(&name("infini-other"))).await);
    assert_eq!(suse.hello().as_deref(), Some("1.0\n"), "only the other one");
    write(&suse.root.join("run/reboot-needed"), "");
    let upgraded = updates::upgrade_in(place, &minutes(), None).await;
    assert_eq!(done(upgraded)["reboot_required"], true);
    assert_eq!(suse.hello().as_deref(), Some("2.0\n"));
    let past = done(updates::history_in(place, &minutes()).await);
    let mut titles: Vec<_> = past["updates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["title"].as_str().unwrap())
        .collect();
    titles.sort_unstable();
    assert_eq!(
        titles,
        ["infini-hello 1:2.0-1 (was 1:1.0-1)", "infini-other 1:2.0-1 (was 1:1.0-1)"]
    );

    done(packages::change_in(place, &minutes(), Operation::Remove(&hello)).await);
    assert_eq!(suse.hello(), None);
    write(&suse.root.join("var/cache/zypp/packages/local/x.rpm"), &"x".repeat(1 << 20));
    let target = ["system_cache".to_owned()];
    let cleaned = done(run_in(place, &minutes(), &target, std::time::SystemTime::now()).await);
    assert!(cleaned["space_cleared_mb"].as_f64().unwrap() >= 1.0, "{cleaned:#}");
}

#[tokio::test]
async fn a_name_that_zypper_reads_as_something_else_changes_nothing() {
    let Some(suse) = Suse::new() else { return };
    let place = &suse.place;
    let nosuch = name("infini-nosuch");
    let missing =
        refused(packages::change_in(place, &minutes(), Operation::Install(&nosuch)).await);
    assert!(missing.contains("unable to locate package infini-nosuch"), "{missing}");
    rpm_with(&suse.work(), &suse.repository(), "infini-bad", "1.0", FAILING);
    index(&suse.repository());
    let bad = packages::change_in(place, &minutes(), Operation::Install(&name("infini-bad"))).await;
    let why = refused(bad);
    assert!(why.starts_with("package infini-bad") && why.contains("%prein script failed"), "{why}");
    assert!(why.ends_with("; its last lines: no such widget"), "{why}");
    // A sign before the name turns a removal into an installation.
    for trick in ["+infini-hello", "infini-hello"] {
        refused(packages::change_in(place, &minutes(), Operation::Remove(&name(trick))).await);
        refused(packages::change_in(place, &minutes(), Operation::Update(&name(trick))).await);
        assert_eq!(suse.hello(), None, "{trick}");
    }
    for trick in [
        "+infini-hello",
        "infini-provided",
        "local:infini-hello",
        "package:infini-hello",
        "infini-hello-1.0",
    ] {
        let why =
            refused(packages::change_in(place, &minutes(), Operation::Install(&name(trick))).await);
        assert!(why.contains("unable to locate"), "{trick}: {why}");
        assert_eq!(suse.hello(), None, "{trick}");
    }
    done(
        packages::change_in(place, &minutes(), Operation::Install(&name("infini-hello.noarch")))
            .await,
    );
    for trick in ["infini-provided", "infini-hell", "local:infini-hello", "infini-hello-1.0"] {
        refused(packages::change_in(place, &minutes(), Operation::Remove(&name(trick))).await);
        assert!(suse.hello().is_some(), "{trick}");
    }
}

#[tokio::test]
async fn a_repository_that_is_gone_fails_a_refresh_and_holds_up_nothing_else() {
    let Some(suse) = Suse::new() else { return };
    let place = &suse.place;
    done(packages::change_in(place, &minutes(), Operation::Install(&name("infini-hello"))).await);
    rpm(&suse.work(), &suse.repository(), "infini-hello", "2.0");
    index(&suse.repository());
    suse.add("gone", Path::new("/nowhere"));
    let why = refused(packages::change_in(place, &minutes(), Operation::Refresh).await);
    assert!(why.contains("repositories have not been refreshed"), "{why}");
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 1, "{pending:#}");
    let upgraded = updates::upgrade_in(place, &minutes(), None).await;
    assert!(upgraded.stderr.contains("'gone'"), "it says what was left out: {upgraded:#?}");
    assert_eq!(upgraded.exit_code, Some(106));
    done(upgraded);
    assert_eq!(suse.hello().as_deref(), Some("2.0\n"));
    done(packages::change_in(place, &minutes(), Operation::Install(&name("infini-other"))).await);
    let nosuch = name("infini-nosuch");
    let why = refused(packages::change_in(place, &minutes(), Operation::Install(&nosuch)).await);
    assert!(why.contains("unable to locate package infini-nosuch"), "{why}");
}

/// A `zypper` that holds the lock of a tree until it is dropped.
struct Holder(Child);

impl Holder {
    async fn new(root: &Path) -> Self {
        let mut shell = Command::new("zypper");
        shell.arg(format!("--root={}", root.display())).arg("shell");
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let (lock, own) = (root.join("run/zypp.pid"), shell.id().to_string());
        let holds = || fs::read_to_string(&lock).is_ok_and(|pid| pid.trim() == own);
        let holding = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(20), holding).await.unwrap();
        Self(shell)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn zyppers_lock_is_waited_for_and_its_holder_is_named_when_the_time_is_over() {
    let Some(suse) = Suse::new() else { return };
    let (place, hello) = (&suse.place, name("infini-hello"));
    let holder = Holder::new(&suse.root).await;

    let short = within(Duration::from_secs(3));
    let why = refused(packages::change_in(place, &short, Operation::Install(&hello)).await);
    assert!(why.contains(&format!("process {} (zypper)", holder.0.id())), "{why}");
    assert!(tokio::time::Instant::now() <= short.deadline + Duration::from_secs(1));

    let cx = minutes();
    let mut install = std::pin::pin!(packages::change_in(place, &cx, Operation::Install(&hello)));
    assert!(timeout(Duration::from_secs(2), &mut install).await.is_err(), "it waits");
    assert_eq!(suse.hello(), None);
    drop(holder);
    done(install.await);
    assert!(suse.hello().is_some());
}

#[test]
fn a_system_with_dnf_that_has_zypper_without_repositories_is_brought_up_to_date_by_dnf() {
    if !can(&["zypper", "dnf"]) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("var/lib/rpm/rpmdb.sqlite"), "x");
    write(&root.path().join("etc/zypp/zypp.conf"), "[main]\n");
    assert_eq!(Root::at(root.path()).manager().unwrap(), Manager::Dnf);
    write(&root.path().join("etc/zypp/repos.d/oss.repo"), "[oss]\n");
    assert_eq!(Root::at(root.path()).manager().unwrap(), Manager::Zypper);
}

#[test]
fn a_system_that_rolls_is_brought_up_to_date_as_a_distribution() {
    if !can(&["zypper"]) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("var/lib/rpm/rpmdb.sqlite"), "x");
    write(&root.path().join("etc/zypp/repos.d/oss.repo"), "[oss]\n");
    for (id, verb) in [("opensuse-tumbleweed", "dist-upgrade"), ("opensuse-leap", "update")] {
        write(&root.path().join("etc/os-release"), &format!("NAME=x\nID=\"{id}\"\nID_LIKE=suse\n"));
        let steps = UpdateSystemSoftware(None).programs(&Root::at(root.path())).unwrap();
        let words: Vec<&str> = steps.iter().map(|step| &**step.last().unwrap()).collect();
        assert_eq!(words, ["refresh", verb], "{id}");
    }
}
