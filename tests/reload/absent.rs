//! The command flow goes and comes back: the host is heard and answered all the while, and none is taken for another.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::rig::{EventReceiver, Lab, commands, listen, send, text};
use super::support::PATIENCE;

#[tokio::test]
async fn without_a_command_flow_the_host_is_read_and_its_requests_denied() {
    let lab = Lab::new().await;
    let agent = lab.start();
    let host = Arc::new(lab.host().await);
    host.clock_known(PATIENCE).await.unwrap();
    let heard = Arc::<Mutex<EventReceiver>>::default();
    let listening = tokio::spawn(listen(Arc::clone(&host), Arc::clone(&heard)));
    let answer = async |id: &str| {
        let begun = Instant::now();
        loop {
            if let Some(answers) = heard.lock().unwrap().answers.get(id) {
                return Arc::clone(&answers[0]);
            }
            assert!(begun.elapsed() < PATIENCE, "{id} was not answered: {}", lab.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let begun = send(&host, |_| "sleep 1; echo late".to_owned()).await;
    lab.says("command flow started", 0).await;
    while !lab.path("state/control.sock").exists() {
        tokio::task::yield_now().await;
    }
    let first = send(&host, |_| "true".to_owned()).await;
    answer(&first).await;
    fs::remove_file(lab.path("pipelines/commands.toml")).unwrap();
    assert!(text(&lab.reload().await.stdout).contains("removed: commands\n"));
    // It is answered by the flow that took it, and that the host has read it is heard by nobody else.
    assert_eq!(answer(&begun).await["stdout"], "late\n");
    let refused = send(&host, |_| format!("touch {}", lab.path("refused").display())).await;
    let answered = answer(&refused).await;
    assert_eq!(answered["success"], false);
    let error = answered["error"].as_str().unwrap();
    assert!(error.starts_with("no commands pipeline"), "{error}");
    // Nothing changes, and a second time nothing does.
    assert!(text(&lab.reload().await.stdout).starts_with("unchanged: metrics, numbers\n"));

    lab.write("commands", &commands(1));
    assert!(text(&lab.reload().await.stdout).starts_with("added: commands\n"));
    for _ in 0..3 {
        let id = send(&host, |_| "echo heard".to_owned()).await;
        assert_eq!(answer(&id).await["stdout"], "heard\n");
    }
    assert_eq!((host.lost(), listening.is_finished()), (0, false), "one session");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert!(!lab.path("refused").exists());
    let heard = heard.lock().unwrap();
    assert!(heard.answers.values().all(|answers| answers.len() == 1), "{:?}", heard.answers);
    let log = lab.log();
    assert_eq!(log.matches("a host is connected").count(), 1, "{log}");
    let audit = fs::read_to_string(lab.path("state/audit.jsonl")).unwrap();
    assert!(audit.lines().any(|line| line.contains(&refused)), "it is written down");
}
