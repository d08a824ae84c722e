//! A policy that is made stricter holds for what waits already.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use infiniservice::host::{Script, Shell, payload};
use rustix::process::Signal;
use serde_json::Value;

use super::rig::{Lab, send, text};
use super::support::PATIENCE;
use super::support::flows::COMMANDS;

fn script(id: &str, content: String) -> Script {
    Script {
        execution_id: id.to_owned(),
        script_id: "s".to_owned(),
        script_name: "test".to_owned(),
        script_content: content,
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}

/// Begins, and ends when `go` is there.
fn held(begun: &Path, go: &Path) -> String {
    let (begun, go) = (begun.display(), go.display());
    format!("touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done; echo held")
}

/// Reloads with `after` while one command and the first of two scripts run, and another command waits; what the
/// two that waited were told.
async fn told_under(after: Option<&str>) -> (String, String) {
    let lab = Lab::new().await;
    lab.write("commands", &format!("{COMMANDS}scripts = true\n[execute]\nparallel = 2\n"));
    let agent = lab.start();
    let host = lab.host().await;
    host.clock_known(PATIENCE).await.unwrap();
    let (go, ran) = (lab.path("go"), lab.path("ran"));
    let scripts = [
        script("first", held(&lab.path("script"), &go)),
        script("second", format!("touch {}", ran.display())),
    ];
    let runs = send(&host, |_| held(&lab.path("command"), &go)).await;
    host.send(payload::pending_scripts(&scripts, "t")).await.unwrap();
    while !(lab.path("script").exists() && lab.path("command").exists()) {
        tokio::task::yield_now().await;
    }
    let waits = send(&host, |_| format!("touch {}", ran.display())).await;
    let mut answers = BTreeMap::<String, Value>::new();
    // An unknown action needs no place, so its answer says that the one before it waits.
    host.send(payload::safe_command("x", &serde_json::json!({"action": "Dance"}), PATIENCE))
        .await
        .unwrap();
    let hear = async |answers: &mut BTreeMap<String, Value>, count: usize| {
        while answers.len() < count {
            let message = tokio::time::timeout(PATIENCE, host.next()).await.unwrap().unwrap();
            let id = ["id", "execution_id"].iter().find_map(|key| message.body[key].as_str());
            if let Some(id) = id {
                answers.insert(id.to_owned(), (*message.body).clone());
            }
        }
    };
    hear(&mut answers, 1).await;
    match after {
        Some(after) => lab.write("commands", after),
        None => fs::remove_file(lab.path("pipelines/commands.toml")).unwrap(),
    }
    let told = lab.reload().await;
    assert!(told.status.success(), "{}", text(&told.stderr));
    fs::write(&go, "").unwrap();
    hear(&mut answers, 5).await;
    assert_eq!(answers[&runs]["stdout"], "held\n", "what runs goes on");
    assert_eq!(answers["first"]["stdout"], "held\n");
    assert!(!ran.exists(), "{answers:?}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    let audit = fs::read_to_string(lab.path("state/audit.jsonl")).unwrap();
    for id in [waits.as_str(), "second"] {
        let line = audit.lines().rfind(|line| line.contains(&format!("{id:?}"))).unwrap();
        assert!(line.contains("\"denied\""), "{line}");
    }
    let text = |id: &str, key: &str| answers[id][key].as_str().unwrap().to_owned();
    (text(&waits, "error"), text("second", "stderr"))
}

#[tokio::test]
async fn a_waiting_request_is_judged_by_the_policy_at_its_start() {
    let strict = COMMANDS.replace("raw_shell = true", "raw_shell = false");
    let (command, script) = told_under(Some(&strict)).await;
    assert!(command.contains("commands.toml:7: raw_shell = false"), "{command}");
    assert!(script.contains("does not say scripts = true"), "{script}");
}

#[tokio::test]
async fn a_waiting_request_is_denied_when_the_file_is_removed() {
    let (command, script) = told_under(None).await;
    for told in [command, script] {
        assert!(told.contains("was removed"), "{told}");
    }
}
