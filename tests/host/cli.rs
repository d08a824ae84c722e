//! The program as a person runs it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use serde_json::{Value, json};

use super::peer::{SECRET, Socket, host, run};
use super::support::Running;
use super::support::flows::{WHOLE, metrics};

const METRICS: &str = r#"{"type":"metrics","timestamp":"2026-07-14T10:00:05.000Z","data":{"system":{"cpu":{"usage_percent":12.5,"cores_usage":[10,15]},"memory":{"total_kb":8388608,"used_kb":4194304},"uptime_seconds":3600}}}"#;

#[tokio::test]
async fn watch_prints_a_line_for_each_reading_of_a_real_agent() {
    let list = r#"{ processes = { keep = 5, by = "memory" } }"#;
    let fast = metrics("100ms", &format!("{WHOLE}, {list}"));
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (dir.path().join("fast.toml"), dir.path().join("agent.sock"));
    std::fs::write(&file, fast).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_infiniservice"))
        .args(["run", "--pipelines"])
        .arg(&file)
        .arg("--port")
        .arg(format!("unix:{}", socket.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _agent = Running(agent);
    let seen = host(&socket, &["--listen", "watch", "--count", "3"], "").await;
    assert_eq!(seen.code, 0, "{}", seen.err);
    let told = format!("infiniservice run --port unix:{}", socket.display());
    assert!(seen.err.contains(&told), "{}", seen.err);
    let lines: Vec<&str> = seen.out.lines().collect();
    assert_eq!(lines.len(), 4, "a heading and three readings: {}", seen.out);
    assert!(lines[0].starts_with("time UTC "), "{}", lines[0]);
    let total = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total: f64 = total.split_whitespace().nth(1).unwrap().parse().unwrap();
    let total = total / (1 << 20) as f64;
    let shown = if total < 99.95 { format!("/{total:.1} GiB") } else { format!("/{total:.0} GiB") };
    for line in &lines[1..] {
        assert!(line.contains(&shown), "memory as the kernel says it: {shown} in {line}");
        assert!(line.as_bytes()[2] == b':' && line.contains('%'), "{line}");
    }
    assert!(!socket.exists(), "the socket goes with the program");

    let seen = host(&socket, &["--listen", "--json", "watch", "--count", "1"], "").await;
    let line: Value = serde_json::from_str(&seen.out).unwrap();
    assert_eq!(line["type"], "metrics");
}

#[tokio::test]
async fn send_writes_the_action_as_todays_host_does_and_prints_the_answer() {
    let socket = Socket::bind();
    let path = socket.path();
    let asked = ["send", "ServiceControl", "service=ssh", "operation=status"];
    let (done, ()) = tokio::join!(host(&path, &asked, ""), async {
        let mut guest = socket.accept().await;
        guest.say("").await;
        guest.say(METRICS).await;
        let heard = guest.hear().await;
        assert_eq!(heard.body["type"], "SafeCommand");
        let action = json!({
            "action": "ServiceControl",
            "params": { "service": "ssh", "operation": "status" }
        });
        assert_eq!(heard.body["command_type"], action);
        assert_eq!((&heard.body["params"], &heard.body["timeout"]), (&Value::Null, &json!(30)));
        guest.answer(&heard, r#""success":true,"data":{"name":"ssh","status":"running"}"#).await;
        assert_eq!(guest.rest().await, "", "one line, and no more");
    });
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(done.out, "name:   ssh\nstatus: running\n");
}

#[tokio::test]
async fn an_action_that_is_not_known_is_sent_by_force_only() {
    let socket = Socket::bind();
    let refused = host(&socket.path(), &["send", "ServiceLst"], "").await;
    assert_eq!(refused.code, 78);
    assert!(refused.err.contains("did you mean ServiceList?"), "{}", refused.err);
    let path = socket.path();
    let (done, ()) = tokio::join!(host(&path, &["send", "ServiceLst", "--force"], ""), async {
        let mut guest = socket.accept().await;
        let heard = guest.hear().await;
        assert_eq!(heard.body["command_type"], json!({ "action": "ServiceLst" }));
        guest.answer(&heard, r#""success":true"#).await;
    });
    assert_eq!((done.code, done.out.as_str()), (0, "done\n"));
}

#[tokio::test]
async fn help_shows_the_parameters_of_an_action_without_a_guest() {
    for (asked, code, says) in [
        (&["help", "ServiceControl"][..], 0, "operation=  needed; text"),
        (&["help"], 0, "ServiceControl"),
        (&["help", "PackageInstall"], 0, "send PackageInstall package=…"),
        (&["help", "watch"], 0, "Usage: infiniservice-host <SOCKET> watch [OPTIONS]"),
        (&["watch", "--help"], 0, "Usage: infiniservice-host <SOCKET> watch [OPTIONS]"),
        (&["ls", "--help"], 0, "Print one JSON object for each guest"),
        (&["help", "ServiceContrl"], 78, "did you mean ServiceControl?"),
        (&["watch"], 78, "name the socket of a guest"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
        command.args(asked);
        let done = run(command, "").await;
        assert_eq!(done.code, code, "{asked:?}: {}", done.err);
        assert!(format!("{}{}", done.out, done.err).contains(says), "{asked:?}: {}", done.out);
    }
}

#[tokio::test]
async fn options_for_a_guest_are_shown_with_the_commands_that_have_one() {
    for (command, has_guest) in [("exec", true), ("relay", false), ("ls", false), ("top", false)] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
        program.args([command, "--help"]);
        let done = run(program, "").await;
        assert_eq!(done.code, 0, "{command}: {}", done.err);
        assert_eq!(done.out.contains("--secret"), has_guest, "{command}: {}", done.out);
    }
    for asked in
        [["relay", "--config=x", "--secret=env:X"], ["ls", "--metrics=127.0.0.1:1", "--listen"]]
    {
        let mut program = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
        program.args(asked);
        let done = run(program, "").await;
        assert_eq!(done.code, 78, "{asked:?}: {}", done.out);
        assert!(done.err.contains("the options for a guest"), "{asked:?}: {}", done.err);
    }
}

#[tokio::test]
async fn the_agents_program_says_in_a_line_where_the_host_is() {
    for asked in [&["host"][..], &["host", "/run/vm.sock", "--json", "watch"], &["host", "--help"]]
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice"));
        command.args(asked);
        let done = run(command, "").await;
        assert_eq!((done.code, done.out.as_str()), (78, ""), "{asked:?}");
        assert!(done.err.contains("run `infiniservice-host`"), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "{}", done.err);
    }
}

#[tokio::test]
async fn a_refusal_is_shown_with_its_reason_and_exit_code() {
    let socket = Socket::bind();
    let path = socket.path();
    for (answer, code, err) in [
        (
            r#""success":false,"error":"no package nano\u001b[31m""#,
            1,
            "failed: no package nano\u{fffd}[31m",
        ),
        (
            r#""success":false,"exit_code":100,"stderr":"E: lock\n","error":"E: lock""#,
            100,
            "E: lock\n",
        ),
        (
            r#""success":false,"exit_code":124,"error":"it took longer than 30 s""#,
            124,
            "it took longer",
        ),
        (
            r#""success":false,"exit_code":124,"stderr":"its time was over","error":"its time was over""#,
            124,
            "failed: its time was over\n",
        ),
        (
            r#""success":false,"exit_code":3,"stderr":"it ended with exit code 3","error":"it ended with exit code 3""#,
            3,
            "failed: it ended with exit code 3\n",
        ),
        (r#""success":false"#, 1, "does not say why"),
    ] {
        let asked = ["send", "PackageInstall", "package=nano"];
        let (done, ()) = tokio::join!(host(&path, &asked, ""), async {
            let mut guest = socket.accept().await;
            let heard = guest.hear().await;
            guest.answer(&heard, answer).await;
        });
        assert_eq!(done.code, code, "{answer}");
        assert!(done.err.contains(err), "{}", done.err);
        assert_eq!(done.err.lines().count(), 1, "said once: {}", done.err);
    }
}

#[tokio::test]
async fn exec_hands_words_over_unharmed_and_ends_as_the_program_did() {
    let socket = Socket::bind();
    let path = socket.path();
    let asked = [
        "exec",
        "--shell",
        "bash",
        "--run-as",
        "ann",
        "--dir",
        "/srv",
        "--env",
        "A=b c",
        "--timeout",
        "90s",
        "--",
        "echo",
        "it's",
        "$HOME",
        "--json",
    ];
    let (done, ()) = tokio::join!(host(&path, &asked, ""), async {
        let mut guest = socket.accept().await;
        let heard = guest.hear().await;
        let mut body = heard.body.clone();
        body["id"] = "x".into();
        let expected = json!({
            "type": "UnsafeCommand", "id": "x", "raw_command": r"echo 'it'\''s' '$HOME' --json",
            "shell": "BASH", "working_dir": "/srv", "env_vars": { "A": "b c" }, "run_as": "ann",
            "timeout": 90
        });
        assert_eq!(body, expected);
        let said = r#""success":false,"exit_code":7,"stdout":"out\u001b[1m","stderr":"err\n""#;
        guest.answer(&heard, said).await;
    });
    assert_eq!(done.code, 7);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\u{1b}[1m", "err\n"), "as they are");
}

#[tokio::test]
async fn a_script_is_sent_as_a_pending_one_and_its_end_is_this_ones() {
    let socket = Socket::bind();
    let path = socket.path();
    let file = socket.dir.path().join("setup.sh");
    std::fs::write(&file, "echo \"hé\"\n").unwrap();
    let asked = ["script", file.to_str().unwrap(), "--type", "FIRST_BOOT", "--input", "N=1"];
    let (done, ()) = tokio::join!(host(&path, &asked, ""), async {
        let mut guest = socket.accept().await;
        let heard = guest.hear().await.body;
        assert_eq!(heard["type"], "pending_scripts_response");
        let [script] = &heard["scripts"].as_array().unwrap()[..] else { panic!("{heard}") };
        assert_eq!(script["script_content"], "echo \"hé\"\n");
        assert_eq!(script["script_name"], "setup.sh");
        assert_eq!(
            (&script["shell"], &script["execution_type"]),
            (&json!("BASH"), &json!("FIRST_BOOT"))
        );
        assert_eq!(
            (&script["input_values"], &script["timeout_seconds"]),
            (&json!({ "N": "1" }), &json!(600))
        );
        guest.say(r#"{"type":"script_completion","execution_id":"another","exit_code":0}"#).await;
        let id = &script["execution_id"];
        guest.say(format!(r#"{{"type":"script_completion","execution_id":{id},"exit_code":3,"stdout":"half\n","log_file":"/var/log/s"}}"#)).await;
    });
    assert_eq!((done.code, done.out.as_str()), (3, "half\n"));
    assert!(done.err.contains("exit code 3; more is in /var/log/s"), "{}", done.err);
}

#[tokio::test]
async fn raw_signs_lines_as_they_are_and_ends_when_all_are_answered() {
    let socket = Socket::bind();
    let path = socket.path();
    let command = r#"{"type":"SafeCommand","id":"a","command_type":{"action":"No such"} }"#;
    let alive = r#"{"type":"keep_alive_request","sequence_number":40}"#;
    let input = format!("{command}\n\nnot json at all\r\n{alive}");
    let (done, ()) = tokio::join!(host(&path, &["raw"], &input), async {
        let mut guest = socket.accept().await;
        let first = guest.hear().await;
        assert_eq!(first.text, command, "not a byte is changed");
        assert_eq!(guest.hear().await.text, "not json at all");
        assert_eq!(guest.hear().await.text, alive);
        guest.say(METRICS).await;
        guest.say(r#"{"type":"keep_alive","sequence_number":40}"#).await;
        guest.answer(&first, r#""success":false"#).await;
        guest.rest().await;
    });
    assert_eq!((done.code, done.err.as_str()), (0, ""));
    assert_eq!(
        done.out,
        "{\"type\":\"keep_alive\",\"sequence_number\":40}\n\
         {\"type\":\"response\",\"id\":\"a\",\"success\":false}\n"
    );

    let unsigned = ["raw", "--unsigned", "--timeout", "50ms"];
    let (done, ()) = tokio::join!(host(&path, &unsigned, command), async {
        let mut guest = socket.accept().await;
        assert_eq!(guest.line().await.as_deref(), Some(command));
        guest.rest().await;
    });
    assert_eq!(done.code, 124);
    assert!(done.err.contains("no answer to 1 of the payloads within 50ms"), "{}", done.err);
}

#[tokio::test]
async fn no_answer_is_exit_code_124_and_a_guest_that_leaves_is_69() {
    let socket = Socket::bind();
    let path = socket.path();
    let asked = ["send", "SystemInfo", "--timeout", "10ms"];
    let (done, ()) = tokio::join!(host(&path, &asked, ""), async {
        let mut guest = socket.accept().await;
        let heard = guest.hear().await;
        assert_eq!(heard.body["timeout"], 0, "whole seconds, as today's host writes them");
        guest.rest().await;
    });
    assert_eq!((done.code, done.out.as_str()), (124, ""));
    assert!(done.err.contains("no answer within 10ms: nothing at all came"), "{}", done.err);

    let (done, ()) = tokio::join!(host(&path, &["send", "SystemInfo"], ""), async {
        socket.accept().await.hear().await;
    });
    assert_eq!(done.code, 69);
    assert!(done.err.contains("closed the connection"), "{}", done.err);
}

#[tokio::test]
async fn with_wait_clock_nothing_is_sent_before_the_guests_clock_is_known() {
    let socket = Socket::bind();
    let path = socket.path();
    let asked = ["--wait-clock", "send", "SystemInfo", "--json"];
    let (done, ()) = tokio::join!(host(&path, &asked, ""), async {
        let mut guest = socket.accept().await;
        guest.say(METRICS).await;
        let heard = guest.hear().await;
        // 2026-07-14T10:00:05Z by the guest's clock, whatever it is here.
        assert!(heard.ts.abs_diff(1_784_023_205_000) < 20_000, "{}", heard.ts);
        guest.answer(&heard, r#""success":true"#).await;
    });
    assert_eq!(done.code, 0);
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap()["success"], true);
}

#[tokio::test]
async fn wrong_arguments_are_reported_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("no.sock");
    let empty = dir.path().join("empty.sh");
    std::fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (asked, code, said) in [
        (&["send", "ServiceControl", "service=x"][..], 78, "needs operation=…"),
        (&["send", "OsInfo", "x"], 78, "write it as key=value"),
        (&["send"], 78, "<ACTION>"),
        (&["send", ""], 78, "the action is empty; name one, as in"),
        (&["send", " "], 78, "the action is empty; name one, as in"),
        (&["exec", "--env", "=x", "--", "id"], 78, "write it as NAME=VALUE"),
        (&["exec", "id"], 78, "-- <CMD>"),
        (&["script", "/no/such/file"], 78, "cannot read /no/such/file"),
        (&["script", empty], 78, "is empty"),
        (&["script", empty, "--type", "NEVER"], 78, "possible values: FIRST_BOOT"),
        (&["watch", "--count", "0"], 78, "--count"),
        (&["--timeout", "soon", "watch"], 78, "--timeout"),
        (&["--secret", "env:NO_SUCH_VARIABLE", "watch"], 78, "NO_SUCH_VARIABLE is not set"),
        (&["--secret", SECRET, "send", "OsInfo"], 78, "env:NAME, file:/ABSOLUTE/PATH"),
        (&["send", "OsInfo"], 69, "there is no socket"),
        (&["watch"], 69, "there is no socket"),
        (&["--listen", "--timeout", "10ms", "watch"], 124, "no metrics came within 10ms"),
        (&["--listen", "--timeout", "10ms", "send", "OsInfo"], 124, "no agent has connected"),
    ] {
        let done = host(&nowhere, asked, "").await;
        assert_eq!(done.code, code, "{asked:?}: {}", done.err);
        assert!(done.err.contains(said), "{asked:?}: {}", done.err);
        assert!(!done.err.contains(SECRET) && done.out.is_empty(), "{asked:?}: {}", done.out);
    }
    let mut without = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    without.arg(&nowhere).args(["send", "OsInfo"]);
    let done = run(
        {
            without.env_remove("INFINISERVICE_SHARED_SECRET");
            without
        },
        "",
    )
    .await;
    assert_eq!(done.code, 78);
    assert!(done.err.contains("INFINISERVICE_SHARED_SECRET"), "{}", done.err);
}

#[tokio::test]
async fn ctrl_c_ends_watch_well_and_anything_else_with_130() {
    let socket = Socket::bind();
    for (asked, code) in [(&["watch"][..], 0), (&["raw", "--metrics"], 130)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
        command.arg(socket.path()).args(asked);
        command.env("INFINISERVICE_SHARED_SECRET", SECRET);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = pipes.spawn().unwrap();
        let mut guest = socket.accept().await;
        guest.say(METRICS).await;
        let ended = tokio::task::spawn_blocking(move || {
            let _input = child.stdin.take(); // stays open
            let mut out = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            assert!(!line.is_empty());
            kill_process(Pid::from_child(&child), Signal::INT).unwrap();
            child.wait().unwrap()
        });
        assert_eq!(ended.await.unwrap().code(), Some(code), "{asked:?}");
    }
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let socket = Socket::bind();
    let mut command = Command::new(env!("CARGO_BIN_EXE_infiniservice-host"));
    command.arg(socket.path()).arg("watch").stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut guest = socket.accept().await;
    guest.say(METRICS).await;
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let ended = ended.await.unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&ended.stderr).contains("print"));
}
