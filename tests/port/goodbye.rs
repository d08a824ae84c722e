//! Closing a port: the host gets a moment to acknowledge the last frames.

use std::time::Duration;

use infiniservice::internals::port::{PortExit, Summary};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::rig::{Rig, answer, settle};

/// A closing port with a frame in flight, and a host that has acknowledged before if `answered`.
async fn closing(answered: bool) -> (impl Fn(), watch::Receiver<u64>, JoinHandle<Summary>) {
    let rig = Rig::met().await;
    rig.durable(1, "{\"first\":1}\n");
    settle().await;
    if answered {
        rig.answer();
    }
    settle().await;
    rig.durable(2, "{\"last\":1}\n");
    let (host, acks, read) = (rig.host.clone(), rig.acks.clone(), rig.read.clone());
    let ending = tokio::spawn(rig.close());
    settle().await;
    (move || answer(&host, &acks, None), read, ending)
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_the_last_acknowledgement() {
    let (answer, read, ending) = closing(true).await;
    assert!(!ending.is_finished());
    answer();
    settle().await;
    assert_eq!(*read.borrow(), 2);
    assert!(ending.is_finished());
    assert_eq!(ending.await.unwrap().end, PortExit::Flushed);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_a_second_for_a_host_that_stops_answering() {
    let begun = Instant::now();
    let (_answer, read, ending) = closing(true).await;
    assert_eq!(ending.await.unwrap().end, PortExit::Flushed);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_millis(1_100), "{took:?}");
    assert_eq!(*read.borrow(), 1, "it comes again");
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_host_that_never_answers() {
    let (_answer, read, ending) = closing(false).await;
    assert!(ending.is_finished());
    assert_eq!(*read.borrow(), 0);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_for_a_host_that_disconnects() {
    let rig = Rig::met().await;
    rig.durable(1, "{\"first\":1}\n");
    settle().await;
    rig.answer();
    rig.durable(2, "{\"last\":1}\n");
    let host = rig.host.clone();
    let ending = tokio::spawn(rig.close());
    settle().await;
    host.leave();
    settle().await;
    assert!(ending.is_finished());
}
