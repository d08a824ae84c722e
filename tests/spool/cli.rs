//! `infiniservice spool` on real files, with the real program.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use infiniservice::internals::record_file::File;
use infiniservice::internals::spool::{MessageKind, NAMES, Spool, State, open};
use tempfile::TempDir;

use super::rig::{message, settings, text};

const SIZE: u64 = 4 << 20;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A state folder with a spool of four items.
fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("a/state");
    let (mut spool, opened) = open(&state, &settings(SIZE), now_ms());
    assert_eq!(opened.trouble, None);
    let ago = now_ms() - 90_000;
    let response = r#"{"type":"response","id":"c-1","success":true,"stdout":"x"}"#;
    spool.put(message(MessageKind::Response, format!("{response}\n")), 0, ago);
    let completion = r#"{"type":"script_completion","execution_id":"e-2","exit_code":0}"#;
    spool.put(message(MessageKind::Completion, format!("{completion}\n")), 0, ago);
    let event = "{\"type\":\"agent_event\",\"message\":\"the \\u001b[31mclock went back\"}\n";
    spool.put(message(MessageKind::Event, event), 0, ago);
    spool.put(message(MessageKind::Metrics, text(4, 300)), 0, ago);
    spool.flush(ago);
    (folder, state)
}

/// The exit code, standard output and standard error.
fn command(state: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    let output = command.arg("spool").args(arguments).arg("--state").arg(state).output().unwrap();
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap().replace(&state.display().to_string(), "STATE")
    };
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn ls_shows_a_line_for_each_item() {
    let (_folder, state) = folder();
    let (code, out, _) = command(&state, &["ls"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(code, 0);
    let shows = |line: usize, begin: &str, end: &str| {
        let words = lines[line].split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.starts_with(begin) && words.contains(" B 1m 3") && words.contains(end),
            "{words}"
        );
    };
    shows(0, "1 response 59 B", "s c-1");
    shows(1, "2 completion 64 B", "s e-2");
    shows(2, "3 event 65 B", "s the \u{fffd}[31mclock went back");
    shows(3, "4 metrics 300 B", "s 4 eeee");
    assert!(lines[3].ends_with('…') && !out.contains('\u{1b}'));
    assert_eq!(lines[4..], ["4 items, 488 bytes"]);

    let (code, out, _) = command(&state, &["ls", "--json"]);
    let rows: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, rows.len()), (0, 4));
    assert_eq!(
        (&rows[0]["seq"], &rows[0]["id"], &rows[0]["bytes"]),
        (&1.into(), &"c-1".into(), &59.into())
    );
    assert_eq!(rows[2]["kind"], "event");
}

#[test]
fn a_spool_that_is_not_there_is_no_mistake() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("none");
    let none = "nothing waits for the host\n";
    assert_eq!(command(&state, &["ls"]), (0, none.into(), String::new()));
    assert_eq!(command(&state, &["ls", "--json"]), (0, String::new(), String::new()));
    assert_eq!(
        command(&state, &["check"]),
        (0, "STATE/spool: there is none, so nothing waits on disk\n".into(), String::new())
    );
    assert_eq!(command(&state, &["drop", "--all"]), (0, none.into(), String::new()));
    let (code, _, error) = command(&state, &["drop", "7"]);
    assert_eq!(code, 78);
    assert_eq!(error, "infiniservice: there is no spool, so no item has that number\n");
    assert!(!state.exists(), "nor made by looking");
}

#[test]
fn check_says_what_is_wrong_and_what_would_be_kept() {
    let (_folder, state) = folder();
    let path = state.join(NAMES.name);
    let whole = fs::read(&path).unwrap();
    let length = whole.len();
    let (code, out, _) = command(&state, &["check"]);
    assert_eq!((code, out), (0, format!("STATE/spool: ok (4 items in {length} bytes)\n")));

    let mut bytes = whole.clone();
    let at = bytes.windows(3).position(|part| part == b"c-1").unwrap();
    bytes[at] = b'C';
    bytes.truncate(length - 10);
    fs::write(&path, &bytes).unwrap();
    let (code, out, _) = command(&state, &["check"]);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(code, 1);
    assert!(lines[0].ends_with("response 1 is damaged (99 bytes are of no use)"), "{out}");
    assert!(lines[1].ends_with("a record is cut short (330 bytes are of no use)"), "{out}");
    assert_eq!(lines[2..], ["2 items would be kept"]);
    assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was changed");
    let (code, _, error) = command(&state, &["ls"]);
    assert_eq!(code, 0);
    assert!(error.contains("damaged; see `infiniservice spool check`"), "{error}");

    fs::write(&path, "something else").unwrap();
    let (code, out, _) = command(&state, &["check"]);
    assert_eq!(code, 1);
    assert!(out.contains("it is no spool, or one of another version"), "{out}");
}

#[test]
fn drop_gives_up_what_is_named_or_all_of_it_and_only_while_no_agent_runs() {
    let (_folder, state) = folder();
    let (code, _, error) = command(&state, &["drop", "2", "9"]);
    assert_eq!(code, 78);
    assert_eq!(error, "infiniservice: no item has the number 9; nothing was given up\n");
    let done = |said: &str| (0, format!("{said}\n"), String::new());
    assert_eq!(command(&state, &["drop", "2", "4"]), done("2 items given up, 2 items left"));

    let agent = open(&state, &settings(SIZE), now_ms()).0;
    assert_eq!(agent.waiting().iter().map(|item| item.seq).collect::<Vec<_>>(), [1, 3]);
    let (code, _, error) = command(&state, &["drop", "--all"]);
    assert_eq!(code, 78);
    assert!(error.contains("an agent is running with STATE; stop it first"), "{error}");
    assert_eq!(command(&state, &["ls"]).1.lines().count(), 3, "looking is always possible");
    drop(agent);
    assert_eq!(command(&state, &["drop", "--all"]), done("2 items given up, 0 items left"));
    assert_eq!(command(&state, &["ls"]).1, "nothing waits for the host\n");
    assert_eq!(command(&state, &["check"]).0, 0);
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing else is left");
    let (mut agent, opened) = open(&state, &settings(SIZE), now_ms());
    assert!(!opened.cloned && opened.corruptions.is_empty());
    agent.put(message(MessageKind::Event, "next"), 0, now_ms());
    assert_eq!(agent.waiting()[0].seq, 5, "numbers go on");
    assert_eq!(command(&state, &["drop"]).0, 78, "nothing named");
}

#[test]
fn all_can_be_dropped_where_there_is_no_room_for_a_new_file() {
    let (_folder, state) = folder();
    // What stands in the new file's place cannot be removed, as little as a full disk takes one.
    fs::create_dir(state.join("spool.new")).unwrap();
    fs::write(state.join(NAMES.aside), "what an agent could not read").unwrap();
    let before = fs::read(state.join(NAMES.name)).unwrap();
    let (code, _, error) = command(&state, &["drop", "2"]);
    assert_eq!(code, 78);
    let (says, helps) = ("cannot be written without them: ", "(`spool drop --all` takes no space)");
    assert!(error.contains(says) && error.contains(helps), "{error}");
    assert_eq!(fs::read(state.join(NAMES.name)).unwrap(), before);
    assert!(command(&state, &["check"]).1.contains("is kept as spool.damaged"));

    let (code, out, error) = command(&state, &["drop", "--all"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(out, "4 items given up, 0 items left; spool.damaged is removed\n");
    assert!(!fs::read(state.join(NAMES.name)).unwrap().windows(3).any(|part| part == b"c-1"));
    assert!(!state.join(NAMES.aside).exists());
    fs::remove_dir(state.join("spool.new")).unwrap();
    let (mut agent, opened) = open(&state, &settings(SIZE), now_ms());
    assert_eq!((opened.corruptions, opened.cloned), (vec![], false));
    agent.put(message(MessageKind::Event, "next"), 0, now_ms());
    assert_eq!(agent.waiting()[0].seq, 5, "numbers go on");
}

#[test]
fn the_state_folder_is_found_in_the_agents_files() {
    let (folder, state) = folder();
    let file = folder.path().join("agent.toml");
    fs::write(&file, format!("[state]\nfolder = {state:?}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    let output = command.args(["spool", "check", "--pipelines"]).arg(&file).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok (4 items"));
}

#[test]
fn only_the_owner_reads_it_and_nothing_else_is_taken_for_it() {
    let (folder, state) = folder();
    let path = state.join(NAMES.name);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o077, 0);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&state, &settings(SIZE), now_ms()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let other = folder.path().join("other");
    fs::rename(&path, &other).unwrap();
    symlink(&other, &path).unwrap();
    let before = fs::read(&other).unwrap();
    let (spool, opened) = open(&state, &settings(SIZE), now_ms());
    assert_eq!(spool.state(), State::Memory);
    assert!(opened.trouble.unwrap().contains("it is a symbolic link"));
    assert_eq!(fs::read(&other).unwrap(), before);
    let (code, _, error) = command(&state, &["ls"]);
    assert_eq!((code, error.contains("it is a symbolic link")), (78, true), "{error}");
    fs::remove_file(&path).unwrap();
    fs::hard_link(&other, &path).unwrap();
    assert!(open(&state, &settings(SIZE), now_ms()).1.trouble.unwrap().contains("another name"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(open(&state, &settings(SIZE), now_ms()).1.trouble.is_some());
    assert!(open(Path::new("/dev/null/state"), &settings(SIZE), now_ms()).1.trouble.is_some());
}

#[test]
fn a_second_agent_keeps_in_memory_and_leaves_the_file_alone() {
    let (_folder, state) = folder();
    let (_first, _) = open(&state, &settings(SIZE), now_ms());
    let before = fs::read(state.join(NAMES.name)).unwrap();
    let (mut second, opened) = open(&state, &settings(SIZE), now_ms());
    assert!(opened.trouble.unwrap().contains("another agent has it"));
    second.put(message(MessageKind::Event, "x"), 0, now_ms());
    second.flush(now_ms());
    assert_eq!(fs::read(state.join(NAMES.name)).unwrap(), before);
    assert!(File::is_in_use(&state));
}

#[test]
fn what_the_kernel_has_survives_the_process() {
    // As after `kill -9`: nothing is closed in order, nothing was synced.
    let (_folder, state) = folder();
    let (mut spool, opened) = open(&state, &settings(SIZE), now_ms());
    assert_eq!(opened.waiting, 4);
    for number in 5..100 {
        spool.put(message(MessageKind::Response, text(number, 50_000)), 0, now_ms());
        spool.flush(now_ms());
    }
    let waiting = spool.waiting().len();
    let found = infiniservice::internals::spool::scan(
        &mut File::open_read_only(NAMES, &state).unwrap().unwrap(),
        u64::MAX,
    );
    assert_eq!((found.waiting.len(), found.corruptions.len()), (waiting, 0));
    let length = fs::metadata(state.join(NAMES.name)).unwrap().len();
    assert!(length <= SIZE, "{length}");
    let _: Spool<File> = spool;
}
