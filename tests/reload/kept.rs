//! What lives on over a reload: the newest lines, and what was done already.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use infiniservice::host::{payload, uuid};
use infiniservice::wire::envelope;
use rustix::process::Signal;
use serde_json::Value;

use super::rig::{EventReceiver, Lab, commands, listen, send, text};
use super::support::flows::SECRET;
use super::support::{self, PATIENCE, raw};

#[tokio::test]
async fn with_no_host_the_newest_are_kept_over_reloads_and_given_once() {
    let lab = Lab::new().await;
    for name in ["metrics", "commands"] {
        fs::remove_file(lab.path("pipelines").join(format!("{name}.toml"))).unwrap();
    }
    let to_port = |number: usize| {
        let file = lab.numbers(number);
        let (flow, _) = file.split_once("[write]").unwrap();
        format!("{flow}[write]\nport = \"org.infinibay.agent\"\nkeep = {}\n", 7 + number % 2)
    };
    lab.write("numbers", &to_port(0));
    let agent = lab.start_at("later.sock");
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    for number in 1..=40 {
        lab.write("numbers", &to_port(number));
        assert_eq!(lab.reload().await.status.code(), Some(0));
    }
    let listener = std::os::unix::net::UnixListener::bind(lab.path("later.sock")).unwrap();
    let (host, _) = tokio::task::spawn_blocking(move || listener.accept()).await.unwrap().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut host = std::io::BufReader::new(host);
    let (mut last, mut kept) = (None, 0);
    for _ in 0..60 {
        let line: Value = serde_json::from_str(&support::line(&mut host)).unwrap();
        let number = line["sequence"].as_u64();
        assert!(number > last, "{number:?} after {last:?}");
        kept += u64::from(last.is_some() && number == last.map(|last| last + 1));
        last = number;
    }
    assert!(kept > 50, "{kept} of 60 follow the one before");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
}

#[tokio::test]
async fn a_request_read_before_a_reload_does_not_run_again_after_it() {
    let lab = Lab::new().await;
    let agent = lab.start();
    let host = Arc::new(lab.host().await);
    host.clock_known(PATIENCE).await.unwrap();
    let heard = Arc::<Mutex<EventReceiver>>::default();
    let _listening = tokio::spawn(listen(Arc::clone(&host), Arc::clone(&heard)));
    let answers = async |id: &str, count: usize| {
        let begun = Instant::now();
        while heard.lock().unwrap().answers.get(id).map_or(0, Vec::len) < count {
            assert!(begun.elapsed() < PATIENCE, "{id} was not answered {count} times");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (id, ran) = (uuid().unwrap(), lab.path("ran"));
    let command = raw(&format!("echo ran >> {}", ran.display()));
    let payload = payload::unsafe_command(&id, &command, PATIENCE);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    let seal = |nonce| envelope::seal(SECRET.as_bytes(), now, nonce, &payload);
    host.send_unsigned(seal("n1")).await.unwrap();
    answers(&id, 1).await;
    lab.write("commands", &commands(1));
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    assert!(text(&lab.reload().await.stdout).starts_with("changed: commands\n"));
    // The same envelope is refused, and the same id in another one is answered from memory.
    host.send_unsigned(seal("n1")).await.unwrap();
    host.send_unsigned(seal("n2")).await.unwrap();
    answers(&id, 2).await;
    let last = send(&host, |_| "true".to_owned()).await;
    answers(&last, 1).await;
    assert_eq!(heard.lock().unwrap().answers[&id].len(), 2);
    assert_eq!(fs::read_to_string(ran).unwrap(), "ran\n");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert_eq!(lab.log().matches("reason=\"replayed\"").count(), 1, "{}", lab.log());
}
