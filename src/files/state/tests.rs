//! Folders that others made or can change, masks, links, and files that are not the agent's own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use tempfile::TempDir;

use super::*;

const NOBODY: u32 = 65_534;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// What `open` and `check` both say of a folder.
fn refusal(path: &Path) -> Untrusted {
    let state = StateFolder::at(path);
    let error = state.open().unwrap_err();
    let untrusted = Untrusted::of(&error).unwrap_or_else(|| panic!("{error}")).clone();
    assert_eq!(state.check(), Err(untrusted.clone()));
    untrusted
}

#[test]
fn it_is_made_for_its_owner_alone_whatever_the_umask() {
    const CHILD: &str = "INFINISERVICE_TEST_UMASK";
    let name = "files::state::tests::it_is_made_for_its_owner_alone_whatever_the_umask";
    if std::env::var_os(CHILD).is_none() {
        // The mask is the whole process's, so a process of its own has it.
        for umask in ["000", "022", "077", "777"] {
            let script = "umask $2; exec \"$0\" --exact \"$1\" --test-threads 1";
            let mut test = std::process::Command::new("sh");
            test.args(["-c", script]).arg(std::env::current_exe().unwrap()).args([name, umask]);
            let folder = TempDir::new().unwrap();
            let output = test.env(CHILD, folder.path()).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("1 passed"), "{umask}: {text}");
        }
        return;
    }
    let folder = std::path::PathBuf::from(std::env::var_os(CHILD).unwrap());
    let path = folder.join("a/state");
    let state = StateFolder::at(&path);
    let flags = OFlags::WRONLY | OFlags::CREATE;
    state.open_file("spool", flags).unwrap();
    assert_eq!((mode(&folder.join("a")), mode(&path)), (0o700, 0o700));
    assert_eq!(mode(&path.join("spool")), 0o600);
}

#[test]
fn a_folder_that_others_can_change_is_refused_with_the_remedy() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    fs::create_dir(&path).unwrap();
    for open in [0o777, 0o1777, 0o770, 0o702, 0o722] {
        set_mode(&path, open);
        let Untrusted { why, remedy, is_foreign, .. } = refusal(&path);
        assert!(why.starts_with(&format!("has mode {open:04o}")), "{why}");
        assert_eq!((remedy, is_foreign), (format!("chmod 0700 {}", path.display()), false));
    }
    for closed in [0o700, 0o711, 0o755] {
        set_mode(&path, closed);
        StateFolder::at(&path).open().unwrap();
        assert_eq!(StateFolder::at(&path).listing_remedy().is_some(), closed != 0o700);
    }
    if geteuid().is_root() {
        chown(&path, Some(NOBODY), None).unwrap();
        let Untrusted { why, remedy, is_foreign, .. } = refusal(&path);
        assert_eq!(why, format!("belongs to user {NOBODY}, not to root"));
        assert_eq!((remedy, is_foreign), (format!("chown root: {}", path.display()), true));
    }
}

#[test]
fn a_link_is_refused_and_a_trusted_link_in_the_path_is_not() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("real")).unwrap();
    symlink("real", at("link")).unwrap();
    for link in [at("link"), at("link/"), at("link/."), at("real/../link")] {
        assert!(refusal(&link).why.starts_with("is a symbolic link"));
    }
    symlink("nowhere", at("dangling")).unwrap();
    assert!(refusal(&at("dangling")).why.starts_with("is a symbolic link"));
    assert!(!at("nowhere").exists());
    StateFolder::at(at("link/state")).open().unwrap();
    assert_eq!(mode(&at("real/state")), 0o700);
    if geteuid().is_root() {
        set_mode(folder.path(), 0o1777);
        std::os::unix::fs::lchown(at("link"), Some(NOBODY), None).unwrap();
        assert!(refusal(&at("link/state")).why.starts_with("belongs to user"));
    }
}

#[test]
fn a_folder_above_that_others_can_change_is_refused_but_for_a_sticky_one() {
    let folder = TempDir::new().unwrap();
    let above = folder.path().join("above");
    fs::create_dir(&above).unwrap();
    for path in [above.join("missing"), above.join("missing/state")] {
        set_mode(&above, 0o777);
        assert_eq!(refusal(&path).remedy, format!("chmod go-w {}", above.display()));
        set_mode(&above, 0o1777);
        StateFolder::at(&path).open().unwrap();
        set_mode(&above, 0o777);
        assert_eq!(refusal(&path).path, above, "also where it is there already");
    }
    if geteuid().is_root() {
        set_mode(&above, 0o755);
        chown(&above, Some(NOBODY), None).unwrap();
        assert_eq!(
            refusal(&above.join("missing")).remedy,
            format!("chown root: {}", above.display())
        );
    }
}

#[test]
fn only_a_file_of_our_own_with_one_name_is_opened() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let state = StateFolder::at(folder.path());
    let open = |name: &str| state.open_file(name, OFlags::RDWR | OFlags::CREATE);
    fs::write(at("other"), "").unwrap();
    fs::hard_link(at("other"), at("hard")).unwrap();
    symlink("other", at("soft")).unwrap();
    symlink("new", at("dangling")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let cases = [
        ("hard", "another name"),
        ("soft", "symbolic link"),
        ("dangling", "symbolic link"),
        ("folder", "directory"),
    ];
    for (name, why) in cases {
        let error = open(name).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
    assert!(!at("new").exists());
    fs::write(at("mine"), "").unwrap();
    set_mode(&at("mine"), 0o666);
    open("mine").unwrap();
    assert_eq!(mode(&at("mine")), 0o600);
    if geteuid().is_root() {
        chown(at("mine"), Some(NOBODY), None).unwrap();
        assert!(open("mine").unwrap_err().to_string().contains("another user"));
    }
}

#[test]
fn one_that_is_removed_or_moved_away_is_made_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("state");
    let state = StateFolder::at(&path);
    let make = || state.open_file("spool", OFlags::WRONLY | OFlags::CREATE).unwrap();
    let file = make();
    assert!(state.names("spool", &file));
    fs::rename(&path, folder.path().join("moved")).unwrap();
    assert!(!state.names("spool", &file));
    make();
    fs::remove_dir_all(&path).unwrap();
    make();
    assert!(path.join("spool").exists());
}

#[test]
fn its_names_are_known_with_their_suffixes() {
    for name in ["spool", "spool.new", "spool-of-b", "audit.jsonl.3", "scripts", "control.77"] {
        assert!(is_state_name(name), "{name}");
    }
    for name in ["spools", "metrics.jsonl", ".spool", "my-audit"] {
        assert!(!is_state_name(name), "{name}");
    }
}

#[test]
fn a_path_that_cannot_be_a_folder_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink("loop", at("loop")).unwrap();
    let wrong = [
        (at("file"), "is not a folder"),
        (at("file/state"), "leads through something that is not"),
        (at(&"x".repeat(256)), "is too long"),
        (at("loop/state"), "leads through too many links"),
    ];
    for (path, why) in wrong {
        let refused = StateFolder::at(&path).check().unwrap_err();
        assert!(refused.why.contains(why) && refused.remedy == "--state DIR", "{refused}");
    }
    assert_eq!(StateFolder::at(at("none/state")).check(), Ok(()), "it would be made");
}
