//! What the collectors leave behind in the process: alone in its file, because it counts what the whole
//! process holds.

#![allow(clippy::unwrap_used)] // in helpers of tests, which clippy.toml does not know as tests

use std::time::{Duration, SystemTime};

use infiniservice::metrics::collect::*;
use infiniservice::model::SystemMetrics;
use tokio::time::Instant;

fn held() -> (usize, usize) {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    (count("fd"), count("task"))
}

#[test]
fn reading_holds_a_bounded_number_of_descriptors_and_no_thread() {
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
    let (descriptors, threads) = held();
    let start = Instant::now();
    for second in 0..5 {
        let now = start + Duration::from_secs(second);
        let mut metrics = SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(1), 0);
        collectors.iter_mut().for_each(|collector| collector.read(now, &mut metrics));
        let has_remote_mount = metrics
            .disk
            .as_ref()
            .is_some_and(|disk| disk.mounts.iter().any(|mount| !mount.device.starts_with("/dev/")));
        let (descriptors_now, threads_now) = held();
        // /proc for the processes and for the owners of sockets; a netlink socket for each family; and those of
        // processes that are kept open (the bound is in docs/architecture.md).
        let kept = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .current
            .unwrap_or(u64::MAX)
            / 4;
        let most = descriptors + 4 + kept.min(256) as usize;
        assert!(descriptors_now <= most, "{descriptors} {descriptors_now}");
        assert!(threads_now == threads || has_remote_mount, "{threads} {threads_now}");
    }
}
