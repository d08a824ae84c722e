//! The line for today's host: its bytes, and that this host can take it whatever was read.

use std::sync::Arc;

use infiniservice::model::{Cpu, Load, Port, Process, SystemMetrics};
use infiniservice::wire::{Format, MAX_INTEGER};
use serde_json::Value;

use super::rig::{host_reads, text};
use super::sample::{self, empty, server};

#[test]
fn the_line_for_todays_host_is_exactly_this() {
    let expected = concat!(
        r#"{"type":"metrics","timestamp":"2026-07-14T10:00:00.250Z","data":{"system":{"#,
        r#""cpu":{"usage_percent":12.346,"cores_usage":[10.0,10.333,10.667,11.0],"temperature":41.5},"#,
        r#""memory":{"total_kb":8388608,"used_kb":3145729,"available_kb":5242878,"#,
        r#""swap_total_kb":2097152,"swap_used_kb":0},"#,
        r#""disk":{"usage_stats":["#,
        r#"{"mount_point":"/","total_gb":50.0,"used_gb":20.0,"available_gb":25.0,"filesystem":"ext4"},"#,
        r#"{"mount_point":"/var/lib","total_gb":100.0,"used_gb":40.0,"available_gb":50.0,"filesystem":"ext4"}],"#,
        r#""io_stats":{"read_bytes_per_sec":0,"write_bytes_per_sec":4096,"read_ops_per_sec":0,"#,
        r#""write_ops_per_sec":1,"io_utilization_percent":0.4}},"#,
        r#""network":{"interfaces":["#,
        r#"{"name":"eth0","bytes_received":123456789,"bytes_sent":9876543,"packets_received":123456,"#,
        r#""packets_sent":98765,"errors_in":0,"errors_out":0,"#,
        r#""ip_addresses":["10.0.0.5","fe80::5054:ff:fe12:3456"],"is_up":true,"#,
        r#""bytes_received_per_sec":1234.5,"bytes_sent_per_sec":300.0,"#,
        r#""packets_received_per_sec":12.0,"packets_sent_per_sec":3.25},"#,
        r#"{"name":"lo","bytes_received":1000,"bytes_sent":1000,"packets_received":0,"packets_sent":0,"#,
        r#""errors_in":0,"errors_out":0,"ip_addresses":["127.0.0.1","::1"],"is_up":true}]},"#,
        r#""uptime_seconds":3600,"load_average":{"load_1min":0.1,"load_5min":0.22,"load_15min":0.3}},"#,
        r#""ports":[{"port":22,"protocol":"TCP","state":"LISTEN","pid":800,"process_name":"nginx","#,
        r#""exe_path":"/usr/sbin/nginx","is_listening":true,"connection_count":0}],"#,
        r#""processes":[{"pid":800,"ppid":1,"name":"postgres","exe_path":"/usr/sbin/postgres","#,
        r#""cmd_line":"/usr/sbin/postgres --config /etc/postgres.conf","cpu_percent":25.0,"#,
        r#""memory_kb":122880,"disk_read_bytes":1048576,"disk_write_bytes":4096,"status":"sleeping","#,
        r#""start_time":"2026-07-14T09:10:00.250Z"}]}}"#,
        "\n"
    );
    assert_eq!(text(Format::Infinibay, &server(1, 1)), expected);
}

#[test]
fn a_reading_without_groups_is_still_whole_and_says_what_is_missing() {
    let expected = concat!(
        r#"{"type":"metrics","timestamp":"2026-07-14T10:00:00.250Z","data":{"system":{"#,
        r#""cpu":{"usage_percent":0.0,"cores_usage":[],"temperature":null},"#,
        r#""memory":{"total_kb":0,"used_kb":0,"available_kb":0,"swap_total_kb":0,"swap_used_kb":0},"#,
        r#""disk":{"usage_stats":[],"io_stats":{"read_bytes_per_sec":0,"write_bytes_per_sec":0,"#,
        r#""read_ops_per_sec":0,"write_ops_per_sec":0,"io_utilization_percent":0.0}},"#,
        r#""network":{"interfaces":[]},"uptime_seconds":0},"#,
        r#""missing":["cpu","memory","load","disk","network"]}}"#,
        "\n"
    );
    assert_eq!(text(Format::Infinibay, &empty()), expected);
}

#[test]
fn weird_strings_arrive_as_they_are_but_for_nul() {
    let mut process = sample::process(0);
    process.name = "a\0b\"c\\d\u{7f}\u{1}".into();
    process.command_line = Some("é 😀 \u{2028}\n\t\r".into());
    let reading = SystemMetrics { processes: Some(Arc::new(vec![process])), ..empty() };
    let line = text(Format::Infinibay, &reading);
    assert!(line.is_ascii());
    assert!(line.contains(r#""name":"ab\"c\\d"#), "{line}");
    assert!(line.contains(r#""cmd_line":"\u00e9 \ud83d\ude00 \u2028\n\t\r""#), "{line}");
    let item = &host_reads(&reading)["data"]["processes"][0];
    assert_eq!(item["name"], "ab\"c\\d\u{7f}\u{1}");
    assert_eq!(item["cmd_line"], "é 😀 \u{2028}\n\t\r");
}

#[test]
fn a_number_the_host_needs_is_a_number_whatever_was_read() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        let cpu = Cpu {
            usage_percent: bad,
            cores_usage_percent: vec![bad, 50.0, 250.0],
            temperature_celsius: Some(bad),
            ..Cpu::default()
        };
        let reading = SystemMetrics {
            cpu: Some(Arc::new(cpu)),
            load: Some(Arc::new(Load {
                one: bad,
                five: bad,
                fifteen: bad,
                uptime_seconds: u64::MAX,
            })),
            ..empty()
        };
        let system = &host_reads(&reading)["data"]["system"];
        let share = if bad == f64::INFINITY { 100.0 } else { 0.0 };
        assert_eq!(system["cpu"]["usage_percent"], share);
        assert_eq!(system["cpu"]["cores_usage"], serde_json::json!([share, 50.0, 100.0]));
        let celsius = if bad == -1.0 { bad.into() } else { Value::Null };
        assert_eq!(system["cpu"]["temperature"], celsius);
        assert_eq!(system["load_average"]["load_1min"], 0.0);
        assert_eq!(system["uptime_seconds"], MAX_INTEGER);
    }
}

#[test]
fn an_item_the_host_would_refuse_is_left_out_and_the_others_stay() {
    let process = |pid, cpu_percent| Process { pid, cpu_percent, ..sample::process(0) };
    let odd_parent = Process { parent: Some(u32::MAX), ..process(2, 0.0) };
    let processes = vec![
        process(1, f64::NAN),
        process(0, 1.0),
        odd_parent,
        process(u32::MAX, 1.0),
        process(3, 950.0),
        process(4, -0.5),
    ];
    let port = |port, pid| Port { port, pid, ..sample::port(0) };
    let ports = vec![port(0, None), port(80, Some(u32::MAX)), port(81, None)];
    let reading = SystemMetrics {
        processes: Some(Arc::new(processes)),
        ports: Some(Arc::new(ports)),
        ..empty()
    };
    let data = &host_reads(&reading)["data"];
    let of = |list: &str, key: &str| -> Vec<Value> {
        data[list].as_array().unwrap().iter().map(|item| item[key].clone()).collect()
    };
    assert_eq!(of("processes", "pid"), [2, 3]);
    assert_eq!(of("processes", "ppid"), [Value::Null, 1.into()]);
    assert_eq!(of("ports", "port"), [80, 81]);
    assert_eq!(of("ports", "pid"), [Value::Null, Value::Null]);
    assert!(data["truncated"].is_null(), "left out is not cut");
}
