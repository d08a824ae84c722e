//! The host is there first, comes late, leaves and returns.

use std::time::{Duration, SystemTime};

use super::agent::Agent;
use super::guest::Guest;
use super::lab;
use super::pipelines::{FAST, HEAVY};
use super::qemu::Vm;
use super::shape;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_host_there_first_gets_a_bare_newline_and_then_whole_metrics_lines() {
    let Some(turn) = lab::turn() else { return };
    let mut vm = Vm::boot(turn.lab, &[FAST]);
    let mut host = vm.host();
    Agent::start(&mut vm.guest, "--pipelines /pipelines/fast.toml");
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
fn a_host_that_comes_late_gets_the_newest_lines_at_once() {
    let Some(turn) = lab::turn() else { return };
    let mut vm = Vm::boot(turn.lab, &[FAST]);
    Agent::start(&mut vm.guest, "--pipelines /pipelines/fast.toml");
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
fn every_session_of_a_host_that_leaves_in_mid_line_starts_at_a_line() {
    let Some(turn) = lab::turn() else { return };
    let mut vm = Vm::boot(turn.lab, &[HEAVY]);
    fatten(&mut vm.guest);
    Agent::start(&mut vm.guest, "--pipelines /pipelines/heavy.toml");
    vm.port_opened(SOON);
    for _ in 0..10 {
        let mut host = vm.host();
        let line = host.metrics(SOON);
        assert!(line.to_string().len() > 64 << 10, "a line is longer than two writes");
        host.leave_in_mid_line();
    }
    vm.host().take(10);
}

#[test]
fn a_host_that_comes_and_goes_unread_a_hundred_and_fifty_times_does_not_wedge_the_port() {
    let Some(turn) = lab::turn() else { return };
    let mut vm = Vm::boot(turn.lab, &[HEAVY]);
    fatten(&mut vm.guest);
    Agent::start(&mut vm.guest, "--pipelines /pipelines/heavy.toml");
    vm.port_opened(SOON);
    for _ in 0..150 {
        let _unread = vm.host();
        vm.guest.sleep(Duration::from_millis(150));
    }
    vm.host().take(10);
}

/// Makes every reading of the processes long: forty of them with 3 KB of arguments.
pub fn fatten(guest: &mut Guest) {
    guest.run(
        "x=$(head -c 3000 /dev/zero | tr '\\0' x); \
         for i in $(seq 40); do sh -c 'sleep 9999; :' $x & done",
    );
}

fn clock(guest: &mut Guest) -> SystemTime {
    let text = guest.run("date -u +%Y-%m-%dT%H:%M:%SZ");
    humantime::parse_rfc3339(text.trim()).expect("the guest's clock is a time")
}
