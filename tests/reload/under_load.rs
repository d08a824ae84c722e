//! Hundreds of reloads, right and wrong ones, while commands run and readings flow.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::rig::{EventReceiver, Lab, NOT_TAKEN, TAKEN, commands, listen, metrics, send, text};
use super::support::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_lose_and_double_nothing() {
    reload_under_load(200, "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_they_where_the_agent_has_several_threads() {
    reload_under_load(60, "[runtime]\nkind = \"multi_thread\"\nworker_threads = 3\n").await;
}

async fn reload_under_load(reloads: usize, runtime: &str) {
    let lab = Lab::new().await;
    lab.write("agent", &format!("{}{runtime}", lab.agent(false)));
    let started = Instant::now();
    let agent = lab.start();
    let usage = || (agent.status("VmRSS:"), agent.descriptors());
    let host = Arc::new(lab.host().await);
    let heard = Arc::<Mutex<EventReceiver>>::default();
    let listening = tokio::spawn(listen(Arc::clone(&host), Arc::clone(&heard)));
    host.clock_known(PATIENCE).await.unwrap();
    let ran = lab.path("ran");
    let note = |id: &str| format!("echo {id} >> {}; sleep 0.1", ran.display());

    let mut sent = vec![send(&host, |_| "sleep 6; echo over".to_owned()).await];
    let (mut taken, mut not_taken, mut before) = (0, 0, (0, 0));
    for number in 1..=reloads {
        let (name, good) = match number % 3 {
            0 => ("metrics", metrics(number)),
            1 => ("numbers", lab.numbers(number)),
            _ => ("commands", commands(number)),
        };
        let is_wrong = number % 5 == 0;
        let file = if is_wrong { format!("{good}nonsense = 1\n") } else { good.clone() };
        lab.write(name, &format!("about = \"change {number}\"\n{file}"));
        for _ in 0..2 {
            sent.push(send(&host, note).await);
        }
        if number % 2 == 0 {
            let output = lab.reload().await;
            let (said, complained) = (text(&output.stdout), text(&output.stderr));
            if is_wrong {
                assert_eq!(output.status.code(), Some(78), "{complained}");
                assert!(complained.contains(&format!("{name}.toml:")), "{complained}");
                assert!(complained.contains("unknown key \"nonsense\""), "{complained}");
            } else {
                assert_eq!(output.status.code(), Some(0), "{complained}");
                let changed = said.lines().find(|line| line.starts_with("changed: "));
                assert!(changed.is_some_and(|changed| changed.contains(name)), "{said}");
            }
        } else {
            agent.signal(Signal::HUP);
            let (what, times) = if is_wrong { (NOT_TAKEN, not_taken) } else { (TAKEN, taken) };
            lab.says(what, times).await;
        }
        if is_wrong {
            not_taken += 1;
            lab.write(name, &good); // taken with the next change
        } else {
            taken += 1;
        }
        if number == 40 {
            before = usage();
        }
    }
    let begun = Instant::now();
    while heard.lock().unwrap().answers.len() < sent.len() {
        assert!(begun.elapsed() < PATIENCE, "{} answers", heard.lock().unwrap().answers.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The last file was wrong, and that is what is told last.
    let begun = Instant::now();
    while heard.lock().unwrap().files.last() != Some(&true) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", heard.lock().unwrap().files);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((host.lost(), listening.is_finished()), (0, false), "one session");
    // Nothing runs any more, as it did when it was looked at before.
    let (rss, descriptors) = usage();
    assert!(rss < before.0 + 4 * 1024, "{} KiB grew to {rss} KiB", before.0);
    assert!(descriptors <= before.1, "{} descriptors grew to {descriptors}", before.1);
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0), "{}", lab.log());

    let heard = heard.lock().unwrap();
    for id in &sent {
        let answers = &heard.answers[id];
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(answers[0]["success"], true, "{answers:?}");
    }
    let ran = fs::read_to_string(ran).unwrap();
    let mut ran: Vec<&str> = ran.lines().collect();
    ran.sort_unstable();
    let mut expected: Vec<&str> = sent[1..].iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(ran, expected, "each ran once");
    assert_eq!(heard.greetings, 1);
    let most = 1 + started.elapsed().as_secs() / 10;
    assert!(heard.files.len() as u64 <= most, "{:?} in {:?}", heard.files, started.elapsed());
    assert!(heard.metrics > reloads / 4, "{} lines of metrics", heard.metrics);
    let log = lab.log();
    assert_eq!(log.matches("a host is connected").count(), 1, "{log}");
    assert_eq!(
        (log.matches(TAKEN).count(), log.matches(NOT_TAKEN).count()),
        (reloads - reloads / 5, reloads / 5)
    );
    let numbers = fs::read_to_string(lab.path("numbers.jsonl")).unwrap();
    assert!(numbers_go_on(&numbers) > reloads, "readings");
}

/// Every reading has the number after the one before, and what needs an interval has one. On a busy machine a group may
/// come too late for its reading; that is seldom.
fn numbers_go_on(lines: &str) -> usize {
    let (mut count, mut late) = (0, 0);
    for line in lines.lines() {
        let reading: Value = serde_json::from_str(line).unwrap();
        assert_eq!(reading["sequence"], count, "{line}");
        let interfaces = reading["network"]["interfaces"].as_array().unwrap();
        let lo = interfaces.iter().find(|interface| interface["name"] == "lo").unwrap();
        assert_eq!(lo["rates"].is_object(), count > 0, "{line}");
        late += usize::from(!reading["processes"].is_array());
        count += 1;
    }
    assert!(late * 20 <= count, "processes are missing in {late} of {count} readings");
    count
}
