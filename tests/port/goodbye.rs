//! The end of a port: everything is said, and then the host has a moment to say that it has read it.

use std::time::Duration;

use infiniservice::port::{PortExit, Summary};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::rig::{Rig, answer, settle};

/// A port that closes with something said and not known to be read, to a host that has `answered` before.
async fn closing(answered: bool) -> (impl Fn(), watch::Receiver<u64>, JoinHandle<Summary>) {
    let rig = Rig::met().await;
    rig.must(1, "{\"first\":1}\n");
    settle().await;
    if answered {
        rig.answer();
    }
    settle().await;
    rig.must(2, "{\"last\":1}\n");
    let (host, answers, read) = (rig.host.clone(), rig.answers.clone(), rig.read.clone());
    let ending = tokio::spawn(rig.close());
    settle().await;
    (move || answer(&host, &answers), read, ending)
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_of_the_host_is_waited_for() {
    let (answer, read, ending) = closing(true).await;
    assert!(!ending.is_finished());
    answer();
    settle().await;
    assert_eq!(*read.borrow(), 2);
    assert!(ending.is_finished());
    assert_eq!(ending.await.unwrap().end, PortExit::Flushed);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_stops_to_answer_is_waited_for_a_second() {
    let begun = Instant::now();
    let (_answer, read, ending) = closing(true).await;
    assert_eq!(ending.await.unwrap().end, PortExit::Flushed);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_millis(1_100), "{took:?}");
    assert_eq!(*read.borrow(), 1, "it comes again");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_never_answers_is_not_waited_for() {
    let (_answer, read, ending) = closing(false).await;
    assert!(ending.is_finished());
    assert_eq!(*read.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_leaves_then_is_not_waited_for() {
    let rig = Rig::met().await;
    rig.must(1, "{\"first\":1}\n");
    settle().await;
    rig.answer();
    rig.must(2, "{\"last\":1}\n");
    let host = rig.host.clone();
    let ending = tokio::spawn(rig.close());
    settle().await;
    host.leave();
    settle().await;
    assert!(ending.is_finished());
}
