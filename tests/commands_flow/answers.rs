//! Every command is answered, as itself and once, however many come and whatever else runs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use infiniservice::host::{payload, uuid};
use serde_json::{Value, json};

use super::rig::{Lab, ask, seen};
use super::support::flows::SECRET;
use super::support::{PATIENCE, raw};

#[tokio::test]
async fn five_commands_in_one_burst_are_all_answered_and_each_as_itself() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let asked = ["SystemInfo", "OsInfo", "UserList", "GetLinuxUpdateHistory", "Nonsense"];
    let answers = join_all(asked.iter().map(|name| {
        let action = json!({ "action": name });
        let host = &host;
        async move { host.command(&action, PATIENCE).await.unwrap() }
    }))
    .await;
    for (name, answer) in asked.iter().zip(&answers) {
        assert_eq!(answer.command_type.as_deref(), Some(*name));
        assert_eq!(answer.success, *name != "Nonsense", "{answer:?}");
        assert_eq!(answer.error.is_some(), *name == "Nonsense");
    }
    assert_eq!(answers[0].data["kernel_version"].as_str().unwrap(), kernel());
    assert!(answers[2].data["count"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_as_the_action_that_was_asked_for() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    for (action, success) in [
        (json!({ "action": "ProcessTop", "limit": "3" }), false),
        (json!({ "action": "RebootSystem", "force": "maybe" }), false),
        (json!({ "action": "Script" }), false),
        (json!({ "action": "ValidateSystemHealth", "check_name": "boot_time" }), true),
    ] {
        let answer = host.command(&action, PATIENCE).await.unwrap();
        assert_eq!(answer.command_type.as_deref(), action["action"].as_str());
        assert_eq!(answer.success, success, "{answer:?}");
    }
    let payload =
        json!({ "type": "SafeCommand", "id": 22, "command_type": ask("OsInfo"), "timeout": 9 });
    let answer = host.answer(payload.to_string(), "22", PATIENCE).await.unwrap();
    assert!(answer.success && answer.body["id"] == "22", "{answer:?}");
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_command_behind_slow_ones_a_keep_alive_and_metrics_go_on_meanwhile() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let slow = raw("sleep 20");
    let slow = (0..4).map(|_| host.exec(&slow, Duration::from_secs(4)));
    let beside = async {
        let begun = Instant::now();
        host.command(&ask("SystemInfo"), PATIENCE).await.unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(1_000), "answered after {took:?} behind slow ones");
        host.send(payload::keep_alive_request(77, "2026-01-01T00:00:00.000Z")).await.unwrap();
        let (mut metrics, mut echoed) = (0, false);
        while metrics < 3 || !echoed {
            let message = host.next().await.unwrap();
            let body = message.body.clone();
            metrics += u32::from(body["type"] == "metrics");
            echoed |= body["type"] == "keep_alive" && body["sequence_number"] == 77;
        }
    };
    let (slow, ()) = tokio::join!(join_all(slow), beside);
    for answer in slow {
        let answer = answer.unwrap();
        assert_eq!((answer.success, answer.exit_code), (false, Some(124)), "{answer:?}");
        assert!(answer.error.unwrap().contains("time was over"));
    }
}

#[tokio::test]
async fn an_id_that_comes_twice_is_answered_twice_and_run_once() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let touched = lab.folder.path().join("touched");
    let command = raw(&format!("echo x >> {}; echo done", touched.display()));
    let id = uuid().unwrap();
    for _ in 0..2 {
        let payload = payload::unsafe_command(&id, &command, PATIENCE);
        let answer = host.answer(payload, &id, PATIENCE).await.unwrap();
        assert_eq!((answer.success, answer.stdout.as_str()), (true, "done\n"));
    }
    assert_eq!(seen(&touched).await, "x\n");
}

#[tokio::test]
async fn a_thousand_commands_at_once_are_all_answered_or_refused_with_a_reason() {
    let lab = Lab::new().await;
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    host.command(&ask("SystemInfo"), PATIENCE).await.unwrap();
    let rss = || agent.status("VmRSS:");
    let before = rss();
    let (action, host) = (ask("SystemInfo"), &host);
    let mut answered = 0;
    let answers = join_all((0..1_000).map(|_| host.command(&action, PATIENCE * 2))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert!(answer.success || answer.error.unwrap().contains("too many commands wait"));
        answered += 1;
    }
    assert_eq!(answered, 1_000);
    assert_eq!(in_the_audit(&lab).await, 1_001, "each has a line, or is counted in one");
    assert!(rss() < before + 16 * 1024, "{before} KiB grew to {} KiB", rss());
}

/// The ids in the audit and the lines that are missing there, once no more come.
async fn in_the_audit(lab: &Lab) -> u64 {
    let begun = Instant::now();
    loop {
        let (mut ids, mut lost) = (BTreeSet::new(), 0);
        for line in lab.state("audit.jsonl").lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
            ids.extend(line["id"].as_str().map(str::to_owned));
            lost += line["lines_lost"].as_u64().unwrap_or(0);
        }
        let all = ids.len() as u64 + lost;
        if all > 1_000 || begun.elapsed() > PATIENCE {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_command_whose_time_is_over_is_answered_before_the_host_gives_it_up() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let timed = async |line: &str, seconds: u64| {
        let (id, sent) = (uuid().unwrap(), Instant::now());
        let asked = payload::unsafe_command(&id, &raw(line), Duration::from_secs(seconds));
        let answer = host.answer(asked, &id, PATIENCE).await.unwrap();
        assert_eq!((answer.success, answer.exit_code), (false, Some(124)), "{answer:?}");
        (sent.elapsed(), answer.stdout)
    };
    let deaf = "trap '' TERM; echo said; while :; do sleep 0.1; done";
    for (took, said) in join_all([timed("echo said; sleep 20", 8), timed(deaf, 8)]).await {
        assert!(took > Duration::from_secs(7) && took < Duration::from_secs(8), "{took:?}");
        assert_eq!(said, "said\n");
    }
    let (took, _) = timed("sleep 20", 0).await;
    assert!(took < Duration::from_secs(1), "0 is less than a second: {took:?}");
}
