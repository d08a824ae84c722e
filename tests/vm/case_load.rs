//! What the agent costs the machine: with no host, with one that does not read, and as shipped.

use std::time::Duration;

use super::accel::KVM;
use super::agent::Agent;
use super::host_comes_and_goes::fatten;
use super::lab;
use super::pipelines::HEAVY;
use super::qemu::Vm;
use super::shape;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_host_that_stops_reading_makes_the_agent_neither_spin_nor_grow_nor_stop() {
    let Some(turn) = lab::turn() else { return };
    let mut vm = Vm::boot(turn.lab, &[HEAVY]);
    fatten(&mut vm.guest);
    let agent = Agent::start(&mut vm.guest, "--pipelines /pipelines/heavy.toml");
    let mut host = vm.host();
    // What it costs while somebody reads is what it may cost while nobody does.
    let before = host.take(10);
    vm.guest.sleep(Duration::from_secs(3));
    let rss = agent.rss_kib(&mut vm.guest);
    let stalled = agent.watch(&mut vm.guest, Duration::from_secs(10));
    let grown = agent.rss_kib(&mut vm.guest).saturating_sub(rss);
    lab::say(&format!(
        "stalled: {:.2} % of a core, {:.1} wake-ups/s, {grown} KiB grown to {} KiB",
        stalled.cpu_percent(),
        stalled.switches_per_second(),
        rss + grown,
    ));
    assert!(grown < 2048, "grew by {grown} KiB while nobody read");
    let lines = host.take(40);
    assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
    let gone_by = shape::time(&lines[39]).duration_since(shape::time(&before[9]));
    assert!(gone_by.unwrap_or_default() > Duration::from_secs(12), "it is at the present again");
}

#[test]
fn without_a_host_the_shipped_pipelines_leave_the_machine_asleep_and_with_one_they_cost_little() {
    let Some(turn) = lab::turn() else { return };
    let mut vm = Vm::boot(turn.lab, &[]);
    let agent = Agent::start(&mut vm.guest, "");
    vm.port_opened(SOON);
    vm.guest.sleep(Duration::from_secs(5));
    // Emulation makes everything the processor does ten to thirty times as dear.
    let cpu_max = if turn.lab.accel == KVM { 0.1 } else { 1.0 };
    let alone = agent.watch(&mut vm.guest, Duration::from_secs(30));
    lab::say(&format!(
        "as shipped, no host, {}: {:.3} % of a core, {:.2} wake-ups/s, {} KiB resident",
        turn.lab.accel.name,
        alone.cpu_percent(),
        alone.switches_per_second(),
        agent.rss_kib(&mut vm.guest),
    ));
    assert!(alone.cpu_percent() < cpu_max, "{alone:?}");
    assert!(alone.switches_per_second() <= 2.5, "{alone:?}");
    let mut host = vm.host();
    host.metrics(Duration::from_secs(35));
    let read = agent.watch(&mut vm.guest, Duration::from_secs(60));
    let rss = agent.rss_kib(&mut vm.guest);
    lab::say(&format!(
        "as shipped, host reading, {}: {:.3} % of a core, {:.2} wake-ups/s, {rss} KiB resident",
        turn.lab.accel.name,
        read.cpu_percent(),
        read.switches_per_second(),
    ));
    host.take(1);
    assert!(read.cpu_percent() < cpu_max, "{read:?}");
    assert!(rss <= 5 << 10, "{rss} KiB resident");
}
