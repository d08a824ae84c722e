//! What the agent itself uses.

use std::fs;
use std::io::{Read as _, Write as _};

use infiniservice::metrics::collect::AgentCollector;
use infiniservice::pipeline::StageCounts;
use tokio::time::Instant;

use super::rig::{MIB, burn, close, file, number, read_well};

#[test]
fn the_agent_tells_its_own_use() {
    let nodes = || {
        vec![StageCounts { node: "metrics/batch".into(), received: 7, ..StageCounts::default() }]
    };
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
