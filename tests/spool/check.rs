//! `infiniservice spool` on files that an agent would refuse, or that must not be shown unescaped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use infiniservice::internals::spool::{MessageKind, NAMES, State, open};
use rustix::fs::{Access, access};
use tempfile::TempDir;

use super::rig::{NOW, message, settings};

const SIZE: u64 = 4 << 20;

/// A state folder with a spool of one event.
fn folder(event: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    let (mut spool, opened) = open(&state, &settings(SIZE), NOW);
    assert_eq!(opened.trouble, None);
    let line = serde_json::json!({ "type": "agent_event", "message": event });
    spool.put(message(MessageKind::Event, format!("{line}\n")), 0, NOW);
    spool.flush(NOW);
    (folder, state)
}

/// The exit code, standard output and standard error.
fn spool(what: &str, state: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    let output = command.args(["spool", what, "--state"]).arg(state).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Both commands report `why` and still show the content; and the agent behaves as they report.
fn is_reported(state: &Path, why: &str) {
    let before = fs::metadata(state.join(NAMES.name)).unwrap();
    let (code, out, _) = spool("check", state);
    assert!(code == 1 && out.contains("in memory only") && out.contains(why), "{code} {out}");
    assert!(out.ends_with("1 item can be read\n"), "{out}");
    let (code, out, error) = spool("ls", state);
    assert!(code == 0 && out.contains("1 item, "), "{code} {out}");
    assert!(error.contains("in memory only") && error.contains(why), "{error}");
    let after = fs::metadata(state.join(NAMES.name)).unwrap();
    assert_eq!((before.permissions(), before.len()), (after.permissions(), after.len()));
    let (agent, opened) = open(state, &settings(SIZE), NOW);
    assert_eq!(agent.state(), State::Memory);
    assert!(opened.trouble.unwrap().contains(why));
}

#[test]
fn a_file_with_a_second_name_is_not_ok() {
    let (_folder, state) = folder("hello");
    let (code, out, _) = spool("check", &state);
    assert!(code == 0 && out.contains(": ok (1 item in "), "{out}");
    fs::hard_link(state.join(NAMES.name), state.join("second")).unwrap();
    is_reported(&state, "it has another name too");
}

#[test]
fn a_file_of_another_user_is_not_ok() {
    let (_folder, state) = folder("hello");
    let path = state.join(NAMES.name);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    if chown(&path, Some(65_534), Some(65_534)).is_err() {
        return eprintln!("not root: a file cannot be given to another user here");
    }
    is_reported(&state, "it belongs to another user");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_reported() {
    let place = TempDir::new().unwrap();
    let shut = place.path().join("shut");
    fs::create_dir(&shut).unwrap();
    fs::set_permissions(&shut, fs::Permissions::from_mode(0o500)).unwrap();
    // Root writes wherever it likes, but for folders that nobody can.
    let own = fs::canonicalize("/proc/self").unwrap(); // a link is refused as such
    let folders = [shut.as_path(), &own, Path::new("/sys/kernel")];
    let is_shut = |folder: &&Path| access(*folder, Access::WRITE_OK).is_err();
    for folder in folders.into_iter().filter(is_shut) {
        for state in [folder.to_owned(), folder.join("missing")] {
            let (code, out, _) = spool("check", &state);
            assert!(code == 1 && out.contains("the folder cannot be written to"), "{out}");
            assert!(out.contains("there is none, so nothing waits"), "{out}");
        }
    }
}

#[test]
fn what_hides_or_turns_text_is_not_shown_as_it_is() {
    let (_folder, state) = folder("a\u{202e}b\u{200b}c\u{2067}d\u{feff}e");
    let (_, out, _) = spool("ls", &state);
    assert!(out.contains("a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e"), "{out}");
}

#[test]
fn what_another_machine_wrote_is_reported() {
    let (_folder, state) = folder("hello");
    for what in ["ls", "check"] {
        let (code, _, error) = spool(what, &state);
        assert!(code == 0 && error.contains("written on another machine"), "{what}: {error}");
    }
}

#[test]
fn a_folder_that_was_removed_while_an_agent_runs_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("a/state");
    let (mut agent, _) = open(&state, &settings(SIZE), NOW);
    agent.put(message(MessageKind::Response, "one"), 0, NOW);
    agent.flush(NOW);
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    agent.put(message(MessageKind::Response, "two"), 0, NOW);
    agent.flush(NOW);
    assert!(matches!(agent.state(), State::Failing(_)), "it is seen");
    agent.retry(NOW);
    assert_eq!(agent.state(), State::Ok);
    let (code, out, _) = spool("check", &state);
    assert!(code == 0 && out.contains(": ok (2 items in "), "{out}");
    assert!(open(&state, &settings(SIZE), NOW).1.trouble.is_some(), "and locked again");
}

#[test]
fn a_number_behind_the_files_is_no_file() {
    let (folder, state) = folder("hello");
    let file = folder.path().join("agent.toml");
    fs::write(&file, format!("[state]\nfolder = {state:?}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    let output =
        command.args(["spool", "drop", "--pipelines"]).arg(&file).arg("1").output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1 item given up, 0 items left\n");
}
