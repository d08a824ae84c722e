//! Changed while it runs, and used for a long time: nothing is lost, doubled or kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use infiniservice::host::{Kind, payload};

use super::agent::Agent;
use super::guest::Guest;
use super::lab;
use super::qemu::Vm;
use super::talk::{Talk, raw};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
const RELOADS: usize = 30;
/// Hosts that come and go; a real one does so some times an hour.
const HOSTS: usize = 120;
/// More resident memory than before, after all of it.
const GROWN_KIB: u64 = 1 << 10;

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn reloads_under_load_lose_and_double_nothing_and_an_hours_churn_leaves_memory_and_files_as_they_were()
 {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start_with_commands(&mut vm.guest);
    reloads(&mut vm, agent);
    churn(&mut vm, HOSTS / 4);
    let before = usage(&mut vm.guest, agent);
    let begun = Instant::now();
    churn(&mut vm, HOSTS);
    let took = begun.elapsed();
    let after = usage(&mut vm.guest, agent);
    lab::say(&format!(
        "{HOSTS} hosts with a command, and a reload for every fourth, within {took:.0?}: \
         own memory {} then {} KiB, files {} then {}",
        before.0, after.0, before.1, after.1
    ));
    assert!(after.0 <= before.0 + GROWN_KIB, "{before:?} then {after:?}");
    assert_eq!(before.1, after.1, "open files");
    assert!(agent.runs(&mut vm.guest), "the same process");
}

/// With a command about to run, running or being answered at each of them.
fn reloads(vm: &mut Vm, agent: Agent) {
    let begun = Instant::now();
    let talk = Talk::connect(&vm.socket());
    let mut asked = Vec::new();
    for number in 0..RELOADS {
        for part in 0..3 {
            let id = format!("r{number}-{part}");
            let line = raw(&format!("echo {id} >> /tmp/done; sleep 0.{part}; echo {id}"));
            let command = payload::unsafe_command(&id, &line, LONG);
            talk.wait(talk.host.send(command)).expect("the port stays");
            asked.push(id);
        }
        reload(&mut vm.guest, agent, number);
    }
    let mut answers: BTreeMap<String, u32> = BTreeMap::new();
    let (mut sessions, mut told, mut metrics) = (0, Vec::new(), 0);
    let mut count = |message: &infiniservice::host::Message| {
        metrics += u32::from(message.kind == Kind::Metrics);
        sessions += u32::from(message.body["context"]["session"].is_u64());
        if message.body["source"] == "reload" {
            told.push((message.body["severity"] == "warn", message.body.to_string()));
        }
        if let Some(answer) = message.response() {
            assert_eq!(answer.stdout.trim(), answer.id, "{answer:?}");
            *answers.entry(answer.id).or_default() += 1;
        }
        (answers.len(), told.last().is_some_and(|(is_wrong, _)| *is_wrong))
    };
    talk.hear(LONG, |message| count(message).0 == asked.len());
    // And what came twice would come before this.
    talk.wait(talk.host.send(payload::keep_alive_request(77, "t"))).expect("the port stays");
    talk.hear(SOON, |message| {
        count(message);
        message.kind == Kind::KeepAlive(77)
    });
    // The last of them was wrong; it is told ten seconds after the word before.
    talk.hear(SOON, |message| count(message).1);
    lab::say(&format!(
        "{RELOADS} reloads under load: {} answers, {metrics} readings",
        answers.len()
    ));
    assert!(answers.values().all(|count| *count == 1), "{answers:?}");
    assert_eq!(sessions, 1, "the port is not closed for it");
    assert!(told.last().is_some_and(|(is_wrong, _)| *is_wrong), "the last word: {told:#?}");
    let most = 1 + begun.elapsed().as_secs() / 10;
    assert!(told.len() as u64 <= most, "one in ten seconds: {told:#?}");
    assert!(metrics > 10);
    let done = vm.guest.run("sort /tmp/done | uniq -c | awk '$1 == 1' | wc -l");
    assert_eq!(done.trim(), asked.len().to_string(), "each was done once");
}

/// Changes the files, for each fifth time into something wrong, and waits until the agent has looked.
fn reload(guest: &mut Guest, agent: Agent, number: usize) {
    let (said, cadence) = match number % 5 {
        4 => ("configuration not reloaded", "never".to_owned()),
        _ => ("configuration reloaded", format!("{}ms", 100 + number % 4 * 50)),
    };
    let count = guest.run(&format!("grep -c '{said}' /tmp/agent.log || true"));
    guest.run(&format!(
        "sed -i 's/^every = .*/every = \"{cadence}\"/' /commands/metrics.toml && kill -HUP {}",
        agent.pid
    ));
    guest.until(&format!("[ $(grep -c '{said}' /tmp/agent.log) -gt {} ]", count.trim()), SOON);
}

/// Hosts that come, ask for something, and leave with it or without.
fn churn(vm: &mut Vm, hosts: usize) {
    let pid = vm.guest.run("pidof infiniservice");
    let agent = Agent { pid: pid.trim().parse().expect("one agent") };
    for number in 0..hosts {
        let talk = Talk::connect(&vm.socket());
        match number % 3 {
            0 => assert!(talk.ask("ServiceList", &[], SOON).body["id"].is_string()),
            1 => assert!(talk.exec("head -c 100000 /dev/zero | tr '\\0' x", SOON).success),
            _ => {
                let line = payload::unsafe_command(&format!("left-{number}"), &raw("echo"), LONG);
                talk.wait(talk.host.send(line)).expect("the port stays");
            }
        }
        drop(talk);
        if number % 4 == 0 {
            // Each is another one than the one before, and none is wrong.
            reload(&mut vm.guest, agent, (number / 4 + 1) % 4);
        }
    }
}

/// Memory of its own in KiB, and open files, when nothing runs.
fn usage(guest: &mut Guest, agent: Agent) -> (u64, u64) {
    guest.sleep(Duration::from_secs(5));
    (agent.rss_kib(guest).1, agent.files(guest))
}
