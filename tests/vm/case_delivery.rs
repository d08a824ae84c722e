//! What must be read is read, once or marked, whatever becomes of the host, of the port and of the agent.

use std::collections::BTreeMap;
use std::time::Duration;

use infiniservice::host::{Kind, Script, Shell, payload};
use infiniservice::model::Rng;
use serde_json::{Value, json};

use super::agent::Agent;
use super::host::{Host, is_answer, is_session};
use super::lab;
use super::qemu::{PORT, Vm};
use super::shape;
use super::talk::Talk;

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);
/// The longest pause between two tries to open the port, and some time to do it.
const RETRY: Duration = Duration::from_secs(45);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_late_host_is_told_the_gap_and_after_one_that_stopped_reading_answers_come_before_new_metrics()
{
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start_with_commands(&mut vm.guest);
    vm.port_opened(SOON);
    // Five readings a second, of which eight are kept.
    vm.guest.sleep(Duration::from_secs(6));
    let mut host = vm.host();
    host.until(SOON, is_session);
    let gap = host.until(SOON, |line| line["context"]["lost"].is_array());
    let lost = gap["context"]["lost"].as_array().expect("it is an array");
    let overwritten = lost.iter().find(|lost| lost["reason"] == "overwritten");
    let count = overwritten.and_then(|lost| lost["count"].as_u64()).unwrap_or_default();
    assert!((10..200).contains(&count), "{gap}");
    host.acknowledges();
    host.take(5);
    let (_, before) = agent.rss_kib(&mut vm.guest);

    // The socket takes what it can, then the window is full, long before the port is.
    vm.guest.sleep(Duration::from_secs(12));
    let asked: Vec<String> = (0..5).map(|number| format!("q{number}")).collect();
    asked.iter().for_each(|id| host.asks(id));
    vm.guest.sleep(Duration::from_secs(8));
    let full = "cat /sys/kernel/debug/virtio-ports/* | grep -c 'outvq_full: 1' || true";
    assert_eq!(vm.guest.run(full).trim(), "0", "the port is never full");
    let (_, after) = agent.rss_kib(&mut vm.guest);
    let stopped = after.saturating_sub(before);
    let (mut bytes, mut answered) = (0, Vec::new());
    while answered.len() < asked.len() {
        let line = host.line(SOON).expect("the flow goes on");
        bytes += line.len() + 1;
        let Ok(line) = serde_json::from_slice::<Value>(&line) else { continue };
        match line["type"].as_str() {
            Some("response") => answered.push(line["id"].as_str().unwrap_or_default().to_owned()),
            Some("keep_alive") => host.answers(&line),
            _ => {}
        }
    }
    answered.sort_unstable();
    assert_eq!(answered, asked, "each once");
    lab::say(&format!("{bytes} bytes until the last answer; grew by {stopped} KiB meanwhile"));
    assert!(bytes <= 64 << 10, "all that lay before the answers is what the window admits");
    assert!(stopped < 2 << 10, "grew by {stopped} KiB");
    let lines = host.take(40);
    assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn what_was_not_read_comes_again_after_the_port_and_after_the_whole_device_was_pulled_out() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start_with_commands(&mut vm.guest);
    let mut host = unread(&mut vm, "a");
    // It is being written to, and reads nothing.
    vm.guest.sleep(Duration::from_secs(1));
    vm.unplug();
    drop(host);
    vm.plug();
    host = again(&mut vm, "a");
    host.acknowledges();
    host.take(5);
    drop(host);
    // So that the guest sees it.
    vm.guest.sleep(Duration::from_millis(500));

    let host = unread(&mut vm, "b");
    vm.guest.sleep(Duration::from_secs(1));
    vm.qmp.run("device_del", json!({ "id": "serial" }));
    vm.qmp.event("DEVICE_DELETED", SOON, |data| data["device"] == "serial");
    drop(host);
    vm.guest.until(&format!("! ls -l /proc/{}/fd | grep -q vport", agent.pid), SOON);
    vm.qmp.run("device_add", json!({ "driver": "virtio-serial-pci", "id": "serial" }));
    vm.plug();
    let mut host = again(&mut vm, "b");
    host.acknowledges();
    host.take(5);
    assert!(agent.runs(&mut vm.guest), "the same process");
    let name = vm.guest.run("cat /sys/class/virtio-ports/*/name");
    assert_eq!(name.trim(), PORT);
    host.asks("c");
    let next = host.until(SOON, |line| line["type"] == "response");
    assert_eq!(next["id"], "c", "what was read does not come again");
}

/// A host that was told the answer to `id`, and did not say that it has read it.
fn unread(vm: &mut Vm, id: &str) -> Host {
    let mut host = vm.host();
    host.until(RETRY, is_session);
    host.asks(id);
    assert_eq!(host.until(SOON, is_answer(id)).get("redelivered"), None);
    host
}

/// The next host, which is told it again.
fn again(vm: &mut Vm, id: &str) -> Host {
    let mut host = vm.host();
    host.until(RETRY, is_session);
    let told = host.until(SOON, |line| line["type"] == "response");
    assert_eq!((&told["id"], &told["redelivered"]), (&json!(id), &json!(true)), "{told}");
    host
}

/// Other times: `INFINISERVICE_KILL_SEED=…`.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn an_agent_killed_at_any_time_runs_each_script_once_and_each_end_is_told() {
    let turn = lab::turn();
    let seed = std::env::var("INFINISERVICE_KILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut chance = Rng(seed.unwrap_or(7));
    let mut vm = Vm::boot(turn.lab);
    let mut agent = Agent::start_with_commands(&mut vm.guest);
    // To the host each restart is the same connection.
    let talk = Talk::connect(&vm.socket());
    let mut given: Vec<Script> = Vec::new();
    for number in 0..12 {
        given.push(script(number));
        let pushed = payload::pending_scripts(&given, "t");
        if number % 2 == 0 {
            talk.wait(talk.host.send(pushed)).expect("the port stays");
        }
        vm.guest.sleep(Duration::from_millis(chance.below(1_500)));
        agent.kill(&mut vm.guest);
        // The next one asks for them.
        talk.wait(talk.host.pending(given.clone())).expect("the port stays");
        agent = Agent::start_with_commands(&mut vm.guest);
    }
    let mut ends: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut hear = |last: usize| {
        talk.hear(LONG, |message| {
            if let Kind::ScriptCompletion(id) = &message.kind {
                ends.entry(id.clone()).or_default().push((*message.body).clone());
            }
            ends.len() >= last
        });
    };
    hear(given.len());
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    let ran = vm.guest.run("sort /tmp/ran | uniq -c");
    for line in ran.lines() {
        assert!(line.trim_start().starts_with("1 "), "ran twice: {ran}");
    }
    let (mut whole, mut cut) = (0, 0);
    for (id, ends) in &ends {
        let code = |end: &Value| end["exit_code"].as_i64();
        // One that a kill met accepted and not begun is told as not run, and then asked for again.
        let was_run = |end: &&Value| !end["stderr"].to_string().contains("so it was not run");
        let ends: Vec<&Value> = ends.iter().filter(was_run).collect();
        let Some(first) = ends.first().copied() else {
            cut += 1;
            continue;
        };
        match code(first) {
            Some(3) => whole += 1,
            Some(-1) => cut += 1,
            other => panic!("{id} ended with {other:?}: {ends:?}"),
        }
        assert!(ends.iter().all(|end| code(end) == code(first)), "{id}: {ends:?}");
    }
    lab::say(&format!("{whole} scripts ran to their end, {cut} were cut by a kill"));
    assert_eq!(whole + cut, given.len());
}

fn script(number: u32) -> Script {
    Script {
        execution_id: format!("k-{number}"),
        script_id: "s".to_owned(),
        script_name: "test".to_owned(),
        script_content: format!("echo k-{number} >> /tmp/ran; sleep 0.4; exit 3\n"),
        shell: Shell::Sh,
        execution_type: "ON_DEMAND".to_owned(),
        input_values: BTreeMap::new(),
        timeout_seconds: 60,
        run_as: None,
    }
}
