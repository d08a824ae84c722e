//! A host that crashes again and again while all the metrics there are want to go to it.

use std::time::{Duration, Instant};

use infiniservice::port::model::script::Op;

use super::agent::Agent;
use super::host_comes_and_goes::fatten;
use super::lab;
use super::model::Real;
use super::qemu::Vm;
use super::talk::Talk;

const SOON: Duration = Duration::from_secs(20);
const CRASHES: u32 = 200;
/// Buffers that may be lost all the same: QEMU throttles a port, too, when it writes to a host in the tenth of a
/// millisecond between that host's end and its seeing it. No guest can avoid that; it takes chance, or a host that
/// crashes on the first bytes of a line that takes two writes (there 6 and 11 of 128 were lost in 200 rounds).
const BY_CHANCE: u32 = 1;
/// How long most of them live, in the guest's clock …
const SHORT: Duration = Duration::from_millis(50);
/// … and each fifth: without the window it is sent more than lies in the socket.
const LONG: Duration = Duration::from_millis(1_200);
/// So many more hang for so long before they crash: they read nothing and say nothing. At a window a second four of
/// those seconds would fill the socket.
const HANG: (u32, Duration) = (5, Duration::from_secs(6));
/// A reading of so many fat processes is about 40 KB: as long as a line can be beside which there is room for a
/// reply.
const PROCESSES: u32 = 10;

/// A host that leaves while QEMU throttles the port takes one of its 128 buffers along for ever
/// ([`infiniservice::port::model`]), so what a host that reads nothing is let in tells how many are left.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn two_hundred_hosts_that_crash_and_some_that_hang_under_full_load_leave_the_port_its_capacity() {
    let turn = lab::turn();
    let program = turn.lab.port_script();
    let mut vm = Vm::boot_with(turn.lab, "port_script", &program);
    let before = capacity(&mut vm);
    fatten(&mut vm.guest, PROCESSES);
    let agent = Agent::start_under_load(&mut vm.guest);
    let begun = Instant::now();
    for round in 0..CRASHES {
        let host = vm.host();
        vm.guest.sleep(if round % 5 == 0 { LONG } else { SHORT });
        drop(host);
    }
    lab::say(&format!("{CRASHES} hosts crashed within {:.0?}", begun.elapsed()));
    let talk = Talk::connect(&vm.socket());
    let mut metrics = 0;
    talk.hear(SOON, |message| {
        metrics += u32::from(message.kind == infiniservice::host::Kind::Metrics);
        metrics == 20
    });
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    drop(talk);
    for _ in 0..HANG.0 {
        let host = vm.host();
        vm.guest.sleep(HANG.1);
        drop(host);
    }
    let talk = Talk::connect(&vm.socket());
    assert!(talk.ask("SystemInfo", &[], SOON).success);
    drop(talk);
    assert_eq!(agent.terminate(&mut vm.guest, SOON), 0);
    let after = capacity(&mut vm);
    lab::say(&format!("writes let in by a host that reads nothing: {before}, after them {after}"));
    assert!(before - after <= BY_CHANCE, "{before} writes, after them {after}");
}

/// How many writes go into a port whose host reads nothing.
fn capacity(vm: &mut Vm) -> u32 {
    let write = Op::Write { bytes: 200, times: 400 };
    // It takes all that was written before it leaves, which costs nothing.
    let script = [Op::Open, Op::Connect, write, Op::Take, Op::Close];
    let told = Real::new(vm).play(&script).swap_remove(2);
    let count = told.split_once(": ").and_then(|(_, told)| told.split_once(" writes"));
    count.and_then(|(count, _)| count.parse().ok()).unwrap_or_else(|| panic!("{told}"))
}
