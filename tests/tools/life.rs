//! Prints what happens to this machine: suspend it, set its clock, stop it from outside, and see.
#![allow(clippy::expect_used)]

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use infiniservice::internals::machine_events::MachineEvents;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let every = std::env::args().nth(1).and_then(|text| humantime::parse_duration(&text).ok());
    let mut life = MachineEvents::new().reading("/", every.unwrap_or(Duration::from_secs(5)));
    let mut told = pin!(life.events());
    while let Some(told) = told.next().await {
        let event = told.expect("the machine can be watched");
        println!("{} {}", event.message, event.context.unwrap_or_default());
    }
}
