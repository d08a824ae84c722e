//! What is running when the agent ends: killed, or asked to.

use std::time::{Duration, Instant};

use infiniservice::host::{Host, Kind, payload, uuid};
use rustix::process::Signal;
use serde_json::Value;

use super::rig::{Lab, ask, script, seen};
use super::support::flows::SECRET;
use super::support::{PATIENCE, raw};

/// The next answers, to commands and scripts, but for those to `known`, which may come again.
async fn answers(host: &Host, count: usize, known: &[&str]) -> Vec<Value> {
    let mut answers = Vec::new();
    let all = async {
        while answers.len() < count {
            let message = host.next().await.unwrap();
            let (Kind::Response(id) | Kind::ScriptCompletion(id)) = &message.kind else { continue };
            if !known.contains(&id.as_str()) {
                answers.push((*message.body).clone());
            }
        }
    };
    tokio::time::timeout(PATIENCE, all).await.unwrap();
    answers
}

/// Waits until a file of the state has so many of these.
async fn written(lab: &Lab, name: &str, what: &str, count: usize) {
    let begun = Instant::now();
    while lab.state(name).matches(what).count() < count {
        assert!(begun.elapsed() < PATIENCE, "{name}: {}", lab.state(name));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_a_kill_cuts_is_told_by_the_next_agent_and_by_no_other() {
    let lab = Lab::new().await;
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let id = uuid().unwrap();
    let begun = |name: &str| lab.folder.path().join(name);
    let slow = |name: &str| format!("echo begun >> {}; sleep 20", begun(name).display());
    let command = payload::unsafe_command(&id, &raw(&slow("command")), PATIENCE);
    host.send(command.clone()).await.unwrap();
    let scripts = [script("e-1", slow("script")), script("e-2", "echo never".to_owned())];
    host.send(payload::pending_scripts(&scripts, "t")).await.unwrap();
    seen(&begun("command")).await;
    seen(&begun("script")).await;
    // What has ended is not told again.
    let done = uuid().unwrap();
    let asked = payload::safe_command(&done, &ask("SystemInfo"), PATIENCE);
    assert!(host.answer(asked, &done, PATIENCE).await.unwrap().success);
    agent.signal(Signal::KILL);
    assert_eq!(agent.end().0, None);
    drop(host);

    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let mut told = answers(&host, 2, &[&done]).await;
    told.sort_by_key(|told| told["type"].to_string());
    assert_eq!((&told[0]["id"], &told[0]["success"]), (&id.clone().into(), &false.into()));
    assert_eq!(told[0]["command_type"], "UnsafeCommand");
    assert_eq!(told[0]["error"], "the agent ended while it ran; whether it was done is not known");
    assert_eq!((&told[1]["execution_id"], &told[1]["exit_code"]), (&"e-1".into(), &(-1).into()));
    assert!(told[1]["stderr"].as_str().unwrap().contains("not run a second time"), "{}", told[1]);
    // Asked for again, nothing is done twice.
    let again = host.answer(command, &id, PATIENCE).await.unwrap();
    assert!(again.error.unwrap().contains("whether it was done is not known"));
    // One that had not had its turn was not begun: that is told, and it may be asked for again.
    let never = host.script(&scripts[1], PATIENCE).await.unwrap();
    assert_eq!(never.stdout, "never\n");
    written(&lab, "audit.jsonl", "\"event\":\"lost\"", 2).await;
    written(&lab, "audit.jsonl", "the agent ended before it began, so it was not run", 1).await;
    written(&lab, "requests.log", "\"id\":\"e-2\"", 2).await;
    agent.signal(Signal::KILL);
    let (_, log) = agent.end();
    assert!(
        log.contains("an earlier run ended before") && log.contains("not_run=1 cut=2"),
        "{log}"
    );
    drop(host);

    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    assert!(host.command(&ask("SystemInfo"), PATIENCE).await.unwrap().success);
    agent.signal(Signal::KILL);
    let (_, log) = agent.end();
    // A reply that the host had not acknowledged when the agent was killed goes out again, and nothing else.
    let open = log.lines().find(|line| line.contains("an earlier run ended before"));
    assert!(open.is_none_or(|open| open.contains("not_run=0 cut=0")), "told once more: {log}");
    let audit = lab.state("audit.jsonl");
    assert_eq!(audit.matches("\"event\":\"lost\"").count(), 2, "{audit}");
    for name in ["command", "script"] {
        assert_eq!(seen(&begun(name)).await, "begun\n");
    }
}

#[tokio::test]
async fn what_waits_when_the_agent_stops_is_told_that_it_was_not_begun() {
    let lab = Lab::new().await;
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let line = raw("sleep 20");
    let mut ids = Vec::new();
    for _ in 0..7 {
        let id = uuid().unwrap();
        host.send(payload::unsafe_command(&id, &line, PATIENCE)).await.unwrap();
        ids.push(id);
    }
    written(&lab, "audit.jsonl", "\"event\":\"begin\"", 5).await;
    host.send(payload::keep_alive_request(77, "2026-01-01T00:00:00.000Z")).await.unwrap();
    loop {
        let body = host.next().await.unwrap().body;
        if body["type"] == "keep_alive" && body["sequence_number"] == 77 {
            break; // so what was sent before it has been taken
        }
    }
    agent.signal(Signal::TERM);
    let answers = answers(&host, 7, &[]).await;
    let why = |id: &String| {
        let answer = answers.iter().find(|answer| answer["id"] == *id).unwrap();
        answer["error"].as_str().unwrap().to_owned()
    };
    for id in &ids[..5] {
        assert!(why(id).ends_with("ended with everything it had started"), "{}", why(id));
    }
    for id in &ids[5..] {
        assert_eq!(why(id), "the agent stops; it was not begun");
    }
    assert_eq!(agent.end().0, Some(0));
    let audit = lab.state("audit.jsonl");
    assert_eq!(audit.matches("it was not begun").count(), 2, "{audit}");
}
