//! The host is there first, comes late, leaves and returns.

use std::time::{Duration, SystemTime};

use super::agent::Agent;
use super::guest::Guest;
use super::lab;
use super::qemu::Vm;
use super::shape;

const SOON: Duration = Duration::from_secs(20);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_host_there_first_gets_a_bare_newline_and_then_whole_metrics_lines() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let mut host = vm.host();
    Agent::start(&mut vm.guest, "fast");
    assert_eq!(host.line(SOON).as_deref(), Some(&b""[..]), "the first line is bare");
    let lines = host.take(10);
    assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
    // What is said is what this machine is.
    let system = &lines[9]["data"]["system"];
    assert_eq!(system["cpu"]["cores_usage"].as_array().map(Vec::len), Some(2));
    let total = vm.guest.run("awk '/^MemTotal/ { print $2 }' /proc/meminfo");
    assert_eq!(system["memory"]["total_kb"].to_string(), total.trim());
    let uptime: f64 = vm.guest.run("cut -d. -f1 /proc/uptime").trim().parse().expect("a number");
    let told = system["uptime_seconds"].as_f64().expect("checked");
    assert!((uptime - told).abs() < 10.0, "up for {told} s, really {uptime} s");
    let interfaces = system["network"]["interfaces"].as_array().expect("checked");
    let dummy = interfaces.iter().find(|interface| interface["name"] == "dummy0");
    let addresses = dummy.map(|dummy| dummy["ip_addresses"].to_string()).unwrap_or_default();
    assert!(addresses.contains("\"192.0.2.10\""), "dummy0 has {addresses}");
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_host_that_comes_late_gets_the_newest_lines_at_once() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    Agent::start(&mut vm.guest, "fast");
    vm.port_opened(SOON);
    vm.guest.sleep(Duration::from_secs(6));
    let came = clock(&mut vm.guest);
    let mut host = vm.host();
    let first = host.metrics(Duration::from_secs(2));
    let mut lines = vec![first];
    lines.extend(host.take(15));
    assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
    // Eight are kept, one may be in the writer's hand: nothing older than those was waiting.
    let kept = lines.iter().filter(|line| shape::time(line) < came).count();
    assert!((1..=9).contains(&kept), "{kept} lines from before the host came");
    let oldest = came.duration_since(shape::time(&lines[0])).unwrap_or_default();
    assert!(oldest < Duration::from_secs(4), "the oldest was {oldest:?} old");
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn every_session_of_a_host_that_leaves_in_mid_line_and_is_back_at_once_starts_at_a_line() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    Agent::start(&mut vm.guest, "brisk");
    vm.port_opened(SOON);
    for _ in 0..30 {
        let mut host = vm.host();
        host.take(2);
        host.leave_in_mid_line();
    }
    vm.host().take(10);
}

/// A line of more than one write is cut in the port where the ring is full, and only a gap that the guest
/// can see tells it so: the next host comes half a second later, where today's takes three.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_long_line_that_was_cut_when_the_host_left_is_whole_for_the_next_one() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    fatten(&mut vm.guest, 100);
    Agent::start(&mut vm.guest, "long");
    vm.port_opened(SOON);
    for _ in 0..3 {
        let mut host = vm.host();
        let line = host.metrics(SOON);
        assert!(line.to_string().len() > 128 << 10, "a line is longer than four writes");
        vm.port_full();
        host.leave_in_mid_line();
        vm.guest.sleep(Duration::from_millis(500));
    }
    vm.host().take(5);
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_host_that_talks_to_an_agent_that_listens_to_nobody_still_gets_its_metrics() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    let mut host = vm.host();
    // Old commands pile up before the agent opens, and more come than any buffer on the way holds.
    host.send(b"{\"type\":\"signed\",\"v\":1}\n".repeat(100_000));
    let agent = Agent::start(&mut vm.guest, "fast");
    host.take(10);
    let taken = "awk '/bytes_received/ && $2 >= 2400000 { ok = 1 } END { exit !ok }'";
    vm.guest.until(&format!("cat /sys/kernel/debug/virtio-ports/* | {taken}"), SOON);
    host.take(5);
    assert!(agent.runs(&mut vm.guest));
}

/// To the host a restart is the same connection, so what the first agent left unfinished is closed by
/// the bare newline of the second.
#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn an_agent_killed_and_started_again_costs_a_connected_host_at_most_one_cut_line() {
    let turn = lab::turn();
    let mut vm = Vm::boot(turn.lab);
    fatten(&mut vm.guest, 100);
    let mut host = vm.host();
    for _ in 0..3 {
        let agent = Agent::start(&mut vm.guest, "long");
        assert_eq!(host.cut_lines(SOON).len(), 0);
        vm.port_full();
        vm.guest.run(&format!("kill -KILL {pid}; wait {pid} || true", pid = agent.pid));
        let agent = Agent::start(&mut vm.guest, "long");
        vm.guest.sleep(Duration::from_secs(1));
        let cut = host.cut_lines(SOON);
        assert!(cut.len() <= 1, "{} lines were cut", cut.len());
        let begins = cut.iter().flat_map(|line| line.matches("\"type\":\"metrics\"")).count();
        assert_eq!(begins, cut.len(), "a cut line stands alone");
        // A host that reads gets the last line whole. To one that does not read it is cut where the port is full, and
        // this one reads by turns.
        vm.guest.run(&format!("kill -TERM {}", agent.pid));
        let cut = host.cut_at_the_end(SOON, || !agent.runs(&mut vm.guest));
        assert!(cut.is_empty(), "an orderly end cut {cut:?}");
        assert_eq!(agent.terminate(&mut vm.guest, SOON), 0);
    }
}

/// Makes every reading of the processes long, by `processes` with 3 KB of arguments each.
pub fn fatten(guest: &mut Guest, processes: u32) {
    guest.run(&format!(
        "x=$(head -c 3000 /dev/zero | tr '\\0' x); \
         for i in $(seq {processes}); do sh -c 'sleep 9999; :' $x & done",
    ));
}

fn clock(guest: &mut Guest) -> SystemTime {
    let text = guest.run("date -u +%Y-%m-%dT%H:%M:%SZ");
    humantime::parse_rfc3339(text.trim()).expect("the guest's clock is a time")
}
