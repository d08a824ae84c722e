//! `pacman` in a tree of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use infiniservice::internals::commands::actions::ActionRequest;
use infiniservice::internals::commands::actions::cleanup::run_in;
use infiniservice::internals::commands::actions::packages::{
    self, Manager, Operation, PackageInstall, PackageUpdate, Root,
};
use infiniservice::internals::commands::actions::updates::CheckLinuxUpdates;
use infiniservice::internals::commands::actions::{applications, updates};
use infiniservice::internals::commands::argument::Query;
use tokio::time::timeout;

use super::{can, done, item, minutes, name, refused, tool, within, write};

/// An Arch machine in a folder, with a repository in another that has `infini-hello`, `infini-other`, and
/// `infini-needs`, which needs the first, all 1.0.
struct Arch {
    folder: tempfile::TempDir,
    root: PathBuf,
    place: Root,
}

impl Arch {
    fn new() -> Option<Self> {
        if !can(&["pacman", "repo-add", "bsdtar", "zstd", "find", "mkdir", "ln", "touch"]) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        for path in ["var/lib/pacman/local", "var/cache/pacman/pkg", "var/log", "usr"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        let place = Root::at(&root);
        let arch = Self { folder, root, place };
        arch.mirror(&format!("file://{}", arch.repository().display()));
        for package in ["infini-hello", "infini-other", "infini-needs"] {
            arch.offer(package, "1.0");
        }
        assert_eq!(arch.place.manager().unwrap(), Manager::Pacman);
        Some(arch)
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    fn at(&self, package: &str, version: &str) -> PathBuf {
        self.repository().join(format!("{package}-{version}-1-any.pkg.tar.zst"))
    }

    /// Makes a package by hand (`PKGINFO`, and its files) and adds it to the repository.
    fn offer(&self, package: &str, version: &str) {
        let tree = self.folder.path().join("tree");
        let needs = if package == "infini-needs" { "depend = infini-hello\n" } else { "" };
        let info = format!(
            "pkgname = {package}\npkgbase = {package}\npkgver = {version}-1\npkgdesc = A file that says hello\n\
             url = http://example.org\nbuilddate = 1700000000\npackager = Tester <t@example.org>\nsize = 4\n\
             arch = any\nlicense = MIT\nprovides = infini-provided\ngroup = infini-group\n{needs}"
        );
        write(&tree.join(".PKGINFO"), &info);
        write(&tree.join(format!("usr/share/{package}/hello")), &format!("{version}\n"));
        fs::create_dir_all(self.repository()).unwrap();
        let mut pack = Command::new("bsdtar");
        pack.args(["--zstd", "--uid", "0", "--gid", "0", "-cf"]).arg(self.at(package, version));
        tool(pack.arg("-C").arg(&tree).args([".PKGINFO", "usr"]));
        fs::remove_dir_all(tree).unwrap();
        let mut add = Command::new("repo-add");
        add.arg("-q").arg(self.repository().join("test.db.tar.gz"));
        tool(add.arg(self.at(package, version)));
        // A list is fetched when it is newer by a second or more than the one that is there.
        let count = fs::read_dir(self.repository()).unwrap().count();
        let at = SystemTime::now() - Duration::from_secs(3600) + Duration::from_secs(count as u64);
        let list = fs::File::open(self.repository().join("test.db.tar.gz")).unwrap();
        list.set_modified(at).unwrap();
    }

    /// Fetches from here from now on.
    fn mirror(&self, server: &str) {
        let config = format!(
            "[options]\nArchitecture = auto\nHoldPkg = infini-other\nSigLevel = Never\n[test]\nServer = {server}\n"
        );
        write(&self.root.join("etc/pacman.conf"), &config);
    }

    fn hello(&self) -> Option<String> {
        fs::read_to_string(self.root.join("usr/share/infini-hello/hello")).ok()
    }
}

#[tokio::test]
async fn a_package_is_found_installed_brought_up_to_date_and_removed_by_pacman() {
    let Some(arch) = Arch::new() else { return };
    let (place, hello) = (&arch.place, name("infini-hello"));

    let why = refused(packages::change_in(place, &minutes(), Operation::Install(&hello)).await);
    assert!(why.contains("no package list has it"), "{why}");
    let query = |text| Query::new(text).unwrap();
    let why = refused(packages::search_in(place, &minutes(), &query("hello")).await);
    assert!(why.contains("pacman has no package lists yet"), "{why}");
    let upgraded = updates::upgrade_in(place, &minutes(), None).await;
    assert!(done(upgraded)["reboot_required"].is_null(), "nothing tells it");

    let found = done(packages::search_in(place, &minutes(), &query("says hello")).await);
    let one = item(&found, "packages", "name", "infini-hello").unwrap();
    assert_eq!((&one["version"], &one["installed"]), (&"1.0-1".into(), &false.into()));
    assert_eq!(
        (&one["repository"], &one["description"]),
        (&"test".into(), &"A file that says hello".into())
    );
    assert!(item(&found, "packages", "name", "infini-other").is_some(), "by its description");
    let none = done(packages::search_in(place, &minutes(), &query("infini.hello")).await);
    assert_eq!(none["packages"].as_array().unwrap().len(), 0, "a dot is a dot");

    let installed =
        packages::change_in(place, &minutes(), Operation::Install(&name("infini-needs"))).await;
    assert!(installed.stdout.contains("installing infini-needs"), "{installed:#?}");
    done(installed);
    assert_eq!(arch.hello().as_deref(), Some("1.0\n"), "it came along");
    let list = done(packages::list_in(place, &minutes()).await);
    let one = item(&list, "packages", "name", "infini-hello").unwrap();
    assert_eq!(
        (&one["version"], &one["publisher"]),
        (&"1.0-1".into(), &"Tester <t@example.org>".into())
    );

    let none = done(updates::check_in(place, &minutes()).await);
    assert_eq!(none["total_pending_count"], 0, "{none:#}");
    assert!(none["index_age_seconds"].as_u64().unwrap() < 60, "{none:#}");
    let planned = packages::planned_changes_in(place, &minutes(), Operation::Remove(&hello)).await;
    assert!(
        planned.unwrap_err().to_string().contains("other installed packages need"),
        "what cannot be told is not done"
    );
    let why = refused(packages::change_in(place, &minutes(), Operation::Remove(&hello)).await);
    assert!(why.contains("other installed packages need package infini-hello"), "{why}");
    assert!(arch.hello().is_some());

    arch.offer("infini-hello", "2.0");
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 1, "{pending:#}");
    assert_eq!(pending["package_manager"], "pacman");
    assert!(pending["note"].as_str().unwrap().contains("for security"), "{pending:#}");
    let update = &pending["pending_updates"][0];
    assert_eq!(
        (&update["current_version"], &update["available_version"]),
        (&"1.0-1".into(), &"2.0-1".into())
    );
    assert_eq!(
        (&update["package_name"], &update["repository"], &update["architecture"]),
        (&"infini-hello".into(), &"test".into(), &"any".into())
    );
    let newer = done(applications::updates_in(place, &minutes()).await);
    let size = arch.at("infini-hello", "2.0").metadata().unwrap().len();
    assert_eq!(newer["applications"][0]["update_size_bytes"], size);
    assert_eq!(newer["applications"][0]["can_update"], false, "not without the others");
    let own = fs::read_dir(arch.root.join("var/lib/pacman/sync")).unwrap();
    assert_eq!(own.count(), 1);
    done(packages::change_in(place, &minutes(), Operation::Install(&hello)).await);
    assert_eq!(
        arch.hello().as_deref(),
        Some("1.0\n"),
        "nothing is installed from the agent's own lists"
    );

    for change in [Operation::Update(&hello), Operation::UpgradeOne(&hello)] {
        let why = refused(packages::change_in(place, &minutes(), change).await);
        assert!(why.contains("as a whole only"), "{why}");
    }
    done(updates::upgrade_in(place, &minutes(), None).await);
    assert_eq!(arch.hello().as_deref(), Some("2.0\n"));
    let none = done(updates::check_in(place, &minutes()).await);
    assert_eq!(none["total_pending_count"], 0, "{none:#}");
    let past = done(updates::history_in(place, &minutes()).await);
    assert_eq!(past["updates"][0]["title"], "infini-hello 2.0-1 (was 1.0-1)");
    assert_eq!(past["updates"].as_array().unwrap().len(), 1, "{past:#}");

    let cached = arch.root.join("var/cache/pacman/pkg/infini-gone-1.0-1-any.pkg.tar.zst");
    fs::copy(arch.at("infini-other", "1.0"), &cached).unwrap();
    let target = ["system_cache".to_owned()];
    let cleaned = done(run_in(place, &minutes(), &target, SystemTime::now()).await);
    assert!(cleaned["files_deleted"].as_u64().unwrap() >= 1, "{cleaned:#}");
    assert!(!cached.exists());
    done(packages::change_in(place, &minutes(), Operation::Remove(&name("infini-needs"))).await);
    done(packages::change_in(place, &minutes(), Operation::Remove(&hello)).await);
    assert_eq!(arch.hello(), None);
}

#[tokio::test]
async fn a_name_that_pacman_reads_as_something_else_changes_nothing() {
    let Some(arch) = Arch::new() else { return };
    let place = &arch.place;
    done(packages::change_in(place, &minutes(), Operation::UpgradeAll).await);
    // What is provided, a group, an expression, and nothing at all.
    for trick in ["infini-provided", "infini-group", "infini.hello", "infini-nosuch"] {
        let why =
            refused(packages::change_in(place, &minutes(), Operation::Install(&name(trick))).await);
        assert!(why.contains("unable to locate package"), "{trick}: {why}");
        assert_eq!(arch.hello(), None, "{trick}");
    }
    done(packages::change_in(place, &minutes(), Operation::Install(&name("infini-hello"))).await);
    for trick in ["infini-provided", "infini-group", "infini.hello", "infini-nosuch"] {
        refused(packages::change_in(place, &minutes(), Operation::Remove(&name(trick))).await);
        assert!(arch.hello().is_some(), "{trick}");
    }
    let held = name("infini-other");
    done(packages::change_in(place, &minutes(), Operation::Install(&held)).await);
    let why = refused(packages::change_in(place, &minutes(), Operation::Remove(&held)).await);
    assert!(why.contains("the system needs package infini-other"), "{why}");
}

#[tokio::test]
async fn pacmans_lock_is_waited_for_and_told_of_when_the_time_is_over() {
    let Some(arch) = Arch::new() else { return };
    let (place, hello) = (&arch.place, name("infini-hello"));
    done(packages::change_in(place, &minutes(), Operation::UpgradeAll).await);
    let lock = arch.root.join("var/lib/pacman/db.lck");
    write(&lock, "");

    let short = within(Duration::from_secs(3));
    let why = refused(packages::change_in(place, &short, Operation::Install(&hello)).await);
    assert!(why.contains("another package manager is at work"), "{why}");
    assert!(why.contains(&format!("left {} behind", lock.display())), "{why}");
    assert!(tokio::time::Instant::now() <= short.deadline + Duration::from_secs(1));
    let found = packages::search_in(place, &minutes(), &Query::new("hello").unwrap()).await;
    assert!(
        item(&done(found), "packages", "name", "infini-hello").is_some(),
        "reading needs no lock"
    );

    let cx = minutes();
    let mut install = std::pin::pin!(packages::change_in(place, &cx, Operation::Install(&hello)));
    assert!(timeout(Duration::from_secs(2), &mut install).await.is_err(), "it waits");
    assert_eq!(arch.hello(), None);
    fs::remove_file(&lock).unwrap();
    done(install.await);
    assert!(arch.hello().is_some());
}

#[tokio::test]
async fn updates_are_told_by_what_is_known_where_they_cannot_be_fetched() {
    let Some(arch) = Arch::new() else { return };
    let place = &arch.place;
    done(packages::change_in(place, &minutes(), Operation::UpgradeAll).await);
    done(packages::change_in(place, &minutes(), Operation::Install(&name("infini-hello"))).await);
    arch.offer("infini-hello", "2.0");
    let away = arch.folder.path().join("away");
    fs::rename(arch.repository(), &away).unwrap();
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 0, "{pending:#}");
    assert!(pending["note"].as_str().unwrap().contains("could not be fetched"), "{pending:#}");
    assert!(pending["index_age_seconds"].is_null(), "{pending:#}");
    fs::rename(away, arch.repository()).unwrap();

    // A lock that an agent left over in its own lists an hour ago is no reason to wait.
    let lock = arch.root.join("var/cache/infiniservice-pacman/db.lck");
    write(&lock, "");
    let old = SystemTime::now() - Duration::from_secs(2 * 3600);
    fs::File::options().write(true).open(&lock).unwrap().set_modified(old).unwrap();
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 1, "{pending:#}");
    let mut ignore = fs::read_to_string(arch.root.join("etc/pacman.conf")).unwrap();
    ignore.insert_str("[options]\n".len(), "IgnorePkg = infini-hello\n");
    write(&arch.root.join("etc/pacman.conf"), &ignore);
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 0, "the machine ignores it: {pending:#}");
    assert_eq!(pending["held_updates"][0]["package_name"], "infini-hello", "{pending:#}");
}

#[tokio::test]
async fn lists_grow_old_until_they_are_really_fetched_anew() {
    let Some(arch) = Arch::new() else { return };
    let place = &arch.place;
    let age =
        async || done(updates::check_in(place, &minutes()).await)["index_age_seconds"].clone();
    assert!(age().await.as_u64().unwrap() < 60);
    let two_days_ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
    let lists = arch.root.join("var/cache/infiniservice-pacman");
    for path in fs::read_dir(&lists).unwrap().map(|entry| entry.unwrap().path()).chain([lists]) {
        fs::File::open(&path).unwrap().set_modified(two_days_ago).unwrap();
    }
    let away = arch.folder.path().join("away");
    fs::rename(arch.repository(), &away).unwrap();
    for _ in 0..2 {
        assert!(age().await.as_u64().unwrap() >= 2 * 86_400, "trying is not fetching");
    }
    fs::rename(away, arch.repository()).unwrap();
    assert!(age().await.as_u64().unwrap() < 60);
}

#[tokio::test]
async fn an_upgrade_that_runs_out_of_time_at_a_mirror_leaves_no_lock_behind() {
    let Some(arch) = Arch::new() else { return };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    arch.mirror(&format!("http://{}", silent.local_addr().unwrap()));
    let short = within(Duration::from_secs(2));
    let why = refused(updates::upgrade_in(&arch.place, &short, None).await);
    assert!(why.contains("longer than the command may"), "{why}");
    assert!(!arch.root.join("var/lib/pacman/db.lck").exists());
}

#[test]
fn what_pacman_would_run_is_told_word_by_word() {
    let root = tempfile::tempdir().unwrap();
    write(&root.path().join("var/lib/pacman/local/ALPM_DB_VERSION"), "9\n");
    let (place, at) = (Root::at(root.path()), root.path().display());
    let told = |action: ActionRequest| -> Option<Vec<String>> {
        Some(action.programs(&place)?.iter().map(|step| step.join(" ")).collect())
    };
    let tree = format!(
        "--noconfirm --color never --root {at} --config {at}/etc/pacman.conf --cachedir {at}/var/cache/pacman/pkg \
         --gpgdir {at}/etc/pacman.d/gnupg --hookdir {at}/etc/pacman.d/hooks"
    );
    let own = format!("--dbpath {at}/var/lib/pacman --logfile {at}/var/log/pacman.log");
    let lists = format!("{at}/var/cache/infiniservice-pacman");
    assert_eq!(
        told(PackageInstall(name("jq")).into()).unwrap(),
        [
            format!("pacman {tree} {own} -S --print-format %n -- jq"),
            format!("pacman {tree} {own} -S --needed --noprogressbar -- jq"),
        ]
    );
    assert_eq!(
        told(CheckLinuxUpdates.into()).unwrap(),
        [
            format!("mkdir -p -m 755 -- {lists}"),
            format!("ln -sfn -- {at}/var/lib/pacman/local {lists}/local"),
            format!("find {lists} -maxdepth 1 -name db.lck -mmin +60 -delete"),
            format!("pacman {tree} --dbpath {lists} --logfile /dev/null -Sy --noprogressbar"),
            format!("touch -- {lists}/fetched"),
            format!("pacman {tree} --dbpath {lists} --logfile /dev/null -Qu"),
            format!(
                "pacman {tree} --dbpath {lists} --logfile /dev/null -Su --print-format %n %v %r %s"
            ),
        ]
    );
    assert_eq!(told(PackageUpdate(name("jq")).into()), None);
}
