//! The host over vsock instead of virtio-serial: the agent connects, and the host listens.

use std::time::Duration;

use serde_json::json;

use super::agent::Agent;
use super::host::{is_answer, is_session};
use super::lab;
use super::qemu::Vm;
use super::shape;

const SOON: Duration = Duration::from_secs(20);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel and .ci/vm-vsock, then cargo test --test vm -- --ignored"]
fn a_host_that_leaves_and_comes_back_gets_metrics_and_answers() {
    let turn = lab::turn();
    let mut vm = Vm::boot_with_vsock(turn.lab);
    let agent = Agent::start_with_commands_over_vsock(&mut vm.guest);
    vm.guest.until("grep -q 'nobody listens at vsock 2:8460' /tmp/agent.log", SOON);
    let mut last = None;
    for session in 1..=3 {
        let listener = vm.vsock().listen();
        let mut host = listener.accept();
        assert_eq!(host.until(SOON, is_session)["context"]["session"], session);
        let id = format!("in-{session}");
        host.asks(&id);
        let answer = host.until(SOON, is_answer(&id));
        assert_eq!((&answer["success"], answer.get("redelivered")), (&json!(true), None));
        host.acknowledges();
        let lines = host.take(5);
        assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
        assert!(last < Some(shape::time(&lines[0])), "none of those of the session before");
        last = Some(shape::time(&lines[4]));
    }
    assert!(agent.runs(&mut vm.guest), "the same process in every session");
}
