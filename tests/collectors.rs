//! Each collector against an independent source on the machine that runs the test: the kernel's files
//! read here by other means, and `df`, `ps` and `ip`. A tool that is missing is said and passed over.
//! Where a value moves between two readings the tolerance stands beside the comparison.

#![allow(clippy::unwrap_used)] // in helpers of tests, which clippy.toml does not know as tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use infiniservice::metrics::collect::*;
use infiniservice::model::{Group, NodeCount, Process, Rank, SystemMetrics};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

const MIB: u64 = 1024 * 1024;

fn read(collector: &mut impl Collector, now: Instant) -> SystemMetrics {
    let mut metrics = SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(1), 0);
    collector.read(now, &mut metrics);
    metrics
}

fn read_well(collector: &mut impl Collector, now: Instant) -> SystemMetrics {
    let metrics = read(collector, now);
    assert_eq!(metrics.troubles, [], "{:?}", collector.group());
    metrics
}

/// Processor time of this process or thread, in seconds.
fn clock(id: ClockId) -> f64 {
    let time = clock_gettime(id);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Uses so many seconds of processor time, however long that takes on a busy machine. Not a pause: it
/// is what is measured.
fn burn(seconds: f64) {
    let end = clock(ClockId::ThreadCPUTime) + seconds;
    while clock(ClockId::ThreadCPUTime) < end {
        std::hint::black_box((0..1000_u64).sum::<u64>());
    }
}

/// What a tool prints; `None`, said aloud, where it is missing.
fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(name).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            println!("not compared with {name}: {error}");
            None
        }
    }
}

fn file(path: impl AsRef<Path>) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// The number in the line of a file that begins with `key`.
fn number(path: &str, key: &str) -> u64 {
    let text = file(path);
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[track_caller]
fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{ours} is not {theirs} ± {tolerance}");
}

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
fn file_systems_are_those_of_df_once_each_and_none_made_up() {
    let disk =
        read_well(&mut DiskCollector::new(DiskOptions::default()), Instant::now()).disk.unwrap();
    assert_eq!(disk.mounts[0].mount_point, "/");
    assert!(disk.io.is_none(), "no interval yet, no value");
    let places: BTreeSet<_> = disk.mounts.iter().map(|mount| &mount.mount_point).collect();
    assert_eq!(places.len(), disk.mounts.len());
    let made_up = ["proc", "sysfs", "devtmpfs", "devpts", "cgroup", "cgroup2", "squashfs"];
    assert!(disk.mounts.iter().all(|mount| !made_up.contains(&mount.filesystem.as_str())));

    let Some(df) = tool("df", &["-B1", "--output=size,used,avail,source,target"]) else { return };
    let mut compared = 0;
    for line in df.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [size, used, available, source, target] = words[..] else { continue };
        let Some(mount) = disk.mounts.iter().find(|mount| mount.mount_point == target) else {
            let elsewhere = disk.mounts.iter().any(|mount| mount.device == source);
            let is_disk = source.starts_with("/dev/") && !source.starts_with("/dev/loop");
            assert!(elsewhere || !is_disk, "df has {target}, which is left out");
            continue;
        };
        let bytes = |word: &str| word.parse::<f64>().unwrap();
        assert_eq!(mount.total_bytes as f64, bytes(size), "{target}");
        // 512 MiB: a build may be writing.
        close(mount.used_bytes as f64, bytes(used), 512.0 * MIB as f64);
        close(mount.available_bytes as f64, bytes(available), 512.0 * MIB as f64);
        compared += 1;
    }
    assert!(compared > 0, "the root at least is in df");
}

#[test]
fn an_excluded_mount_is_left_out() {
    let exclude = vec!["/*".to_owned()];
    let disk =
        read_well(&mut DiskCollector::new(DiskOptions { exclude }), Instant::now()).disk.unwrap();
    assert_eq!(disk.mounts, []);
}

/// Bytes read, bytes written of the disks that are hardware to the kernel: those with a `device`.
fn disk_bytes() -> (u64, u64) {
    let text = file("/proc/diskstats");
    text.lines().fold((0, 0), |(read, written), line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !Path::new(&format!("/sys/block/{}/device", words[2])).exists() {
            return (read, written);
        }
        let bytes = |at: usize| words[at].parse::<u64>().unwrap() * 512;
        (read + bytes(5), written + bytes(9))
    })
}

#[test]
fn disk_traffic_is_that_of_diskstats() {
    if disk_bytes() == (0, 0) {
        println!("not compared with /proc/diskstats: this machine has no disk of its own");
        return;
    }
    let mut collector = DiskCollector::new(DiskOptions::default());
    let now = Instant::now();
    let outer = disk_bytes();
    read_well(&mut collector, now);
    let inner = disk_bytes();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("disk-traffic");
    let mut written = fs::File::create(&path).unwrap();
    written.write_all(&vec![0xa5; 4 * MIB as usize]).unwrap();
    written.sync_all().unwrap();
    let inner = (disk_bytes().0 - inner.0, disk_bytes().1 - inner.1);
    // One second later as the collector sees it, so that a rate is the difference.
    let io =
        read_well(&mut collector, now + Duration::from_secs(1)).disk.unwrap().io.clone().unwrap();
    let outer = (disk_bytes().0 - outer.0, disk_bytes().1 - outer.1);
    fs::remove_file(&path).unwrap();

    // What was counted inside of the two readings ≤ ours ≤ what was counted around them.
    let within = |ours: u64, inner: u64, outer: u64| (inner..=outer).contains(&ours);
    assert!(within(io.read_bytes_per_sec, inner.0, outer.0), "{io:?} {inner:?} {outer:?}");
    assert!(within(io.write_bytes_per_sec, inner.1, outer.1), "{io:?} {inner:?} {outer:?}");
    assert!(io.write_ops_per_sec > 0 || inner.1 == 0);
    assert!((0.0..=100.0).contains(&io.utilization_percent));
}

/// Bytes received and sent by name.
fn proc_net_dev() -> BTreeMap<String, (u64, u64)> {
    let text = file("/proc/net/dev");
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let words: Vec<u64> =
            counters.split_whitespace().map(|word| word.parse().unwrap()).collect();
        Some((name.trim().to_owned(), (words[0], words[8])))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn interfaces_count_what_proc_net_dev_counts() {
    let before = proc_net_dev();
    let network = read_well(&mut NetworkCollector::new(NetworkOptions::default()), Instant::now())
        .network
        .unwrap();
    let after = proc_net_dev();
    let names: BTreeSet<_> =
        network.interfaces.iter().map(|interface| interface.name.clone()).collect();
    assert_eq!(names, after.keys().cloned().collect());
    for interface in &network.interfaces {
        let (before, after) = (before[&interface.name], after[&interface.name]);
        assert!((before.0..=after.0).contains(&interface.received_bytes), "{interface:?}");
        assert!((before.1..=after.1).contains(&interface.sent_bytes), "{interface:?}");
    }
}

#[test]
fn addresses_and_states_are_those_of_ip() {
    let Some(text) = tool("ip", &["-j", "addr"]) else { return };
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let network = read_well(&mut NetworkCollector::new(NetworkOptions::default()), Instant::now())
        .network
        .unwrap();
    let theirs = theirs.as_array().unwrap();
    assert_eq!(network.interfaces.len(), theirs.len());
    for link in theirs {
        let name = link["ifname"].as_str().unwrap();
        let ours = network.interfaces.iter().find(|interface| interface.name == name).unwrap();
        let addresses: Vec<IpAddr> = link["addr_info"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|address| address.get("dadfailed").is_none())
            .map(|address| address["local"].as_str().unwrap().parse().unwrap())
            .collect();
        assert_eq!(ours.addresses, addresses, "{name}");
        let flag = |flag: &str| link["flags"].as_array().unwrap().iter().any(|has| has == flag);
        assert_eq!(ours.is_up, flag("UP") && !flag("NO-CARRIER"), "{name}");
    }
}

#[test]
fn loopback_comes_after_real_interfaces_and_an_excluded_one_not_at_all() {
    let names = |exclude: &[&str]| -> Vec<String> {
        let exclude = exclude.iter().map(|name| (*name).to_owned()).collect();
        let mut collector = NetworkCollector::new(NetworkOptions { exclude });
        let network = read_well(&mut collector, Instant::now()).network.unwrap();
        network.interfaces.iter().map(|interface| interface.name.clone()).collect()
    };
    let all = names(&[]);
    let after_lo = all.iter().skip_while(|name| *name != "lo").skip(1);
    for name in after_lo {
        assert!(
            !Path::new(&format!("/sys/class/net/{name}/device")).exists(),
            "{name} is hardware"
        );
    }
    assert!(!names(&["lo"]).contains(&"lo".to_owned()));
    assert!(names(&["*"]).is_empty());
}

/// A process of our own that does nothing, under a name of our choice; ends with its owner.
struct Idle {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Idle {
    fn named(name: &[u8], argument: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(std::ffi::OsStr::from_bytes(name));
        let program =
            ["/bin/sleep", "/usr/bin/sleep"].into_iter().find(|path| Path::new(path).exists());
        std::os::unix::fs::symlink(program.unwrap(), &path).unwrap();
        let child =
            Command::new(&path).args(["600", argument]).stdin(Stdio::null()).spawn().unwrap();
        Self { child, _dir: dir }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all_processes() -> ProcessesCollector {
    ProcessesCollector::new(ProcessesOptions { keep: usize::MAX, by: Rank::Cpu })
}

/// The second reading, a second after the first as the collector sees it.
fn processes(collector: &mut ProcessesCollector) -> Vec<Process> {
    let now = Instant::now();
    assert!(read_well(collector, now).processes.is_none(), "no interval yet, no list");
    read_well(collector, now + Duration::from_secs(1)).processes.unwrap().to_vec()
}

#[test]
fn a_process_is_told_as_ps_tells_it() {
    let idle = Idle::named(b"idle-process", "1");
    let pid = idle.child.id();
    let list = processes(&mut all_processes());
    let ours = list.iter().find(|process| process.pid == pid).unwrap();
    assert_eq!(ours.name, "idle-process");
    assert_eq!(ours.parent, Some(std::process::id()));
    assert!(ours.command_line.as_ref().unwrap().ends_with("/idle-process 600 1"), "{ours:?}");
    let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(ours.executable.as_deref(), executable.to_str());
    assert_eq!((ours.status, ours.cpu_percent), ("sleeping", 0.0));
    assert_eq!(ours.read_bytes, Some(number(&format!("/proc/{pid}/io"), "read_bytes:")));

    let fields = ["-o", "ppid=,euid=,rss=,etimes=", "-p", &pid.to_string()];
    let Some(ps) = tool("ps", &fields) else { return };
    let words: Vec<u64> = ps.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let [ppid, uid, rss, elapsed] = words[..] else { panic!("ps says {ps:?}") };
    assert_eq!((ours.parent, u64::from(ours.uid)), (Some(ppid as u32), uid));
    // The kernel counts pages per thread and adds them up now and then: 64 pages of play.
    close(ours.rss_bytes as f64, rss as f64 * 1024.0, 256.0 * 1024.0);
    let age = SystemTime::now().duration_since(ours.started).unwrap();
    close(age.as_secs_f64(), elapsed as f64, 1.6);
}

#[test]
fn a_process_may_call_itself_anything() {
    let names: [&[u8]; 4] = [b"a) R 1 (b", b"two words", b"line\nbreak", b"\xff\xfe) S 0"];
    let idle: Vec<_> = names.iter().map(|name| Idle::named(name, "2")).collect();
    let list = processes(&mut all_processes());
    for (name, idle) in names.iter().zip(&idle) {
        let ours = list.iter().find(|process| process.pid == idle.child.id()).unwrap();
        assert_eq!(ours.name, String::from_utf8_lossy(name));
        assert_eq!((ours.parent, ours.status), (Some(std::process::id()), "sleeping"));
    }
}

#[test]
fn every_process_that_ps_has_is_told_and_one_that_has_ended_is_no_trouble() {
    let mut collector = all_processes();
    let idle = Idle::named(b"short-lived", "3");
    let pid = idle.child.id();
    let list = processes(&mut collector);
    assert!(list.iter().any(|process| process.pid == pid));
    drop(idle);
    let later =
        read_well(&mut collector, Instant::now() + Duration::from_secs(2)).processes.unwrap();
    assert!(later.iter().all(|process| process.pid != pid));
    assert!(
        later.iter().all(|process| !process.name.contains('\0') && process.cpu_percent.is_finite())
    );

    let Some(ps) = tool("ps", &["-eo", "pid=,ppid=,euid="]) else { return };
    let theirs: BTreeMap<u32, (u32, u32)> = ps
        .lines()
        .map(|line| {
            let words: Vec<u32> =
                line.split_whitespace().map(|word| word.parse().unwrap()).collect();
            (words[0], (words[1], words[2]))
        })
        .collect();
    let told: Vec<_> = later.iter().filter(|process| theirs.contains_key(&process.pid)).collect();
    let agree = told.iter().filter(|p| theirs[&p.pid] == (p.parent.unwrap_or(0), p.uid)).count();
    // Nine in ten: others start, end and are inherited between the two readings.
    assert!(told.len() * 10 >= theirs.len() * 9, "{} of {}", told.len(), theirs.len());
    assert!(agree * 10 >= told.len() * 9, "{agree} of {}", told.len());
}

#[test]
fn processor_time_of_a_process_is_that_of_its_own_clock() {
    let clock = || clock(ClockId::ProcessCPUTime);
    let mut collector = ProcessesCollector::new(ProcessesOptions { keep: 1000, by: Rank::Cpu });
    let (outer, start) = (clock(), Instant::now());
    read_well(&mut collector, start);
    let inner = clock();
    burn(0.5);
    let (inner, now) = (clock() - inner, Instant::now());
    let list = read_well(&mut collector, now).processes.unwrap();
    let outer = clock() - outer;
    let ours = list.iter().find(|process| process.pid == std::process::id()).unwrap();
    let ours = ours.cpu_percent / 100.0 * (now - start).as_secs_f64();
    // What was spent inside of the two readings ≤ ours ≤ what was spent around them, give or take two
    // ticks of 10 ms. Other tests of this process run at the same time, in all three figures.
    assert!((inner - 0.02..=outer + 0.02).contains(&ours), "{inner} {ours} {outer}");
    assert!(ours >= 0.45, "{ours}");
    assert!(list.is_sorted_by(|a, b| a.cpu_percent >= b.cpu_percent), "the busiest first");
}

#[test]
fn as_many_processes_are_kept_as_asked_for_and_by_memory_the_largest() {
    let mut collector = ProcessesCollector::new(ProcessesOptions { keep: 3, by: Rank::Memory });
    let list = processes(&mut collector);
    assert_eq!(list.len(), 3);
    assert!(list.is_sorted_by(|a, b| a.rss_bytes >= b.rss_bytes));
}

#[test]
fn ports_are_told_with_their_process_and_connections() {
    let mut collector = PortsCollector::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0").ok();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for round in 0..3 {
        let clients: Vec<_> =
            (0..round).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        let servers: Vec<_> = (0..round).map(|_| listener.accept().unwrap().0).collect();
        let ports = read_well(&mut collector, Instant::now()).ports.unwrap();
        assert!(ports.is_sorted_by(|a, b| a.is_listening >= b.is_listening), "listening first");
        let mine = |number: u16, protocol: &str, state: &str| {
            let found =
                ports.iter().filter(|p| (p.port, p.protocol, p.state) == (number, protocol, state));
            let found: Vec<_> = found.cloned().collect();
            assert!(found.len() <= 1, "one row for each: {found:?}");
            found.into_iter().next()
        };
        let listening = mine(port, "tcp", "listen").unwrap();
        assert_eq!((listening.is_listening, listening.connection_count), (true, round));
        let connected = mine(port, "tcp", "established").map_or(0, |port| port.connection_count);
        assert_eq!(connected, round);
        let datagrams = mine(udp.local_addr().unwrap().port(), "udp", "unconnected").unwrap();
        assert!(datagrams.is_listening);
        let executable = std::env::current_exe().unwrap();
        for own in [listening, datagrams] {
            assert_eq!(own.pid, Some(std::process::id()));
            assert_eq!(own.executable.as_deref(), executable.to_str());
            assert_eq!(own.process_name.as_deref(), Some(file("/proc/self/comm").trim_end()));
        }
        if let Some(six) = &six {
            assert!(mine(six.local_addr().unwrap().port(), "tcp", "listen").is_some());
        }
        drop((clients, servers));
    }
    drop(listener);
    let ports = read_well(&mut collector, Instant::now()).ports.unwrap();
    assert!(ports.iter().all(|own| own.port != port || !own.is_listening), "closed, and gone");
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
fn the_agent_tells_its_own_use() {
    let nodes =
        || vec![NodeCount { node: "metrics/batch".into(), taken: 7, ..NodeCount::default() }];
    let ticks = || {
        let stat = file("/proc/self/stat");
        let words: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    };
    let mut collector = AgentCollector::new(Box::new(nodes));
    let start = Instant::now();
    let first = read_well(&mut collector, start).agent.unwrap();
    assert_eq!((first.cpu_percent, first.version), (None, env!("CARGO_PKG_VERSION")));
    burn(0.3);
    // Something to wake up from: a byte that another thread sends.
    let (mut here, mut there) = std::os::unix::net::UnixStream::pair().unwrap();
    let sender = std::thread::spawn(move || {
        burn(0.02);
        there.write_all(b"x").unwrap();
    });
    here.read_exact(&mut [0]).unwrap();
    sender.join().unwrap();
    let (before, now) = (ticks(), Instant::now());
    let agent = read_well(&mut collector, now).agent.unwrap();
    let after = ticks();
    assert_eq!(agent.nodes, nodes());
    // The kernel's two counts differ by the tick in progress of each thread.
    assert!(
        (before - 0.1..=after + 0.1).contains(&agent.cpu_seconds),
        "{before} {agent:?} {after}"
    );
    let spent = agent.cpu_seconds - first.cpu_seconds;
    assert!(spent >= 0.32, "{spent}");
    close(agent.cpu_percent.unwrap(), spent * 100.0 / (now - start).as_secs_f64(), 0.001);
    assert!(agent.wakeups > first.wakeups, "{} {}", first.wakeups, agent.wakeups);
    let rss = number("/proc/self/status", "VmRSS:") as f64 * 1024.0;
    // Other tests of this process take and give back memory meanwhile.
    close(agent.rss_bytes as f64, rss, rss * 0.5 + MIB as f64);
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as f64;
    close(agent.descriptors as f64, open, 60.0);
    assert!(agent.descriptors >= 3);
    assert!(agent.uptime_seconds < 600);
}

#[test]
fn options_are_words_of_a_file_and_unknown_ones_are_refused() {
    let options: ProcessesOptions = toml::from_str("keep = 50\nby = \"memory\"").unwrap();
    assert_eq!(options, ProcessesOptions { keep: 50, by: Rank::Memory });
    assert_eq!(
        toml::from_str::<ProcessesOptions>("").unwrap(),
        ProcessesOptions { keep: 20, by: Rank::Cpu }
    );
    assert!(toml::from_str::<ProcessesOptions>("by = \"Cpu\"").is_err());
    assert!(toml::from_str::<ProcessesOptions>("kept = 5").is_err());
    let options: NetworkOptions = toml::from_str("exclude = [\"lo\", \"veth*\"]").unwrap();
    assert_eq!(options.exclude, ["lo", "veth*"]);
    assert!(toml::from_str::<NetworkOptions>("only = []").is_err());
    assert_eq!(toml::from_str::<DiskOptions>("").unwrap(), DiskOptions::default());
    assert!(toml::from_str::<DiskOptions>("mounts = []").is_err());
}

#[test]
fn each_collector_fills_the_group_it_names() {
    let mut collectors: [Box<dyn Collector>; 10] = [
        Box::new(CpuCollector::new()),
        Box::new(MemoryCollector::new()),
        Box::new(LoadCollector::new()),
        Box::new(DiskCollector::new(DiskOptions::default())),
        Box::new(NetworkCollector::new(NetworkOptions::default())),
        Box::new(ProcessesCollector::new(ProcessesOptions::default())),
        Box::new(PortsCollector::new()),
        Box::new(HostCollector::new()),
        Box::new(PressureCollector::new()),
        Box::new(AgentCollector::new(Box::new(Vec::new))),
    ];
    let groups: Vec<_> = collectors.iter().map(|collector| collector.group()).collect();
    assert_eq!(groups, Group::ALL);
    let start = Instant::now();
    for second in 0..2 {
        for collector in &mut collectors {
            let now = start + Duration::from_secs(second);
            let mut metrics =
                SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(1), 0);
            collector.read(now, &mut metrics);
            for group in Group::ALL {
                assert!(group == collector.group() || !metrics.has(group), "{group:?}");
            }
            let needs_psi =
                collector.group() == Group::Pressure && !Path::new("/proc/pressure").exists();
            if second == 1 && collector.group() != Group::Cpu && !needs_psi {
                assert!(metrics.has(collector.group()), "{:?}", collector.group());
            }
        }
    }
}
