//! What is deleted, and above all what is not.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use infiniservice::internals::commands::actions::cleanup::{TARGETS, run_in};
use infiniservice::internals::commands::actions::packages::Root;

use super::{can, done, minutes, refused, write};

const DAY: Duration = Duration::from_secs(86_400);

/// A machine in a folder, and the day eleven days later, when what is made now is old.
fn machine() -> (tempfile::TempDir, PathBuf, SystemTime) {
    let root = tempfile::tempdir().unwrap();
    let temporary = root.path().join("tmp");
    fs::create_dir_all(&temporary).unwrap();
    (root, temporary, SystemTime::now() + 11 * DAY)
}

fn names(targets: &[&str]) -> Vec<String> {
    targets.iter().map(|target| (*target).to_owned()).collect()
}

fn touch(path: &Path, at: SystemTime) {
    File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
}

#[tokio::test]
async fn old_files_go_and_young_open_special_and_kept_ones_stay() {
    let (root, tmp, now) = machine();
    write(&tmp.join("old"), &"x".repeat(1 << 20));
    write(&tmp.join("deep/er/old"), "x");
    write(&tmp.join("half/old"), "x");
    write(&tmp.join("half/young"), "x");
    touch(&tmp.join("half/young"), now - DAY);
    write(&tmp.join("open"), "x");
    let _open = File::open(tmp.join("open")).unwrap();
    write(&tmp.join("systemd-private-abc/tmp/old"), "x");
    write(&root.path().join("home/precious"), "x");
    symlink(root.path().join("home"), tmp.join("link")).unwrap();
    symlink(root.path().join("home/precious"), tmp.join("deep/link")).unwrap();
    let _listens = UnixListener::bind(tmp.join("socket")).unwrap();
    write(&root.path().join("var/tmp/younger"), "x"); // kept for thirty days

    let told = done(run_in(&Root::at(root.path()), &minutes(), &[], now).await);
    let mut left: Vec<_> =
        fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["half", "open", "socket", "systemd-private-abc"]);
    assert!(tmp.join("half/young").exists() && !tmp.join("half/old").exists());
    assert!(tmp.join("systemd-private-abc/tmp/old").exists());
    assert!(
        root.path().join("home/precious").exists(),
        "a link is deleted, what it leads to is not"
    );
    assert!(root.path().join("var/tmp/younger").exists());
    assert_eq!(told["files_deleted"], 5, "{told:#}"); // three files and two links
    assert!(told["space_cleared_mb"].as_f64().unwrap() >= 1.0, "{told:#}");
    assert_eq!(told["targets"]["temp_files"]["files_deleted"], 5);
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let now = SystemTime::now() + 90 * DAY;
    write(&root.path().join("home/ann/precious"), "x");
    symlink("home", root.path().join("tmp")).unwrap();
    write(&root.path().join("etc/passwd"), "ann:x:1000:1000::/home/ann:/bin/sh\n");
    // A person points the trash somewhere else.
    fs::create_dir_all(root.path().join("home/ann/.local/share")).unwrap();
    write(&root.path().join("victim/files/precious"), "x");
    symlink(root.path().join("victim"), root.path().join("home/ann/.local/share/Trash")).unwrap();

    let told = done(
        run_in(&Root::at(root.path()), &minutes(), &names(&["temp_files", "recycle_bin"]), now)
            .await,
    );
    assert!(root.path().join("home/ann/precious").exists());
    assert!(root.path().join("victim/files/precious").exists());
    assert_eq!(told["files_deleted"], 0);
    assert!(
        told["targets"]["recycle_bin"]["note"].as_str().unwrap().contains("was left alone"),
        "{told:#}"
    );
}

#[tokio::test]
async fn trash_is_emptied_whatever_its_age_and_a_browsers_cache_by_its_age() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home/ann");
    write(
        &root.path().join("etc/passwd"),
        "daemon:x:1:1::/usr/sbin:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
    );
    write(&root.path().join("usr/sbin/.local/share/Trash/files/a"), "x");
    write(&home.join(".local/share/Trash/files/folder/a"), "x");
    write(&home.join(".local/share/Trash/info/a.trashinfo"), "x");
    write(&home.join(".cache/mozilla/firefox/p/cache2/entries/A"), "x");
    write(&home.join(".cache/other/a"), "x");
    let both = names(&["recycle_bin", "browser_cache"]);

    let told = done(run_in(&Root::at(root.path()), &minutes(), &both, SystemTime::now()).await);
    assert_eq!(told["targets"]["recycle_bin"]["files_deleted"], 2, "{told:#}");
    assert_eq!(told["targets"]["browser_cache"]["files_deleted"], 0, "it is of today");
    assert!(root.path().join("usr/sbin/.local/share/Trash/files/a").exists(), "no person's home");

    let later = SystemTime::now() + 2 * DAY;
    let told = done(run_in(&Root::at(root.path()), &minutes(), &both, later).await);
    assert_eq!(told["targets"]["browser_cache"]["files_deleted"], 1);
    assert!(home.join(".cache/other/a").exists() && home.join(".cache").exists());
}

#[tokio::test]
async fn a_target_that_is_not_declared_is_refused_before_anything_is_deleted() {
    let (root, tmp, now) = machine();
    write(&tmp.join("old"), "x");
    let why = refused(
        run_in(&Root::at(root.path()), &minutes(), &names(&["temp_files", "/etc"]), now).await,
    );
    assert!(TARGETS.iter().all(|target| why.contains(target)), "{why}");
    assert!(tmp.join("old").exists());
}

#[tokio::test]
async fn another_file_system_is_not_entered_also_where_it_is_the_same_device() {
    let (root, tmp, now) = machine();
    if !can(&["mount", "umount"]) {
        return;
    }
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }
    write(&root.path().join("precious/file"), "x");
    fs::create_dir_all(tmp.join("bound")).unwrap();
    let bind = Command::new("mount")
        .arg("--bind")
        .arg(root.path().join("precious"))
        .arg(tmp.join("bound"))
        .output()
        .unwrap();
    if !bind.status.success() {
        println!("skipped: cannot mount here: {}", String::from_utf8_lossy(&bind.stderr).trim());
        return;
    }
    let _mounted = Mounted(tmp.join("bound"));
    done(run_in(&Root::at(root.path()), &minutes(), &[], now).await);
    assert!(tmp.join("bound/file").exists());
}

#[tokio::test]
async fn the_package_managers_cache_is_cleaned_by_itself_and_counted() {
    let (root, _tmp, now) = machine();
    if !can(&["apt-get"]) {
        return;
    }
    write(&root.path().join("var/lib/dpkg/status"), "Package: a\nStatus: install ok installed\n");
    fs::create_dir_all(root.path().join("etc/apt")).unwrap();
    fs::create_dir_all(root.path().join("var/lib/apt/lists/partial")).unwrap();
    write(&root.path().join("var/cache/apt/archives/x_1_all.deb"), &"x".repeat(1 << 20));
    fs::create_dir_all(root.path().join("var/cache/apt/archives/partial")).unwrap();
    let told =
        done(run_in(&Root::at(root.path()), &minutes(), &names(&["system_cache"]), now).await);
    assert!(!root.path().join("var/cache/apt/archives/x_1_all.deb").exists(), "{told:#}");
    assert!(told["space_cleared_mb"].as_f64().unwrap() >= 1.0, "{told:#}");
    assert_eq!(told["targets"]["system_cache"]["files_deleted"], 1, "{told:#}");
}
