//! Interfaces, and the ports that programs listen at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;

use infiniservice::metrics::collect::{NetworkCollector, NetworkOptions, PortsCollector};
use tokio::time::Instant;

use super::rig::{file, read_well, tool};

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
