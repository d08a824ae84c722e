//! `infiniservice explain`, the program itself: what it says of a message and what it exits with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use infiniservice::wire::envelope::seal;
use tempfile::TempDir;

const COMMANDS: &str = r#"[receive]
[verify]
secret = "env:EXPLAIN_SECRET"
[enforce]
allow = ["*"]
deny = [
    { action = "PackageRemove", package = "systemd*" },
    { action = "UnsafeCommand", path = "/root*" },
    { action = "ValidateSystemHealth" },
]
raw_shell = true
scripts = true
[execute]
timeout = "10m"
"#;

/// What is said on both streams, and the exit code.
fn explain(message: &[u8], secret: Option<&str>) -> (String, i32) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("commands.toml");
    std::fs::write(&file, COMMANDS).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
    command.args(["explain", "-", "--pipelines"]).arg(&file).env_remove("EXPLAIN_SECRET");
    if let Some(secret) = secret {
        command.env("EXPLAIN_SECRET", secret);
    }
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().unwrap();
    child.stdin.take().unwrap().write_all(message).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text =
        String::from_utf8(text).unwrap().replace(&format!("{}/", folder.path().display()), "");
    (text, output.status.code().unwrap())
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn a_command_line_is_told_exactly_as_it_would_be_run() {
    let message =
        br#"{"type":"UnsafeCommand","id":"u1","raw_command":"echo \"$A\" | wc","shell":"BASH",
        "timeout":1200,"working_dir":"/tmp","env_vars":{"A":"b c"}}"#;
    let (text, code) = explain(message, None);
    let bash = ["/usr/local/bin", "/usr/bin", "/bin"].map(|folder| format!("{folder}/bash"));
    let bash = bash.iter().find(|path| std::path::Path::new(path).exists()).unwrap();
    for line in [
        "signature:   none: this is taken for what was in an envelope",
        "id:          u1",
        "asks for:    UnsafeCommand { shell = \"bash\", path = \"/tmp\", user = \"root\" }",
        "decision:    allowed by commands.toml:5: \"*\"",
        "time:        10m: the most that is granted; it asked for 20m",
        "limits:      5 at once, 64 waiting; 256KiB of each stream kept",
        &format!(
            r#"would run:   ["{bash}", "-c", "eval \"unset INFINISERVICE_COMMAND; $INFINISERVICE_COMMAND\""]"#
        ),
        "environment: A=\"b c\"",
        r#"             INFINISERVICE_COMMAND="echo \"$A\" | wc""#,
        "             LANG=\"C.UTF-8\"",
        "user:        the agent's own",
        "directory:   /tmp",
    ] {
        assert!(text.lines().any(|said| said == line), "{line}\nis not in\n{text}");
    }
    assert_eq!(code, 0);
    // Nothing of the caller's own environment.
    assert!(!text.contains("CARGO"), "{text}");
}

#[test]
fn a_denial_names_its_rule_and_nothing_would_run() {
    let message = br#"{"type":"SafeCommand","id":"p1",
        "command_type":{"action":"PackageRemove","package":"systemd"},"params":null,"timeout":60}"#;
    let (text, code) = explain(message, None);
    let rule = "decision:    denied by commands.toml:7: { action = \"PackageRemove\", package = \"systemd*\" }";
    assert!(text.lines().any(|line| line == rule), "{text}");
    assert!(!text.contains("would"), "{text}");
    assert_eq!(code, 1);

    let message = br#"{"type":"UnsafeCommand","id":"u","raw_command":"true","working_dir":"/root/x","timeout":1}"#;
    let (text, code) = explain(message, None);
    assert!(text.contains("denied by commands.toml:8: { action = \"UnsafeCommand\""), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn an_action_that_runs_no_program_says_what_it_does() {
    let message = br#"{"type":"SafeCommand","id":"k","timeout":5,
        "command_type":{"action":"ProcessKill","pid":4242,"force":true}}"#;
    let (text, code) = explain(message, None);
    assert!(
        text.contains("would do:    sends SIGKILL to process 4242; runs no program\n"),
        "{text}"
    );
    assert!(text.contains("time:        5s, as it asked\n"), "{text}");
    assert_eq!(code, 0);
}

#[test]
fn the_time_that_is_granted_is_told_with_the_one_that_was_asked_for() {
    for (asked, told) in [
        ("5", "5s, as it asked"),
        ("0", "500ms: the least that is granted; it asked for 0s"),
        ("0.25", "500ms: the least that is granted; it asked for 250ms"),
        ("-7", "500ms: the least that is granted; it asked for -7 s"),
        ("601", "10m: the most that is granted; it asked for 10m 1s"),
        ("172800", "10m: the most that is granted; it asked for 2days"),
        ("null", "30s, because it asks for none"),
    ] {
        let message = format!(
            r#"{{"type":"SafeCommand","id":"k","command_type":{{"action":"OsInfo"}},"timeout":{asked}}}"#
        );
        let (text, _) = explain(message.as_bytes(), None);
        assert!(text.contains(&format!("time:        {told}\n")), "{told}\n{text}");
    }
    let script = |id: &str, timeout: &str| {
        format!(r#"{{"execution_id":{id},"script_content":"true","timeout_seconds":{timeout}}}"#)
    };
    let scripts = [
        script("\"\"", "1"),
        script("\"e1\"", "0"),
        script("7", "\"soon\""),
        script("\"e2\"", "9"),
    ];
    let message =
        format!(r#"{{"type":"pending_scripts_response","scripts":[{}]}}"#, scripts.join(","));
    let (text, _) = explain(message.as_bytes(), None);
    let times: Vec<_> = text.lines().filter(|line| line.starts_with("time:")).collect();
    let expected = ["500ms: the least that is granted; it asked for 0s", "9s, as it asked"];
    assert_eq!(times, expected.map(|time| format!("time:        {time}")), "{text}");
}

#[test]
fn an_action_that_was_asked_for_by_another_name_is_told_by_both_and_denied_by_either() {
    let message = br#"{"type":"SafeCommand","id":"c","timeout":5,
        "command_type":{"action":"CleanTemporaryFiles","targets":["temp_files"]}}"#;
    let (text, code) = explain(message, None);
    let asks = "asks for:    CleanTemporaryFiles, which is DiskCleanup { target = \"temp_files\" }";
    assert!(text.lines().any(|line| line == asks), "{text}");
    assert_eq!(code, 0);
    let message = br#"{"type":"SafeCommand","id":"h","timeout":5,
        "command_type":{"action":"ValidateSystemHealth","check_name":"boot_time"}}"#;
    let (text, code) = explain(message, None);
    let rule = "decision:    denied by commands.toml:9: { action = \"ValidateSystemHealth\" }";
    assert!(text.lines().any(|line| line == rule), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn every_script_is_told_and_one_that_is_refused_decides_the_exit_code() {
    let script = |id: &str, shell: &str| {
        format!(
            r#"{{"execution_id":"{id}","script_id":"s","script_name":"{id}","script_content":"echo $X\n",
            "shell":"{shell}","execution_type":"ON_DEMAND","input_values":{{"X":"1"}},"timeout_seconds":600,
            "run_as":null}}"#
        )
    };
    let scripts = |list: &[String]| {
        let list = list.join(",");
        format!(
            r#"{{"type":"pending_scripts_response","timestamp":"2026-01-01T00:00:00Z","scripts":[{list}]}}"#
        )
    };
    let (text, code) =
        explain(scripts(&[script("e1", "SH"), script("e2", "BASH")]).as_bytes(), None);
    assert!(text.contains("id:          e1\n") && text.contains("id:          e2\n"), "{text}");
    assert!(text.contains(r#"/sh", "FILE"]"#) && text.contains(r#"/bash", "FILE"]"#), "{text}");
    assert!(
        text.contains("script:      \"echo $X\\n\"\n") && text.contains(" X=\"1\"\n"),
        "{text}"
    );
    assert_eq!(code, 0, "{text}");

    let (text, code) =
        explain(scripts(&[script("e1", "SH"), script("e2", "COBOL")]).as_bytes(), None);
    assert!(text.contains("refused before any rule is asked: "), "{text}");
    assert_eq!(code, 1);
}

#[test]
fn a_signed_message_is_told_whether_it_is_genuine() {
    let payload =
        r#"{"type":"SafeCommand","id":"s","command_type":{"action":"SystemInfo"},"timeout":30}"#;
    let sealed = seal(b"key", now_ms(), "n", payload);
    let sealed: &[u8] = sealed.as_ref();
    let (text, code) = explain(sealed, Some("key"));
    assert!(text.starts_with("signature:   right\nid:          s\n"), "{text}");
    assert_eq!(code, 0);

    let (text, code) = explain(sealed, Some("another"));
    assert!(text.starts_with("signature:   wrong: it was not signed with this secret"), "{text}");
    assert!(!text.contains("another"));
    assert_eq!(code, 1);

    let (text, code) = explain(sealed, None);
    assert!(
        text.starts_with(
            "signature:   cannot be checked; locked: the variable EXPLAIN_SECRET is not set\n"
        ),
        "{text}"
    );
    assert_eq!(code, 0);

    let old = seal(b"key", 1_700_000_000_000, "n", payload);
    let (text, code) = explain(old.as_ref(), Some("key"));
    assert!(text.starts_with("signature:   right, but too old by now"), "{text}");
    assert_eq!(code, 0);
}

#[test]
fn what_cannot_be_read_is_told_with_exit_code_78() {
    for (message, why) in [
        (&b"not json"[..], "this is no JSON object"),
        (b"", "this is no JSON object"),
        (b"[1]", "this is no JSON object"),
        (br#"{"type":"Hello"}"#, "this is no message that the host sends"),
        (b"{\"type\":\"\xff\"}", "this is no JSON object"),
    ] {
        let (text, code) = explain(message, None);
        assert!(text.contains(why) && code == 78, "{text} {code}");
    }
    let missing = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["explain", "/no/such/file", "--pipelines", "built-in:commands.toml"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(78));
    let without = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["explain", "--pipelines", "built-in:metrics.toml", "-"]) // no value of the one before it
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8(without.stderr).unwrap();
    assert!(told.contains("no file with [receive]"), "{told}");
}

#[test]
fn nothing_in_a_message_moves_the_cursor() {
    for message in [
        &br#"{"type":"UnsafeCommand","id":"1","raw_command":"\u001b[2J","env_vars":{"A\u001b":"\u001b"},"timeout":1}"#[..],
        br#"{"type":"SafeCommand","id":"1","command_type":{"action":"\u001b]0;x"},"timeout":1}"#,
        br#"{"type":"SafeCommand","id":"1","command_type":{"action":"RunHealthCheck","check_name":"\u001b"},"timeout":1}"#,
        br#"{"type":"UnsafeCommand","id":"1","raw_command":"a\u202eb\u200bc","timeout":1}"#,
    ] {
        let (text, code) = explain(message, None);
        assert!(text.contains("id:          1\n") && code < 2, "{text}");
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{200b}']), "{text:?}");
    }
}
