//! The port goes and comes, and the machine stands still for a while.

use std::time::Duration;

use serde_json::json;

use super::agent::Agent;
use super::lab;
use super::qemu::Vm;
use super::shape;

const SOON: Duration = Duration::from_secs(20);
/// The longest pause between two tries to open the port, and some time to do it.
const RETRY: Duration = Duration::from_secs(45);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn an_unplugged_port_is_opened_again_by_name_without_a_restart() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start(&mut vm.guest, "fast");
    let mut host = vm.host();
    host.take(3);
    for round in 0..3 {
        drop(host);
        vm.unplug();
        vm.guest.until(&format!("! ls -l /proc/{}/fd | grep -q vport", agent.pid), SOON);
        vm.plug();
        host = vm.host();
        host.metrics(RETRY);
        host.take(5);
        assert!(agent.runs(&mut vm.guest), "the same process after round {round}");
    }
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_host_that_stays_while_its_port_is_unplugged_loses_at_most_one_line() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    Agent::start(&mut vm.guest, "fast");
    let mut host = vm.host();
    host.take(3);
    for _ in 0..3 {
        vm.unplug();
        vm.plug();
        assert!(host.cut_lines(RETRY).len() <= 1);
        host.take(3);
    }
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_port_that_is_not_there_at_the_start_is_waited_for_and_no_other_is_opened() {
    let turn = lab::turn();
    let mut vm = Vm::boot_without_port(turn.lab);
    let agent = Agent::start(&mut vm.guest, "fast");
    for _ in 0..6 {
        vm.guest.sleep(Duration::from_millis(500));
        assert_eq!(agent.ports(&mut vm.guest), Vec::<String>::new());
    }
    assert!(agent.runs(&mut vm.guest), "it waits for its port");
    vm.plug();
    let mut host = vm.host();
    host.metrics(RETRY);
    host.take(3);
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_machine_that_was_stopped_goes_on_with_whole_lines() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    Agent::start(&mut vm.guest, "fast");
    let mut host = vm.host();
    let before = host.take(5);
    vm.qmp.run("stop", json!({}));
    // What was on its way may still arrive, then there is silence.
    while host.line(Duration::from_secs(2)).is_some() {}
    vm.qmp.run("cont", json!({}));
    let after = host.take(5);
    assert!(shape::time(&after[0]) > shape::time(&before[4]), "time goes on");
}
