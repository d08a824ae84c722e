//! Processes, under names that are made to mislead too.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use infiniservice::metrics::collect::{ProcessesCollector, ProcessesOptions};
use infiniservice::model::{Process, Rank};
use rustix::time::ClockId;
use tokio::time::Instant;

use super::rig::{burn, clock, close, number, read_well, tool};

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
        let idle = Self { child, _dir: dir };
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        while !idle.sleeps() {
            assert!(std::time::Instant::now() < patience, "it does not come to rest");
            std::thread::yield_now();
        }
        idle
    }

    /// Whether it has loaded its program and waits.
    fn sleeps(&self) -> bool {
        let stat = std::fs::read(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.windows(2).rposition(|two| two == b") ").unwrap() + 2;
        let command_line = std::fs::read(format!("/proc/{}/cmdline", self.child.id())).unwrap();
        // Before its `exec` it has the command line of this test.
        stat[after_name] == b'S' && command_line.windows(5).any(|part| part == b"\x00600\x00")
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn all_processes() -> ProcessesCollector {
    ProcessesCollector::new(ProcessesOptions { keep: usize::MAX, ..ProcessesOptions::default() })
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
    let mut collector =
        ProcessesCollector::new(ProcessesOptions { keep: 1000, ..ProcessesOptions::default() });
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
    let mut collector = ProcessesCollector::new(ProcessesOptions {
        keep: 3,
        by: Rank::Memory,
        ..ProcessesOptions::default()
    });
    let list = processes(&mut collector);
    assert_eq!(list.len(), 3);
    assert!(list.is_sorted_by(|a, b| a.rss_bytes >= b.rss_bytes));
}
