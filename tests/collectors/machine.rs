//! Processor, memory, load, pressure, and the facts of the host.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use infiniservice::metrics::collect::{
    CpuCollector, HostCollector, LoadCollector, MemoryCollector, PressureCollector, Tasks,
    TasksCollector,
};
use tokio::time::Instant;

use super::rig::{MIB, burn, close, file, number, read, read_well};

#[test]
fn processor_use_is_that_of_proc_stat() {
    let ticks = || -> Vec<u64> {
        let text = file("/proc/stat");
        let line = text.lines().next().unwrap().strip_prefix("cpu ").unwrap().to_owned();
        line.split_whitespace().take(8).map(|word| word.parse().unwrap()).collect()
    };
    let mut collector = CpuCollector::new();
    let before = ticks();
    assert!(read_well(&mut collector, Instant::now()).cpu.is_none(), "no interval yet, no value");
    burn(0.8);
    let cpu = read_well(&mut collector, Instant::now()).cpu.unwrap();
    let after = ticks();

    let spent: Vec<f64> =
        before.iter().zip(&after).map(|(b, a)| a.saturating_sub(*b) as f64).collect();
    let total: f64 = spent.iter().sum();
    // 10 points: one tick is 10 ms, and the two pairs of readings are not taken at once.
    close(cpu.usage_percent, (total - spent[3] - spent[4]) * 100.0 / total, 10.0);
    close(cpu.steal_percent.unwrap(), spent[7] * 100.0 / total, 10.0);
    close(cpu.iowait_percent.unwrap(), spent[4] * 100.0 / total, 10.0);
    // The counters are the kernel's: between what they were before and what they are now.
    let hertz = rustix::param::clock_ticks_per_second() as f64;
    for (state, (_, seconds)) in cpu.seconds.unwrap().states().into_iter().enumerate() {
        // iowait may step back, and idle is rounded anew.
        let between = before[state] as f64 - 100.0..=after[state] as f64 + 100.0;
        assert!(between.contains(&(seconds * hertz)), "{state}: {seconds} is not in {between:?}");
    }
    let cores = file("/proc/stat").lines().filter(|line| line.starts_with("cpu")).count() - 1;
    assert_eq!(cpu.cores_usage_percent.len(), cores);
    assert!(cpu.cores_usage_percent.iter().any(|core| *core > 0.0), "one of them ran this test");
    if !Path::new("/sys/class/hwmon").exists()
        && !Path::new("/sys/class/thermal/thermal_zone0").exists()
    {
        assert_eq!(cpu.temperature_celsius, None, "no sensor, no value");
    }
}

#[test]
fn tasks_are_counted_as_proc_has_them_and_what_is_made_between_two_readings_is_a_rate() {
    let mut collector = TasksCollector::new();
    let start = Instant::now();
    let tasks = |collector: &mut TasksCollector, now| {
        read_well(collector, now).get::<Tasks>().cloned().unwrap()
    };
    let before = number("/proc/stat", "processes ");
    let first = tasks(&mut collector, start);
    assert!(first.forks >= before && first.forks_per_sec.is_none(), "{first:?}");
    let mut zombie = Command::new("true").spawn().unwrap();
    while !file(format!("/proc/{}/stat", zombie.id())).contains(") Z") {
        std::thread::yield_now();
    }
    let (release, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let thread = std::thread::spawn(move || wait.recv());
    let second = tasks(&mut collector, start + Duration::from_secs(10));
    let after = number("/proc/stat", "processes ");
    zombie.wait().unwrap();
    drop(release);
    let _ = thread.join();
    assert!(second.zombie >= 1, "{second:?}");
    let all = second.running + second.sleeping + second.blocked + second.zombie + second.stopped;
    assert!(second.threads > all, "there is one more than there are processes: {second:?}");
    let made = second.forks - first.forks;
    assert!((2..=after - before).contains(&made), "{made}");
    assert_eq!(second.forks_per_sec, Some(made as f64 / 10.0));
    let switches = second.context_switches - first.context_switches;
    assert_eq!(second.context_switches_per_sec, Some(switches as f64 / 10.0));
}

#[test]
fn memory_is_that_of_meminfo() {
    let kib = |key| number("/proc/meminfo", key) * 1024;
    let memory = read_well(&mut MemoryCollector::new(), Instant::now()).memory.unwrap();
    let total = kib("MemTotal:");
    assert_eq!((memory.total_bytes, memory.swap_total_bytes), (total, kib("SwapTotal:")));
    assert_eq!(memory.used_bytes + memory.available_bytes, total);
    // A twentieth of all: other programs run meanwhile.
    close(memory.available_bytes as f64, kib("MemAvailable:") as f64, total as f64 / 20.0);
    let swap_used = kib("SwapTotal:") - kib("SwapFree:");
    close(memory.swap_used_bytes as f64, swap_used as f64, 64.0 * MIB as f64);
}

#[test]
fn load_and_uptime_are_those_of_proc() {
    let load = read_well(&mut LoadCollector::new(), Instant::now()).load.unwrap();
    let theirs: Vec<f64> =
        file("/proc/loadavg").split(' ').take(3).map(|word| word.parse().unwrap()).collect();
    // The one-minute load moves at most 8 % of the number of running tasks every 5 s.
    close(load.one, theirs[0], 2.0);
    close(load.five, theirs[1], 0.5);
    close(load.fifteen, theirs[2], 0.2);
    let uptime: f64 = file("/proc/uptime").split(' ').next().unwrap().parse().unwrap();
    close(load.uptime_seconds as f64, uptime, 1.1);
}

#[test]
fn pressure_is_that_of_its_files_and_its_absence_is_told_once() {
    let average = |name: &str| -> Option<f64> {
        let text = fs::read_to_string(format!("/proc/pressure/{name}")).ok()?;
        text.split_once("some avg10=")?.1.split(' ').next()?.parse().ok()
    };
    let mut collector = PressureCollector::new();
    let before = [average("cpu"), average("memory"), average("io")];
    let first = read(&mut collector, Instant::now());
    let after = [average("cpu"), average("memory"), average("io")];
    if before == [None; 3] {
        assert_eq!((first.pressure, first.troubles.len()), (None, 1));
        assert_eq!(read(&mut collector, Instant::now()).troubles, []);
        return;
    }
    let pressure = first.pressure.unwrap();
    for (at, stall) in [&pressure.cpu, &pressure.memory, &pressure.io].into_iter().enumerate() {
        let ours = stall.as_ref().map(|stall| stall.some_10s_percent);
        // The kernel brings the averages up to date when it is asked, every two seconds at most.
        assert!(ours == before[at] || ours == after[at], "{ours:?} {before:?} {after:?}");
    }
}

#[test]
fn host_facts_are_those_of_the_kernel_and_its_files() {
    let host = read_well(&mut HostCollector::new(), Instant::now()).host.unwrap();
    let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    assert_eq!(Some(host.hostname.clone()), line("/proc/sys/kernel/hostname"));
    assert_eq!(Some(host.kernel.clone()), line("/proc/sys/kernel/osrelease"));
    assert_eq!(host.boot_id, line("/proc/sys/kernel/random/boot_id"));
    assert_eq!(host.architecture, std::env::consts::ARCH);
    let id = line("/etc/machine-id").filter(|id| id.len() == 32);
    assert!(id.is_none() || host.machine_id == id);
    let btime = number("/proc/stat", "btime ");
    let boot = host.boot_time.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    close(boot.as_secs_f64(), btime as f64, 1.1);
    let cores = file("/proc/stat").lines().filter(|line| line.starts_with("cpu")).count() - 1;
    assert_eq!(host.cores, cores);
    if let Some(release) = line("/etc/os-release") {
        assert!(release.contains(&host.os), "{}", host.os);
    }
}
