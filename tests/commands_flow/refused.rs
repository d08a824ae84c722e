//! What is not done, and how that is told: unsigned, locked, denied, or not to be written down.

use infiniservice::host::{action, payload, uuid};
use infiniservice::wire::envelope;
use rustix::process::Signal;
use serde_json::json;

use super::rig::{Lab, ask, seen};
use super::support::flows::SECRET;
use super::support::{PATIENCE, raw};

#[tokio::test]
async fn what_the_host_did_not_sign_is_not_done_and_the_rest_still_is() {
    let lab = Lab::new().await;
    let mut agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let touched = lab.folder.path().join("touched");
    let command = raw(&format!("echo x >> {}", touched.display()));
    let payload = payload::unsafe_command(&uuid().unwrap(), &command, PATIENCE);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let forged = envelope::seal(b"another key", now, "n1", &payload);
    let stale = envelope::seal(SECRET.as_bytes(), now - 301_000, "n2", &payload);
    let cut = &envelope::seal(SECRET.as_bytes(), now, "n3", &payload)[..200];
    for line in [payload.as_str(), &forged, &stale, cut, "{", "\u{fffd}", ""] {
        host.send_unsigned(line).await.unwrap();
    }
    let good = envelope::seal(SECRET.as_bytes(), now, "n4", &payload);
    for _ in 0..3 {
        host.send_unsigned(good.clone()).await.unwrap(); // and then twice replayed
    }
    assert!(host.command(&ask("SystemInfo"), PATIENCE).await.unwrap().success);
    assert_eq!(seen(&touched).await, "x\n", "the good one ran, once");
    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    assert!(!log.contains("echo x") && !log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn without_a_secret_metrics_flow_and_commands_are_dropped_and_that_is_said_once() {
    let lab = Lab::new().await;
    let mut agent = lab.start(None);
    let host = lab.host().await;
    let touched = lab.folder.path().join("touched");
    let command = raw(&format!("echo x >> {}", touched.display()));
    for _ in 0..3 {
        let id = uuid().unwrap();
        host.send(payload::unsafe_command(&id, &command, PATIENCE)).await.unwrap();
    }
    let mut metrics = 0;
    while metrics < 4 {
        metrics += u32::from(host.next().await.unwrap().body["type"] == "metrics");
    }
    assert!(!touched.exists());
    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    assert_eq!(log.matches("locked: the host sent a command").count(), 1, "{log}");
}

#[tokio::test]
async fn a_locked_agent_makes_nothing_of_what_only_commands_need() {
    let lab = Lab::new().await;
    let _agent = lab.start(None);
    let host = lab.host().await;
    while host.next().await.unwrap().body["type"] != "metrics" {}
    let state = std::fs::read_dir(lab.folder.path().join("state")).unwrap();
    let made: Vec<_> = state.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made, ["control.sock"], "local control is there for every agent");
    drop(host);
    let _agent = lab.start(Some(SECRET));
    let _host = lab.host().await;
    assert!(lab.folder.path().join("state/audit.jsonl").exists(), "before the first command");
}

#[tokio::test]
async fn an_audit_that_cannot_be_written_is_told_at_the_start_and_then_nothing_runs() {
    let lab = Lab::new().await;
    std::fs::create_dir_all(lab.folder.path().join("state/audit.jsonl")).unwrap();
    let mut agent = lab.start(Some(SECRET));
    let _host = lab.host().await;
    agent.signal(Signal::TERM);
    let mut log = String::new();
    std::io::Read::read_to_string(&mut agent.log(), &mut log).unwrap();
    let told = "no command runs until the audit file can be written";
    assert!(log.contains(told) && log.contains("is a directory"), "{log}");

    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let answer = host.command(&ask("SystemInfo"), PATIENCE).await.unwrap();
    assert!(answer.error.unwrap().contains("nothing is run that cannot be written down"));
}

#[tokio::test]
async fn a_denial_names_its_rule_and_both_are_in_the_audit() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let remove = action("PackageRemove", &[("package".into(), "systemd-sysv".into())]).unwrap();
    let answer = host.command(&remove, PATIENCE).await.unwrap();
    assert!(!answer.success);
    let error = answer.error.unwrap();
    assert!(error.contains("commands.toml:8"), "{error}");
    let audit = lab.state("audit.jsonl");
    let line: serde_json::Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!(line["action"], "PackageRemove");
    assert_eq!(line["decision"], "denied");
    assert!(line["rule"].as_str().unwrap().ends_with("commands.toml:8"), "{line}");
}

#[tokio::test]
async fn whatever_is_asked_and_not_done_has_a_line_in_the_audit() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let send = async |id: &str, body: serde_json::Value| {
        let payload = payload::safe_command(id, &body, PATIENCE);
        host.answer(payload, id, PATIENCE).await.unwrap()
    };
    let (unknown, bad) = (json!({ "action": "Dance" }), json!({ "action": "PackageInstall" }));
    assert!(!send("unknown", unknown).await.success);
    assert!(!send("bad", bad).await.success);
    for _ in 0..2 {
        assert!(send("twice", ask("SystemInfo")).await.success);
    }
    let audit = lab.state("audit.jsonl");
    let lines: Vec<serde_json::Value> =
        audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |id: &str| lines.iter().filter(|line| line["id"] == id).collect::<Vec<_>>();
    for (id, action) in [("unknown", "Dance"), ("bad", "PackageInstall")] {
        let [line] = of(id)[..] else { panic!("{audit}") };
        assert_eq!((&line["event"], &line["decision"]), (&json!("refused"), &json!("unclear")));
        assert_eq!(line["action"], action);
        assert!(!line["why"].as_str().unwrap().is_empty());
    }
    let events: Vec<_> = of("twice").iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["begin", "end", "refused"], "{audit}");
    assert!(of("twice")[2]["why"].as_str().unwrap().contains("answered from the record"));
}
