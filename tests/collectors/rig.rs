//! What the tests of the collectors share: one reading of one, and the other source of the same fact.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use infiniservice::metrics::collect::Collector;
use infiniservice::model::SystemMetrics;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

pub const MIB: u64 = 1024 * 1024;

pub fn read(collector: &mut impl Collector, now: Instant) -> SystemMetrics {
    let mut metrics = SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(1), 0);
    collector.read(now, &mut metrics);
    metrics
}

pub fn read_well(collector: &mut impl Collector, now: Instant) -> SystemMetrics {
    let metrics = read(collector, now);
    assert_eq!(metrics.troubles, [], "{:?}", collector.group());
    metrics
}

/// Processor time of this process or thread, in seconds.
pub fn clock(id: ClockId) -> f64 {
    let time = clock_gettime(id);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Uses so many seconds of processor time, however long that takes on a busy machine. Not a pause: it
/// is what is measured.
pub fn burn(seconds: f64) {
    let end = clock(ClockId::ThreadCPUTime) + seconds;
    while clock(ClockId::ThreadCPUTime) < end {
        std::hint::black_box((0..1000_u64).sum::<u64>());
    }
}

/// What a tool prints; `None`, said aloud, where it is missing.
pub fn tool(name: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(name).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            println!("not compared with {name}: {error}");
            None
        }
    }
}

pub fn file(path: impl AsRef<Path>) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// The number in the line of a file that begins with `key`.
pub fn number(path: &str, key: &str) -> u64 {
    let text = file(path);
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[track_caller]
pub fn close(ours: f64, theirs: f64, tolerance: f64) {
    assert!((ours - theirs).abs() <= tolerance, "{ours} is not {theirs} ± {tolerance}");
}
