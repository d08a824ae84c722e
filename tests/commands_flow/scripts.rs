//! Scripts that the host pushes, over restarts and kills of the agent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use infiniservice::host::{Kind, Script, payload};
use rustix::process::Signal;

use super::rig::{Lab, script, seen};
use super::support::PATIENCE;
use super::support::flows::SECRET;

#[tokio::test]
async fn a_script_runs_once_also_when_it_is_pushed_again_and_over_a_restart() {
    let lab = Lab::new().await;
    let ran = lab.folder.path().join("ran");
    let content = format!("echo ran >> {}\necho said\nexit 3\n", ran.display());
    let agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let done = host.script(&script("e-1", content.clone()), PATIENCE).await.unwrap();
    assert_eq!((done.exit_code, done.stdout.as_str()), (3, "said\n"));
    let again = host.script(&script("e-1", content.clone()), PATIENCE).await.unwrap();
    assert_eq!(again.exit_code, 3);
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    drop(host);

    let interrupted = lab.start(Some(SECRET));
    let host = lab.host().await;
    let begun = lab.folder.path().join("begun");
    let slow = format!("echo begun >> {}\nsleep 60\n", begun.display());
    let slow_one = script("e-2", slow.clone());
    let begins = async {
        seen(&begun).await;
        interrupted.signal(Signal::KILL);
    };
    let (cut, ()) = tokio::join!(host.script(&slow_one, PATIENCE), begins);
    assert!(cut.is_err(), "the agent was killed in the middle: {cut:?}");
    drop(interrupted);
    drop(host);

    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let again = host.script(&script("e-1", content), PATIENCE).await.unwrap();
    assert_eq!(again.exit_code, 3, "over a restart");
    let cut = host.script(&script("e-2", slow), PATIENCE).await.unwrap();
    assert_eq!(cut.exit_code, -1);
    assert!(cut.stderr.contains("not run a second time"), "{}", cut.stderr);
    assert_eq!(seen(&ran).await, "ran\n");
    assert_eq!(seen(&begun).await, "begun\n");
}

#[tokio::test]
async fn the_time_of_a_script_counts_from_its_turn() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let timed =
        |id: &str, content: &str| Script { timeout_seconds: 3, ..script(id, content.to_owned()) };
    let pushed = [
        timed("e-1", "sleep 2; echo one"),
        timed("e-2", "sleep 2; echo two"),
        timed("e-3", "echo three"),
        timed("e-4", "sleep 20; echo four"),
    ];
    host.send(payload::pending_scripts(&pushed, "t")).await.unwrap();
    let mut ends = BTreeMap::new();
    while ends.len() < pushed.len() {
        let message = tokio::time::timeout(PATIENCE, host.next()).await.unwrap().unwrap();
        if let Kind::ScriptCompletion(id) = &message.kind {
            let body = &message.body;
            let end = (body["exit_code"].as_i64(), body["stdout"].as_str().map(str::to_owned));
            ends.insert(id.clone(), end);
        }
    }
    let end = |code, said: &str| (Some(code), Some(said.to_owned()));
    let expected = [
        ("e-1", end(0, "one\n")),
        ("e-2", end(0, "two\n")),
        ("e-3", end(0, "three\n")),
        ("e-4", end(124, "")),
    ];
    assert_eq!(ends, expected.map(|(id, end)| (id.to_owned(), end)).into());
}

/// Whatever else the machine does, the quickest of many takes no longer than it must: a pause is in each of them.
#[tokio::test]
async fn one_script_follows_the_other_without_a_pause() {
    let lab = Lab::new().await;
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let pushed: Vec<Script> = (0..40).map(|n| script(&format!("e-{n}"), String::new())).collect();
    host.send(payload::pending_scripts(&pushed, "t")).await.unwrap();
    let (mut ends, mut shortest) = (Vec::new(), Duration::MAX);
    while ends.len() < pushed.len() {
        let message = tokio::time::timeout(PATIENCE, host.next()).await.unwrap().unwrap();
        if let Kind::ScriptCompletion(_) = &message.kind {
            assert_eq!(message.body["exit_code"], 0, "{}", message.body);
            ends.push(Instant::now());
            if let [.., before, now] = ends[..] {
                shortest = shortest.min(now - before);
            }
        }
    }
    assert!(shortest < Duration::from_millis(80), "{shortest:?} from one end to the next");
}

#[tokio::test]
async fn a_script_of_which_nothing_was_done_may_be_offered_again() {
    let lab = Lab::new().await;
    let state = lab.folder.path().join("state");
    std::fs::create_dir_all(state.join("audit.jsonl")).unwrap();
    let _agent = lab.start(Some(SECRET));
    let host = lab.host().await;
    let offered = script("e-1", "echo ran".to_owned());
    let refused = host.script(&offered, PATIENCE).await.unwrap();
    assert_eq!(refused.exit_code, -1);
    assert!(refused.stderr.contains("nothing is run that cannot be written down"), "{refused:?}");
    std::fs::remove_dir(state.join("audit.jsonl")).unwrap();

    // Nor while nothing can be written at all.
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "no folder").unwrap();
    let refused = host.script(&offered, PATIENCE).await.unwrap();
    assert!(refused.stderr.contains("cannot be written down that the script"), "{refused:?}");
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();

    let ran = host.script(&offered, PATIENCE).await.unwrap();
    assert_eq!((ran.exit_code, ran.stdout.as_str()), (0, "ran\n"), "{ran:?}");
    let log = lab.state("requests.log");
    assert!(
        log.contains("\"id\":\"e-1\"") && log.contains("\"exit\":0"),
        "it was made again: {log}"
    );
}
