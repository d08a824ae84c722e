//! What the agent sees of the machine's load, and what it adds to it: with no host, with one that does
//! not read, and as shipped.

use std::time::Duration;

use super::accel::KVM;
use super::agent::Agent;
use super::host_comes_and_goes::fatten;
use super::lab;
use super::qemu::Vm;
use super::shape;

const SOON: Duration = Duration::from_secs(20);

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_host_that_stops_reading_makes_the_agent_neither_spin_nor_grow_nor_stop() {
    let turn = lab::alone();
    let mut vm = Vm::boot(turn.lab);
    fatten(&mut vm.guest, 40);
    let agent = Agent::start(&mut vm.guest, "stall");
    vm.port_opened(SOON);
    vm.guest.sleep(Duration::from_secs(3));
    // What the readings themselves cost here: nobody is there, and they are overwritten.
    let alone = agent.watch(&mut vm.guest, Duration::from_secs(10));
    let mut host = vm.host();
    let before = host.take(2);
    vm.port_full();
    // And the pipeline keeps its eight lines, a megabyte together.
    vm.guest.sleep(Duration::from_secs(6));
    let (_, own) = agent.rss_kib(&mut vm.guest);
    let stalled = agent.watch(&mut vm.guest, Duration::from_secs(20));
    let (rss, now) = agent.rss_kib(&mut vm.guest);
    let grown = now.saturating_sub(own);
    lab::say(&format!(
        "stalled, {}: {:.2} % of a core ({:.2} alone), {:.1} wake-ups/s, {grown} KiB grown to {rss} KiB",
        turn.lab.accel.name,
        stalled.cpu_percent(),
        alone.cpu_percent(),
        stalled.switches_per_second(),
    ));
    // A spin is all of a core that the readings leave, whatever those cost where the emulator has to share its
    // processors.
    assert!(stalled.cpu_percent() < 1.3 * alone.cpu_percent() + 15.0, "{stalled:?}, {alone:?}");
    // Without a bound it would be five megabytes.
    assert!(grown < 3 << 10, "grew by {grown} KiB while nobody read");
    let mut lines = before;
    let stopped = shape::time(&lines[1]);
    while shape::time(&lines[lines.len() - 1]) < stopped + Duration::from_secs(25) {
        lines.push(host.metrics(SOON));
    }
    assert!(lines.is_sorted_by(|a, b| shape::time(a) < shape::time(b)), "in order, none twice");
    host.take(3);
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn a_disk_mounted_while_the_agent_runs_is_told_as_df_tells_it_and_its_traffic_is_seen() {
    let turn = lab::alone();
    let mut vm = Vm::boot(turn.lab);
    Agent::start(&mut vm.guest, "fast");
    let mut host = vm.host();
    host.take(2);
    let df = vm.guest.run(
        "mke2fs /dev/vda > /dev/null && mkdir /disk && mount -t ext2 /dev/vda /disk && \
         dd if=/dev/zero of=/disk/file bs=64k count=320 2> /dev/null && sync && \
         df -k /disk | awk 'END { print $2, $3, $4 }'",
    );
    let df: Vec<f64> = df.split_whitespace().map(|kib| kib.parse().expect("a number")).collect();
    let (mut written, mut busy) = (0, false);
    let mount = loop {
        let line = host.metrics(SOON);
        let disk = &line["data"]["system"]["disk"];
        let io = &disk["io_stats"];
        // Five times a second: each line stands for a fifth of what it says a second had.
        written += io["write_bytes_per_sec"].as_u64().expect("checked") / 5;
        busy |= io["io_utilization_percent"].as_f64().is_some_and(|percent| percent > 0.0);
        let mounts = disk["usage_stats"].as_array().expect("checked");
        let mount = mounts.iter().find(|mount| mount["mount_point"] == "/disk");
        if let Some(mount) = mount.filter(|_| written >= 18 << 20) {
            break mount.clone();
        }
    };
    assert!(busy, "the disk was busy for some of the time");
    assert_eq!(mount["filesystem"], "ext2");
    for (name, kib) in ["total_gb", "used_gb", "available_gb"].into_iter().zip(df) {
        let (told, real) = (mount[name].as_f64().expect("a number"), kib / f64::from(1 << 20));
        // Told to a thousandth of a GiB.
        assert!((told - real).abs() <= 0.000_6, "{name}: told {told} GiB, df says {real}");
    }
}

#[test]
#[ignore = "boots a VM: .ci/vm-kernel, then cargo test --test vm -- --ignored"]
fn without_a_host_the_shipped_pipelines_leave_the_machine_asleep_and_with_one_they_cost_little() {
    let turn = lab::alone();
    let mut vm = Vm::boot(turn.lab);
    let agent = Agent::start_as_shipped(&mut vm.guest);
    vm.port_opened(SOON);
    vm.guest.sleep(Duration::from_secs(5));
    // Emulation makes all that the processor does ten to thirty times as dear, and counts the time it
    // itself has to wait. A spin is 100 %, and a poll is seen in the wake-ups whatever the load.
    let cpu_max = if turn.lab.accel == KVM { 0.2 } else { 5.0 };
    let alone = agent.watch(&mut vm.guest, Duration::from_secs(30));
    let rss = agent.rss_kib(&mut vm.guest);
    lab::say(&format!(
        "as shipped, no host, {}: {:.3} % of a core, {:.2} wake-ups/s, {} KiB resident, {} of them its own",
        turn.lab.accel.name,
        alone.cpu_percent(),
        alone.switches_per_second(),
        rss.0,
        rss.1,
    ));
    assert!(alone.cpu_percent() < cpu_max, "{alone:?}");
    assert!(alone.switches_per_second() <= 2.5, "{alone:?}");
    let mut host = vm.host();
    host.metrics(Duration::from_secs(35));
    let read = agent.watch(&mut vm.guest, Duration::from_secs(60));
    let (rss, own) = agent.rss_kib(&mut vm.guest);
    lab::say(&format!(
        "as shipped, host reading, {}: {:.3} % of a core, {:.2} wake-ups/s, {rss} KiB resident, {own} of them its own",
        turn.lab.accel.name,
        read.cpu_percent(),
        read.switches_per_second(),
    ));
    host.take(1);
    assert!(read.cpu_percent() < cpu_max, "{read:?}");
    // The rest is pages of its file, which differ between builds: `cargo bench --bench agent` tells them.
    assert!(own <= 2 << 10, "{own} KiB of its own");
}
