//! `dnf` and `rpm` in a tree of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use infiniservice::internals::commands::actions::packages::{
    self, ChangeKind, Operation, Planned, Root,
};
use infiniservice::internals::commands::actions::{applications, updates};
use infiniservice::internals::commands::argument::Query;

use super::{can, done, item, minutes, name, refused, tool, write};

/// A security advisory for `infini-hello` 2.0.
pub const ADVISORY: &str = r#"<?xml version="1.0"?><updates><update from="t" status="stable" type="security" version="1">
<id>TEST-2026-1</id><title>hello</title><severity>Important</severity><issued date="2026-01-01 00:00:00"/>
<description>x</description><pkglist><collection short="t"><name>t</name>
<package name="infini-hello" version="2.0" release="1" epoch="1" arch="noarch" src="x.src.rpm">
<filename>infini-hello-2.0-1.noarch.rpm</filename></package></collection></pkglist></update></updates>"#;

/// Builds `package` of this version into `repository`.
pub fn rpm(work: &Path, repository: &Path, package: &str, version: &str) {
    rpm_with(work, repository, package, version, "");
}

/// The same with more of a spec file, such as a script.
pub fn rpm_with(work: &Path, repository: &Path, package: &str, version: &str, more: &str) {
    let spec = work.join("spec");
    let text = format!(
        "Name: {package}\nVersion: {version}\nRelease: 1\nEpoch: 1\nSummary: A file that says hello\nLicense: MIT\n\
         Vendor: Test Vendor\nProvides: infini-provided\nBuildArch: noarch\n%description\nx\n%install\nmkdir -p %{{buildroot}}/usr/share/{package}\n\
         echo {version} > %{{buildroot}}/usr/share/{package}/hello\n{more}%files\n/usr/share/{package}\n"
    );
    write(&spec, &text);
    let define = |name: &str, path: &Path| format!("{name} {}", path.display());
    let mut build = Command::new("rpmbuild");
    build.args([
        "-bb",
        "--define",
        &define("_topdir", work),
        "--define",
        &define("_rpmdir", repository),
    ]);
    tool(build.arg(spec));
}

/// A script that prints what a person may take for the reason, and fails. Lua is rpm's own: a tree needs no shell.
pub const FAILING: &str = "%pre -p <lua>\nio.stderr:write(\"debconf: since apt-utils is not installed\\nno such widget\\n\")\nerror(\"boom\")\n";

/// Makes what a repository tells of itself anew.
pub fn index(repository: &Path) {
    tool(Command::new("createrepo_c").arg("-q").arg(repository));
}

#[tokio::test]
async fn a_package_is_found_installed_brought_up_to_date_and_removed_by_dnf() {
    if !can(&["dnf", "rpm", "rpmbuild", "createrepo_c", "modifyrepo_c"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (work, repository, root) =
        (folder.path().join("work"), folder.path().join("repository"), folder.path().join("root"));
    rpm(&work, &repository, "infini-hello", "1.0");
    rpm(&work, &repository, "infini-other", "1.0");
    index(&repository);
    let list = format!(
        "[local]\nname=local\nbaseurl=file://{}\ngpgcheck=0\nmetadata_expire=3600\n",
        repository.display()
    );
    write(&root.join("etc/yum.repos.d/local.repo"), &list);
    // Debian's rpm keeps its database in the home of whoever runs it; here it stands where others do.
    for (link, target) in [("root/.rpmdb", "../var/lib/rpm"), (".rpmdb", "var/lib/rpm")] {
        fs::create_dir_all(root.join("var/lib/rpm")).unwrap();
        fs::create_dir_all(root.join(link).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, root.join(link)).unwrap();
    }
    tool(Command::new("rpm").arg(format!("--root={}", root.display())).arg("--initdb"));
    let (place, hello) = (&Root::at(&root), name("infini-hello"));
    let file = root.join("usr/share/infini-hello/hello");

    let found = done(packages::search_in(place, &minutes(), &Query::new("hello").unwrap()).await);
    let one = item(&found, "packages", "name", "infini-hello").unwrap();
    assert_eq!(
        (&one["version"], &one["installed"]),
        (&"1:1.0-1".into(), &false.into()),
        "{found:#}"
    );
    assert!(item(&found, "packages", "name", "infini-other").is_some(), "by its description");

    done(packages::change_in(place, &minutes(), Operation::Install(&hello)).await);
    assert_eq!(fs::read_to_string(&file).unwrap(), "1.0\n");
    let list = done(packages::list_in(place, &minutes()).await);
    let one = item(&list, "packages", "name", "infini-hello").unwrap();
    assert_eq!((&one["version"], &one["publisher"]), (&"1:1.0-1".into(), &"Test Vendor".into()));
    let missing = refused(
        packages::change_in(place, &minutes(), Operation::Install(&name("infini-nosuch"))).await,
    );
    assert!(missing.contains("unable to locate package infini-nosuch"), "{missing}");

    // What a package provides is not its name.
    for trick in ["infini-hello-1.0", "infini-hell", "config:infini-hello"] {
        refused(packages::change_in(place, &minutes(), Operation::Remove(&name(trick))).await);
        assert!(file.exists(), "{trick}");
    }
    for trick in ["infini-other-1.0-1", "infini-provided"] {
        let why =
            refused(packages::change_in(place, &minutes(), Operation::Install(&name(trick))).await);
        assert!(why.contains("unable to locate"), "{why}");
    }

    let one = |kind, name: &str| Planned { kind, name: name.to_owned() };
    let plan =
        async |change| packages::planned_changes_in(place, &minutes(), change).await.unwrap();
    let (other, whole) = (name("infini-other"), name("infini-hello.noarch"));
    assert_eq!(
        plan(Operation::Install(&other)).await,
        vec![one(ChangeKind::Install, "infini-other")]
    );
    assert_eq!(plan(Operation::Install(&hello)).await, Vec::new(), "it is there");
    assert_eq!(
        plan(Operation::Remove(&whole)).await,
        vec![one(ChangeKind::Remove, "infini-hello")]
    );
    assert!(file.exists());

    rpm_with(&work, &repository, "infini-bad", "1.0", FAILING);
    index(&repository);
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let why = refused(
        packages::change_in(place, &minutes(), Operation::Install(&name("infini-bad"))).await,
    );
    assert!(why.starts_with("package infini-bad") && why.contains("%prein script failed"), "{why}");
    assert!(why.ends_with("; its last lines: no such widget"), "{why}");

    rpm(&work, &repository, "infini-hello", "2.0");
    rpm(&work, &repository, "infini-other", "2.0");
    index(&repository);
    write(&work.join("updateinfo.xml"), ADVISORY);
    tool(
        Command::new("modifyrepo_c")
            .arg(work.join("updateinfo.xml"))
            .arg(repository.join("repodata")),
    );
    done(packages::change_in(place, &minutes(), Operation::Refresh).await);
    let pending = done(updates::check_in(place, &minutes()).await);
    assert_eq!(pending["total_pending_count"], 1, "{pending:#}");
    let update = &pending["pending_updates"][0];
    assert_eq!(update["current_version"], "1:1.0-1");
    assert_eq!(update["available_version"], "1:2.0-1");
    assert_eq!(update["repository"], "local");
    assert_eq!(
        (&update["is_security"], &pending["package_manager"]),
        (&true.into(), &"dnf".into())
    );
    let newer = done(applications::updates_in(place, &minutes()).await);
    let size = repository.join("noarch/infini-hello-2.0-1.noarch.rpm").metadata().unwrap().len();
    assert_eq!(newer["applications"][0]["update_size_bytes"], size);
    assert_eq!(newer["applications"][0]["vendor"], "Test Vendor");

    write(&root.join("etc/dnf/dnf.conf"), "[main]\nexcludepkgs=infini-hello\n");
    let held = done(updates::check_in(place, &minutes()).await);
    assert_eq!(held["total_pending_count"], 0, "{held:#}");
    assert_eq!(held["held_updates"][0]["package_name"], "infini-hello", "{held:#}");
    fs::remove_file(root.join("etc/dnf/dnf.conf")).unwrap();
    assert_eq!(plan(Operation::UpgradeAll).await, vec![one(ChangeKind::Update, "infini-hello")]);

    let upgraded = updates::upgrade_in(place, &minutes(), None).await;
    assert!(done(upgraded)["reboot_required"].is_null(), "nothing tells it of a tree");
    assert_eq!(fs::read_to_string(&file).unwrap(), "2.0\n");
    let past = done(updates::history_in(place, &minutes()).await);
    assert_eq!(past["updates"].as_array().unwrap().len(), 1, "{past:#}");

    done(packages::change_in(place, &minutes(), Operation::Remove(&hello)).await);
    assert!(!file.exists());
    done(packages::change_in(place, &minutes(), Operation::CleanCache).await);
}
