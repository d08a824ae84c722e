//! The machine is stopped, moved and restored, with commands under way: what the host is told, and what of it
//! twice.

use std::time::{Duration, Instant};

use infiniservice::host::{Kind, Message, payload};
use serde_json::{Value, json};

use super::agent::Agent;
use super::guest::Guest;
use super::host::{is_answer, is_session};
use super::lab;
use super::qemu::Vm;
use super::shape;
use super::talk::{Talk, raw};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
const STOPPED: Duration = Duration::from_secs(7);

/// Between two hosts, so that the guest sees that the first has left.
const GAP: Duration = Duration::from_millis(500);

const ONE_LIFE: &str = "324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87";
const ANOTHER_LIFE: &str = "8f3c2d10-6f0e-4b0e-9a55-0c6a3f1d2b11";

/// QEMU drops what happens at a port while the machine stands still, so the guest is never told that the host
/// changed: only a barrier that stays unanswered shows it.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_machine_that_stood_still_tells_it_once_in_no_burst_and_a_host_that_came_meanwhile_gets_all_it_must()
 {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start_with_commands(&mut vm.guest);
    let mut first = vm.host();
    assert_eq!(first.until(SOON, is_session)["context"]["session"], 1);
    first.acknowledges();
    first.asks("a");
    assert_eq!(first.until(SOON, is_answer("a")).get("redelivered"), None);

    vm.qmp.run("stop", json!({}));
    drop(first);
    let mut second = vm.host();
    assert_eq!(second.line(STOPPED), None, "nothing while it stands still");
    vm.qmp.run("cont", json!({}));
    let goes_on = Instant::now();
    second.acknowledges();
    assert_eq!(second.until(SOON, is_session)["context"]["session"], 2);
    assert_eq!(second.until(SOON, is_answer("a"))["redelivered"], true);
    lab::say(&format!("a host that came unseen: has it after {:.1?}", goes_on.elapsed()));
    second.acknowledges();
    no_burst(&second.take(15));

    look_now(&mut vm.guest);
    let mut told = 0;
    let mut metrics = 0;
    while metrics < 15 {
        let line = second.until(SOON, |_| true);
        metrics += u32::from(line["type"] == "metrics");
        if line["type"] == "keep_alive" {
            second.answers(&line);
        }
        if line["source"] == "life" {
            let stopped = line["context"]["stopped_ms"].as_u64().expect("a number");
            // The battery-backed clock counts seconds.
            assert!((5_000..15_000).contains(&stopped), "{line}");
            told += 1;
        }
    }
    assert_eq!(told, 1, "the gap is told once");
    assert!(agent.runs(&mut vm.guest));
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_command_that_runs_through_a_migration_is_answered_once_and_a_snapshot_drops_what_was_queued() {
    let turn = lab::turn();
    let mut vm = Vm::boot_traveller(turn.lab, ONE_LIFE);
    Agent::start_with_commands(&mut vm.guest);
    let talk = Talk::connect(&vm.socket());
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    let line = raw("sleep 10; echo moved >> /tmp/ran; echo moved");
    let command = payload::unsafe_command("moved", &line, LONG);
    talk.wait(talk.host.send(command)).expect("the port stays");
    vm.guest.until("pidof sleep > /dev/null", SOON);
    let begun = Instant::now();
    vm.migrate(turn.lab, ONE_LIFE);
    lab::say(&format!("moved in {:.1?}", begun.elapsed()));
    let here = talk.hear_to_the_end();
    let talk = Talk::connect(&vm.socket());
    let moved = Kind::Response("moved".to_owned());
    let mut there = talk.hear(LONG, |message| message.kind == moved);
    let mut metrics = 0;
    there.extend(talk.hear(SOON, |message| {
        metrics += u32::from(message.kind == Kind::Metrics);
        metrics == 15
    }));
    let answers = |heard: &[Message]| heard.iter().filter(|one| one.kind == moved).count();
    assert_eq!((answers(&here), answers(&there)), (0, 1), "answered once, after the move");
    let answer = there.iter().find_map(Message::response).expect("it was counted");
    assert_eq!((answer.success, answer.stdout.as_str()), (true, "moved\n"), "{answer:?}");
    assert_eq!(vm.guest.run("cat /tmp/ran"), "moved\n");
    let metrics = there.iter().filter(|one| one.kind == Kind::Metrics);
    no_burst(&metrics.map(|one| (*one.body).clone()).collect::<Vec<_>>());
    drop(talk);

    vm.guest.sleep(GAP);
    let mut host = vm.host();
    host.until(SOON, is_session);
    host.asks("kept");
    host.until(SOON, is_answer("kept"));
    vm.save_and_restore(turn.lab, ANOTHER_LIFE);
    drop(host);
    look_now(&mut vm.guest);
    vm.guest.until("grep -q 'goes on from a snapshot' /tmp/agent.log", SOON);
    let mut host = vm.host();
    let mut told = Vec::new();
    let mut metrics = 0;
    while metrics < 15 {
        let line = host.until(SOON, |_| true);
        assert!(!is_answer("kept")(&line), "it was said in another life: {line}");
        metrics += u32::from(line["type"] == "metrics");
        if line["type"] == "keep_alive" {
            host.answers(&line);
        }
        told.extend((line["source"] == "life").then_some(line));
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0]["context"]["restored"], true, "{told:?}");
    host.asks("new");
    host.until(SOON, is_answer("new"));
}

/// Has the agent look at the machine's clocks, which it does otherwise within two minutes: it is woken by the
/// wall clock being set, which is what follows a stop on a machine that keeps its time by the network.
fn look_now(guest: &mut Guest) {
    guest.run("date -s @$(($(date +%s) + 1))");
}

/// Five readings a second were asked for.
fn no_burst(metrics: &[Value]) {
    let times: Vec<_> = metrics.iter().map(shape::time).collect();
    for (at, time) in times.iter().enumerate() {
        let within = |other: &&std::time::SystemTime| {
            other.duration_since(*time).is_ok_and(|later| later < Duration::from_secs(1))
        };
        let count = times[at..].iter().filter(within).count();
        assert!(count <= 7, "{count} readings within a second: {times:?}");
    }
}
