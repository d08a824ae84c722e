//! Standard output that is full, closed or gone, and a terminal: what every verb does with it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

const SECRET: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// Clears the screen, turns text round, breaks a line, and shows nothing.
const HOSTILE: &str = r"a\u001b[2J\u009b\u202e\u2028\u200bz";

const AGENT: &str = env!("CARGO_BIN_EXE_infiniservice");
const HOST: &str = env!("CARGO_BIN_EXE_infiniservice-host");

/// `arguments` of the agent's program, or of the host's where the first word is "host".
fn program(arguments: &[&str]) -> Command {
    let (program, arguments) = match arguments {
        ["host", rest @ ..] => (HOST, rest),
        arguments => (AGENT, arguments),
    };
    let mut program = Command::new(program);
    program.args(arguments).env("INFINISERVICE_SHARED_SECRET", SECRET).stdin(Stdio::null());
    program
}

/// Answers the first line that comes with `answer`, which gets that line.
fn answers(path: &Path, answer: impl FnOnce(&str) -> String + Send + 'static) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(peer.try_clone().unwrap()).read_line(&mut line).unwrap();
        writeln!(peer, "{}", answer(&line)).unwrap();
    })
}

/// A guest's answer to a signed command, which says something hostile everywhere.
fn guest(line: &str) -> String {
    let signed: serde_json::Value = serde_json::from_str(line).unwrap();
    let payload = signed["payload"].as_str().unwrap();
    let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
    let id = &payload["id"];
    format!(
        r#"{{"type":"response","id":{id},"success":false,"exit_code":3,"stdout":"{HOSTILE}\n","stderr":"{HOSTILE}","error":"{HOSTILE}","data":{{"{HOSTILE}":"{HOSTILE}"}}}}"#
    )
}

#[test]
fn a_full_standard_output_is_exit_74_for_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_str().unwrap();
    let message = folder.path().join("message.json");
    std::fs::write(
        &message,
        r#"{"type":"SafeCommand","id":"a","command_type":{"action":"OsInfo"}}"#,
    )
    .unwrap();
    let socket = folder.path().join("vm.sock");
    let (message, vm) = (message.to_str().unwrap(), socket.to_str().unwrap());
    let guest = answers(&socket, guest);
    let agent = answers(&folder.path().join("control.sock"), |_| {
        r#"{"reloaded":{"added":[],"changed":["lab"],"removed":[],"unchanged":[],"late":[],"settings":[],"wrong":[]}}"#.to_owned()
    });
    let file = "built-in:metrics.toml";
    let cases: [&[&str]; 12] = [
        &["--help"],
        &["--version"],
        &["graph", file],
        &["validate", file],
        &["bench", "--for", "20ms"],
        &["explain", message],
        &["host", "--version"],
        &["host", "help"],
        &["host", vm, "send", "OsInfo"],
        &["run", "--pipelines", file, "--port", "stdio"],
        &["reload", "--state", state],
        &["spool", "check", "--state", "/nowhere"],
    ];
    for arguments in cases {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        // Closed for writing: what is written there is an error, too.
        let unwritable = File::open("/dev/null").unwrap();
        let once = matches!(arguments[0], "reload") || arguments.contains(&"send");
        let outputs = if once { vec![full] } else { vec![full, unwritable] };
        for stdout in outputs {
            let Output { status, stderr, .. } =
                program(arguments).stdout(stdout).stderr(Stdio::piped()).output().unwrap();
            let err = String::from_utf8(stderr).unwrap();
            assert_eq!(status.code(), Some(74), "{arguments:?}: {err}");
            assert!(err.contains("cannot write to standard output"), "{arguments:?}: {err}");
        }
    }
    guest.join().unwrap();
    agent.join().unwrap();
}

#[test]
fn a_reader_that_has_gone_is_no_mistake() {
    for arguments in [&["graph"][..], &["validate", "built-in:metrics.toml"], &["host", "help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = program(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((done.status.code(), done.stderr), (Some(0), Vec::new()), "{arguments:?}");
    }
}

/// What `arguments` show on a terminal of 80 columns, from script(1), which every Debian has.
fn on_a_terminal(program: &str, arguments: &str) -> String {
    let shown = Command::new("script")
        .args(["-qec", &format!("stty cols 80 rows 24; {program} {arguments}"), "/dev/null"])
        .env("INFINISERVICE_SHARED_SECRET", SECRET)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

fn holds_nothing_raw(shown: &str) {
    assert!(shown.contains('z'), "{shown:?}");
    for raw in ['\u{1b}', '\u{9b}', '\u{202e}', '\u{2028}', '\u{200b}'] {
        assert!(!shown.contains(raw), "{raw:?} in {shown:?}");
    }
}

#[test]
fn what_a_guest_says_moves_no_cursor_but_of_who_runs_its_programs() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (verb, is_raw)) in
        [("send OsInfo", false), ("--json send OsInfo", false), ("exec -- ls", true)]
            .iter()
            .enumerate()
    {
        let socket = folder.path().join(number.to_string());
        let said = answers(&socket, guest);
        let shown = on_a_terminal(HOST, &format!("{} {verb}", socket.display()));
        said.join().unwrap();
        match is_raw {
            true => assert!(shown.contains('\u{1b}'), "as it is: {shown:?}"),
            false => holds_nothing_raw(&shown),
        }
    }
}

#[test]
fn what_an_agent_says_to_reload_moves_no_cursor() {
    for answer in [
        format!(r#"{{"refused":"{HOSTILE}"}}"#),
        format!(
            r#"{{"reloaded":{{"added":[],"changed":["{HOSTILE}"],"removed":[],"unchanged":[],"late":[],"settings":[],"wrong":[]}}}}"#
        ),
        format!(
            r#"{{"reloaded":{{"added":[],"changed":[],"removed":[],"unchanged":[],"late":[],"settings":[],"wrong":["{HOSTILE}"]}}}}"#
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let said = answers(&folder.path().join("control.sock"), move |_| answer);
        let shown = on_a_terminal(AGENT, &format!("reload --state {}", folder.path().display()));
        said.join().unwrap();
        holds_nothing_raw(&shown);
    }
}

#[test]
fn a_terminal_gets_readings_that_a_person_can_read_and_a_pipe_gets_lines_of_json() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lab.toml");
    let text = "[[collect]]\nevery = \"1s\"\nfrom = [\"memory\"]\n[batch]\nmax_items = 1\nmax_delay = \"1s\"\n\
                [serialize]\nformat = \"json-lines\"\n[write]\nport = \"org.infinibay.agent\"\n";
    std::fs::write(&file, text).unwrap();
    let run = format!("run --pipelines {} --port stdio 2>/dev/null | head -1", file.display());
    let piped = on_a_terminal(AGENT, &run);
    assert!(piped.starts_with('{'), "{piped}");
    // It ends by itself: what is written to a terminal that somebody reads goes on for ever.
    let run =
        format!("run --pipelines {} --port stdio 2>/dev/null & sleep 5; kill $!", file.display());
    let shown = on_a_terminal(AGENT, &run);
    assert!(shown.contains("Z  mem ") && !shown.contains("{\""), "{shown}");
}
