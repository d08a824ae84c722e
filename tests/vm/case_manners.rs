//! How the agent behaves towards others: its own port and no other, and an orderly end.

use std::time::{Duration, Instant};

use super::agent::Agent;
use super::guest::Guest;
use super::lab;
use super::qemu::{FOREIGN, PORT, Vm};

const SOON: Duration = Duration::from_secs(20);
const RETRY: Duration = Duration::from_secs(45);
/// The shipped deadline for an orderly end is 5 s; the rest is for an emulated machine.
const END: Duration = Duration::from_secs(8);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_port_held_by_another_is_said_to_be_busy_and_taken_when_it_is_free() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let node = node(&mut vm.guest, PORT);
    let holder = vm.guest.run(&format!("sleep 9999 <> {node} & echo $!"));
    let agent = Agent::start(&mut vm.guest, "fast");
    vm.guest.until("grep -q 'another process holds port' /tmp/agent.log", SOON);
    vm.guest.sleep(Duration::from_secs(4));
    let said = vm.guest.run("grep 'holds port' /tmp/agent.log");
    assert!(said.contains(PORT), "it says which port: {said}");
    assert_eq!(said.lines().count(), 1, "said once, not at each try: {said}");
    assert!(agent.runs(&mut vm.guest));
    vm.guest.run(&format!("kill {holder}"));
    let mut host = vm.host();
    let told = host.until(RETRY, |line| line["type"] == "circuit_breaker_state");
    assert!(told["failure_count"].as_u64() >= Some(5), "{told}");
    host.take(3);
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn no_port_but_its_own_is_opened() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let (own, foreign) = (node(&mut vm.guest, PORT), node(&mut vm.guest, FOREIGN));
    let agent = Agent::start(&mut vm.guest, "fast");
    let mut host = vm.host();
    for _ in 0..5 {
        host.take(2);
        assert_eq!(
            agent.ports(&mut vm.guest),
            std::slice::from_ref(&own),
            "{foreign} is not its business"
        );
    }
    // Whoever owns the foreign port can have it.
    vm.guest.run(&format!("exec 5<> {foreign}; exec 5>&-"));
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn sigterm_hands_what_is_held_to_the_host_and_ends_with_0() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let mut host = vm.host();
    let agent = Agent::start(&mut vm.guest, "hoard");
    assert_eq!(host.line(SOON).as_deref(), Some(&b""[..]), "the port is open");
    assert_eq!(host.line(Duration::from_secs(4)), None, "nothing leaves before its time");
    assert_eq!(agent.terminate(&mut vm.guest, END), 0);
    let lines = host.take(5);
    assert_eq!(lines.len(), 5);
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn sigterm_ends_an_agent_that_nobody_reads_with_0_within_the_deadline() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start(&mut vm.guest, "fast");
    vm.port_opened(SOON);
    vm.guest.sleep(Duration::from_secs(2));
    let asked = Instant::now();
    assert_eq!(agent.terminate(&mut vm.guest, END), 0);
    lab::say(&format!("ended {:.1} s after SIGTERM", asked.elapsed().as_secs_f64()));
}

/// The device of the port with this name.
fn node(guest: &mut Guest, name: &str) -> String {
    let script = format!("grep -lx {name} /sys/class/virtio-ports/*/name");
    let path = guest.run(&script);
    let node = path.trim().rsplit('/').nth(1).unwrap_or_default();
    format!("/dev/{node}")
}
