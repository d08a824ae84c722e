//! A host that crashes again and again while all the metrics there are want to go to it.

use std::time::{Duration, Instant};

use infiniservice::port::model::script::Op;

use super::agent::Agent;
use super::host::is_session;
use super::lab;
use super::model::Real;
use super::qemu::Vm;
use super::talk::Talk;

const SOON: Duration = Duration::from_secs(20);
const CRASHES: u32 = 200;
/// How long each of them lives, in the guest's clock: without the window it is written far more than lies in the
/// socket.
const LIFE: Duration = Duration::from_millis(100);

/// A host that leaves while QEMU throttles the port takes one of its 128 buffers along for ever
/// ([`infiniservice::port::model`]), so what a host that reads nothing is let in tells how many are left.
#[test]
fn two_hundred_hosts_that_crash_under_full_load_leave_the_port_its_capacity() {
    let Some(turn) = lab::turn() else { return };
    let program = turn.lab.port_script();
    let mut vm = Vm::boot_with(turn.lab, "port_script", &program);
    let before = capacity(&mut vm);
    let agent = Agent::start_under_load(&mut vm.guest);
    let begun = Instant::now();
    for round in 0..CRASHES {
        let mut host = vm.host();
        vm.guest.sleep(LIFE);
        match round % 4 {
            0 => host.leave_in_mid_line(),
            1 => drop(host.until(SOON, is_session)),
            _ => drop(host),
        }
    }
    lab::say(&format!("{CRASHES} hosts crashed within {:.0?}", begun.elapsed()));
    let talk = Talk::connect(&vm.socket());
    let mut metrics = 0;
    talk.hear(SOON, |message| {
        metrics += u32::from(message.kind == infiniservice::host::Kind::Metrics);
        metrics == 500
    });
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    drop(talk);
    assert_eq!(agent.terminate(&mut vm.guest, SOON), 0);
    let after = capacity(&mut vm);
    lab::say(&format!("a host that reads nothing: {before}; after them: {after}"));
    assert_eq!(before, after);
}

/// What goes into a port whose host reads nothing: how many writes.
fn capacity(vm: &mut Vm) -> String {
    let write = Op::Write { bytes: 200, times: 400 };
    // It takes all that was written before it leaves, which costs nothing.
    let script = [Op::Open, Op::Connect, write, Op::Take, Op::Close];
    Real::new(vm).play(&script).swap_remove(2)
}
