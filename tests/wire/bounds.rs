//! How long a line may be, what is cut to fit, and how well its length is guessed before.

use std::sync::Arc;

use infiniservice::metrics::batch::estimated_bytes;
use infiniservice::model::{Disk, Mount, SystemMetrics};
use infiniservice::wire::{Format, MAX_LINE};

use super::rig::{host_reads, text};
use super::sample::{self, empty, server};

#[test]
fn a_list_ends_at_a_thousand_items_and_says_so() {
    let data = host_reads(&server(1_002, 1_000))["data"].take();
    assert_eq!(data["processes"].as_array().unwrap().len(), 1_000);
    assert_eq!(data["ports"].as_array().unwrap().len(), 1_000);
    assert_eq!(data["truncated"], serde_json::json!({"ports": 0, "processes": 2}));
}

#[test]
fn a_line_that_would_be_too_long_loses_processes_before_ports() {
    let mut long = sample::process(0);
    // 24 KiB each as \u escapes.
    long.command_line = Some("é".repeat(4_096));
    let reading = SystemMetrics { processes: Some(Arc::new(vec![long; 900])), ..server(0, 900) };
    let line = text(Format::Infinibay, &reading);
    assert!(line.len() <= MAX_LINE && line.len() > MAX_LINE - 30_000, "{}", line.len());
    let data = host_reads(&reading)["data"].take();
    assert_eq!(data["ports"].as_array().unwrap().len(), 900);
    let kept = data["processes"].as_array().unwrap().len() as u64;
    assert!(kept > 20);
    assert_eq!(data["truncated"], serde_json::json!({"ports": 0, "processes": 900 - kept}));
}

#[test]
fn what_cannot_be_cut_to_fit_is_refused_and_leaves_no_trace() {
    let mount = Mount { mount_point: "/x".repeat(1 << 20), ..Mount::default() };
    let disk = Arc::new(Disk { mounts: vec![mount], ..Disk::default() });
    let reading = SystemMetrics { disk: Some(disk), ..empty() };
    for format in Format::ALL {
        let mut out = b"kept".to_vec();
        let refused = format.encode(&reading, &mut out).unwrap_err();
        assert_eq!((refused.reason(), out.as_slice()), ("oversize", &b"kept"[..]), "{format:?}");
    }
}

#[test]
fn the_estimate_is_within_a_factor_of_two_of_the_line() {
    for (processes, ports) in [(0, 0), (3, 0), (20, 10), (50, 0), (0, 50), (300, 100)] {
        let reading = server(processes, ports);
        let (estimate, line) = (estimated_bytes(&reading), text(Format::Infinibay, &reading).len());
        assert!(estimate < line * 2 && line < estimate * 2, "{estimate} for {line}");
    }
    let slow = SystemMetrics { processes: None, ports: None, ..server(0, 0) };
    let (estimate, line) = (estimated_bytes(&slow), text(Format::Infinibay, &slow).len());
    assert!(estimate < line * 2 && line < estimate * 2, "{estimate} for {line}");
}
