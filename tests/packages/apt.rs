//! `apt-get` and `dpkg` in a tree of their own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use infiniservice::internals::commands::actions::packages::{
    self, ChangeKind, Operation, Planned, Root,
};
use infiniservice::internals::commands::actions::{applications, updates};
use infiniservice::internals::commands::argument::Query;
use rustix::fs::{FlockOperation, fcntl_lock};
use tokio::time::timeout;

use super::{can, done, item, minutes, name, refused, tool, within, write};

/// A Debian machine in a folder, with an archive in another that has `infini-hello` 1.0.
struct Debian {
    root: tempfile::TempDir,
    place: Root,
}

const STATUS: &str = "Package: infini-base\nStatus: install ok installed\nMaintainer: Tester <t@example.org>\n\
    Architecture: all\nVersion: 1\nInstalled-Size: 8\nDescription: the base of this tree\n";

impl Debian {
    fn new() -> Option<Self> {
        if !can(&["apt-get", "dpkg-deb", "sha256sum"]) {
            return None;
        }
        let root = tempfile::tempdir().unwrap();
        let machine = root.path().join("machine");
        for folder in [
            "etc/apt/apt.conf.d",
            "etc/apt/preferences.d",
            "etc/apt/sources.list.d",
            "etc/apt/trusted.gpg.d",
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "var/log/apt",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
        ] {
            fs::create_dir_all(machine.join(folder)).unwrap();
        }
        write(&machine.join("var/lib/dpkg/status"), STATUS);
        write(&machine.join("etc/os-release"), "PRETTY_NAME=\"Test 1\"\n");
        let place = Root::at(&machine);
        let debian = Self { root, place };
        debian.offer("main", "Debian", "stable", "1.0");
        Some(debian)
    }

    fn machine(&self) -> PathBuf {
        self.root.path().join("machine")
    }

    /// Adds an archive with this version.
    fn offer(&self, archive: &str, label: &str, suite: &str, version: &str) {
        self.offer_with(archive, label, suite, version, None);
    }

    /// The same with a script that runs after its installation.
    fn offer_with(
        &self,
        archive: &str,
        label: &str,
        suite: &str,
        version: &str,
        script: Option<&str>,
    ) {
        let folder = self.root.path().join(archive);
        deb(&folder, version, script);
        let sum = |file: &str| {
            tool(Command::new("sha256sum").current_dir(&folder).arg(file))[..64].to_owned()
        };
        let file = format!("infini-hello_{version}_all.deb");
        let size = folder.join(&file).metadata().unwrap().len();
        let control = tool(Command::new("dpkg-deb").arg("-f").arg(folder.join(&file)));
        let packages =
            format!("{control}Filename: ./{file}\nSize: {size}\nSHA256: {}\n", sum(&file));
        write(&folder.join("Packages"), &packages);
        let release = format!(
            "Label: {label}\nSuite: {suite}\nVersion: 12\nDate: Sat, 01 Jan 2022 00:00:00 UTC\nSHA256:\n {} {} Packages\n",
            sum("Packages"),
            packages.len()
        );
        write(&folder.join("Release"), &release);
        let list = format!("deb [trusted=yes] file:{} ./\n", folder.display());
        write(&self.machine().join(format!("etc/apt/sources.list.d/{archive}.list")), &list);
    }

    fn has(&self) -> bool {
        self.machine().join("usr/share/infini-hello/hello").exists()
    }
}

fn deb(folder: &Path, version: &str, script: Option<&str>) {
    let tree = folder.join(format!("tree-{version}"));
    let control = format!(
        "Package: infini-hello\nVersion: {version}\nArchitecture: all\nMaintainer: Tester <t@example.org>\n\
         Installed-Size: 12\nDescription: a file that says hello\n"
    );
    write(&tree.join("DEBIAN/control"), &control);
    write(&tree.join("usr/share/infini-hello/hello"), "hello\n");
    if let Some(script) = script {
        let path = tree.join("DEBIAN/postinst");
        write(&path, script);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    tool(
        Command::new("dpkg-deb")
            .args(["--root-owner-group", "-b"])
            .args([&tree, &folder.to_path_buf()]),
    );
    fs::remove_dir_all(tree).unwrap();
}

#[tokio::test]
async fn a_package_is_found_installed_brought_up_to_date_and_removed() {
    let Some(debian) = Debian::new() else { return };
    let (place, hello) = (&debian.place, name("infini-hello"));

    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let found =
        done(packages::search_in(place, &minutes(), &Query::new("hello says").unwrap()).await);
    let item_found = item(&found, "packages", "name", "infini-hello").unwrap();
    assert_eq!((&item_found["version"], &item_found["installed"]), (&"1.0".into(), &false.into()));

    let installed = packages::change_in(place, &minutes(), Operation::Install(&hello)).await;
    assert!(installed.stdout.contains("Setting up infini-hello"), "{installed:#?}");
    assert_eq!(installed.exit_code, Some(0));
    assert!(debian.has());
    let list = done(packages::list_in(place, &minutes()).await);
    let listed = item(&list, "packages", "name", "infini-hello").unwrap();
    assert_eq!(listed["publisher"], "Tester <t@example.org>");
    assert_eq!(listed["description"], "a file that says hello");

    let none = done(updates::check_in(place, &minutes()).await);
    assert_eq!(none["total_pending_count"], 0, "{none:#}");

    debian.offer("security", "Debian-Security", "stable-security", "2.0");
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let pending = done(updates::check_in(place, &minutes()).await);
    let update = item(&pending, "pending_updates", "package_name", "infini-hello").unwrap();
    assert_eq!(update["current_version"], "1.0");
    assert_eq!(update["available_version"], "2.0");
    assert_eq!(update["is_security"], true);
    assert_eq!(update["architecture"], "all");
    assert_eq!(
        (&pending["security_updates_count"], &pending["distro"]),
        (&1.into(), &"Test 1".into())
    );
    assert_eq!(pending["reboot_required"], false);
    let newer = done(applications::updates_in(place, &minutes()).await);
    let newer = item(&newer, "applications", "name", "infini-hello").unwrap();
    assert_eq!(newer["update_available"], "2.0");
    let deb = debian.root.path().join("security/infini-hello_2.0_all.deb");
    // A file that is at hand is not fetched, so apt may not print it.
    let bytes = &newer["update_size_bytes"];
    assert!(bytes.is_null() || bytes == deb.metadata().unwrap().len(), "{newer:#}");

    write(&debian.machine().join("run/reboot-required"), "*** System restart required ***\n");
    let upgraded = updates::upgrade_in(place, &minutes(), None).await;
    assert_eq!(done(upgraded)["reboot_required"], true);
    let applications = done(applications::installed_in(place, &minutes()).await);
    let application = item(&applications, "applications", "name", "infini-hello").unwrap();
    assert_eq!((&application["version"], &application["size_mb"]), (&"2.0".into(), &0.01.into()));
    assert!(application["install_date"].as_str().unwrap().ends_with('Z'));
    let past = done(updates::history_in(place, &minutes()).await);
    assert_eq!(past["updates"][0]["title"], "infini-hello 2.0 (was 1.0)");
    assert_eq!(past["updates"].as_array().unwrap().len(), 1);

    done(packages::change_in(place, &minutes(), Operation::Remove(&hello)).await);
    assert!(!debian.has());
}

#[tokio::test]
async fn a_name_that_apt_reads_as_something_else_changes_nothing() {
    let Some(debian) = Debian::new() else { return };
    let place = &debian.place;
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let unknown =
        packages::change_in(place, &minutes(), Operation::Install(&name("infini-nosuch"))).await;
    assert!(refused(unknown).starts_with("unable to locate package infini-nosuch"));
    // A sign at the end turns a removal into an installation, and a dot makes an expression.
    for trick in ["infini-hello+", "infini.hello", "infini-hello+:all"] {
        refused(packages::change_in(place, &minutes(), Operation::Remove(&name(trick))).await);
        assert!(!debian.has(), "{trick}");
    }
    done(
        packages::change_in(place, &minutes(), Operation::Install(&name("infini-hello:all"))).await,
    );
    for trick in ["infini-hello-", "infini.hello", "infini-hello-:all"] {
        refused(packages::change_in(place, &minutes(), Operation::Install(&name(trick))).await);
        assert!(debian.has(), "{trick}");
    }
}

#[tokio::test]
async fn a_held_lock_is_waited_for_and_its_holder_is_named_when_the_time_is_over() {
    let Some(debian) = Debian::new() else { return };
    let (place, hello) = (&debian.place, name("infini-hello"));
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let lock = File::create(debian.machine().join("var/lib/dpkg/lock-frontend")).unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();

    let short = within(Duration::from_secs(6));
    let why = refused(packages::change_in(place, &short, Operation::Install(&hello)).await);
    assert!(why.contains(&format!("process {}", std::process::id())), "{why}");
    assert!(tokio::time::Instant::now() <= short.deadline + Duration::from_secs(1));

    let cx = minutes();
    let mut install = std::pin::pin!(packages::change_in(place, &cx, Operation::Install(&hello)));
    let waiting = timeout(Duration::from_secs(3), &mut install).await;
    assert!(waiting.is_err() && !debian.has(), "it waits");
    drop(lock);
    done(install.await);
    assert!(debian.has());
}

#[tokio::test]
async fn the_lock_of_the_index_is_waited_for_too_though_apt_itself_gives_up_at_once() {
    let Some(debian) = Debian::new() else { return };
    let lock = File::create(debian.machine().join("var/lib/apt/lists/lock")).unwrap();
    fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let cx = minutes();
    let mut refresh = std::pin::pin!(packages::change_in(&debian.place, &cx, Operation::Refresh));
    assert!(timeout(Duration::from_secs(3), &mut refresh).await.is_err(), "it tries again");
    drop(lock);
    done(refresh.await);
}

#[tokio::test]
async fn a_held_package_with_an_update_is_told_and_not_counted_as_pending() {
    let Some(debian) = Debian::new() else { return };
    let (place, hello) = (&debian.place, name("infini-hello"));
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    done(packages::change_in(place, &minutes(), Operation::Install(&hello)).await);
    let status = debian.machine().join("var/lib/dpkg/status");
    let (before, after) =
        ("Package: infini-hello\nStatus: install ok", "Package: infini-hello\nStatus: hold ok");
    write(&status, &fs::read_to_string(&status).unwrap().replace(before, after));
    debian.offer("security", "Debian-Security", "stable-security", "2.0");
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 0, "{pending:#}");
    let held = item(&pending, "held_updates", "package_name", "infini-hello").unwrap();
    assert_eq!(
        (&held["current_version"], &held["available_version"]),
        (&"1.0".into(), &"2.0".into())
    );
    assert!(pending["note"].as_str().unwrap().contains("infini-hello"), "{pending:#}");
    let newer = done(applications::updates_in(place, &minutes()).await);
    let newer = item(&newer, "applications", "name", "infini-hello").unwrap();
    assert_eq!((&newer["update_available"], &newer["can_update"]), (&"2.0".into(), &false.into()));
}

/// What would be done is told before it is done, by the name of each package that it is done to.
#[tokio::test]
async fn apt_tells_what_it_would_change_and_changes_nothing() {
    let Some(debian) = Debian::new() else { return };
    let (place, hello) = (&debian.place, name("infini-hello"));
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let plan =
        async |change| packages::planned_changes_in(place, &minutes(), change).await.unwrap();
    let one = |kind| vec![Planned { kind, name: "infini-hello".into() }];
    assert_eq!(plan(Operation::Install(&hello)).await, one(ChangeKind::Install));
    assert!(!debian.has());
    done(packages::change_in(place, &minutes(), Operation::Install(&hello)).await);
    debian.offer("security", "Debian-Security", "stable-security", "2.0");
    assert_eq!(plan(Operation::UpgradeAll).await, one(ChangeKind::Update));
    assert_eq!(plan(Operation::Remove(&hello)).await, one(ChangeKind::Remove));
    let whole = name("infini-hello:all");
    assert_eq!(plan(Operation::Remove(&whole)).await, one(ChangeKind::Remove));
    assert!(debian.has());
}

/// Puts a shell with its libraries into a tree, for the scripts of packages.
fn shell(tree: &Path) {
    let libraries = tool(Command::new("ldd").arg("/bin/sh"));
    let paths = libraries.split_ascii_whitespace().filter(|word| word.starts_with('/'));
    for path in paths.chain(["/bin/sh"]) {
        let to = tree.join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(path, to).unwrap();
    }
}

/// A script prints whatever it likes; the reason is that it failed.
#[tokio::test]
async fn the_reason_of_a_failed_installation_is_the_script_that_failed_with_its_last_lines() {
    let Some(debian) = Debian::new() else { return };
    let (place, hello) = (&debian.place, name("infini-hello"));
    shell(&debian.machine());
    let script = "#!/bin/sh\necho 'debconf: delaying package configuration, since apt-utils is not installed' >&2\n\
        echo 'E: Could not get lock /x. It is held by process 1 (init)' >&2\necho 'no such widget' >&2\nexit 3\n";
    debian.offer_with("main", "Debian", "stable", "1.1", Some(script));
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    for change in [Operation::Install(&hello), Operation::Update(&hello)] {
        let why = refused(packages::change_in(place, &minutes(), change).await);
        assert!(why.starts_with("package infini-hello: its post-installation script "), "{why}");
        assert!(why.contains("exit status 3") && why.ends_with("| no such widget"), "{why}");
    }
}
