//! Files that are taken because they changed.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use super::rig::{Lab, NOT_TAKEN, TAKEN};
use super::support::PATIENCE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_are_taken_by_themselves_once_they_are_quiet() {
    let lab = Lab::new().await;
    lab.write("agent", &lab.agent(true));
    let agent = lab.start();
    let host = lab.host().await;
    host.clock_known(PATIENCE).await.unwrap();
    lab.says("pipeline started", 1).await;

    lab.write("numbers", &lab.numbers(1));
    lab.says(TAKEN, 0).await;
    // In place, in pieces, slower than the quiet time: one reload, of the whole.
    let (path, text) = (lab.path("pipelines/numbers.toml"), lab.numbers(2));
    let (first, rest) = text.split_at(text.len() / 2);
    let mut file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, first.as_bytes()).unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    std::io::Write::write_all(&mut file, rest.as_bytes()).unwrap();
    drop(file);
    lab.says(TAKEN, 1).await;
    lab.write("numbers", "nonsense");
    lab.says(NOT_TAKEN, 0).await;
    fs::remove_file(&path).unwrap();
    lab.says("removed=\"numbers\"", 0).await;
    // The whole folder goes, and comes back with something else.
    let (folder, aside) = (lab.path("pipelines"), lab.path("aside"));
    fs::rename(&folder, &aside).unwrap();
    lab.says(NOT_TAKEN, 1).await;
    fs::write(aside.join("numbers.toml"), lab.numbers(3)).unwrap();
    fs::rename(&aside, &folder).unwrap();
    lab.says("added=\"numbers\"", 0).await;
    // Switched off by its own file.
    lab.write("agent", &lab.agent(false));
    lab.says("pipeline files are not watched any more", 0).await;
    lab.write("numbers", &lab.numbers(5));
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let log = lab.log();
    assert_eq!((log.matches(TAKEN).count(), log.matches(NOT_TAKEN).count()), (5, 2), "{log}");
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().0, Some(0));
    assert_eq!(lab.log().matches("a host is connected").count(), 1);
}
