//! What goes over the wire, byte for byte, and what no reading can make of it.
#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

mod sample;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use infiniservice::metrics::batch::estimated_bytes;
use infiniservice::model::{
    Cpu, Disk, DiskIo, Interface, InterfaceRates, Load, Memory, Mount, Network, Port, Process,
    SystemMetrics,
};
use infiniservice::wire::{Format, MAX_INTEGER, MAX_LINE};
use proptest::prelude::*;
use sample::{empty, server, trouble};
use serde_json::Value;

fn text(format: Format, reading: &SystemMetrics) -> String {
    let mut out = b"kept".to_vec();
    format.encode(reading, &mut out).unwrap();
    String::from_utf8(out).unwrap().strip_prefix("kept").unwrap().to_owned()
}

/// The reading as today's host reads it.
fn host_reads(reading: &SystemMetrics) -> Value {
    serde_json::from_str(&text(Format::Infinibay, reading)).unwrap()
}

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
fn the_other_formats_of_an_empty_reading() {
    let reading = SystemMetrics { troubles: vec![trouble("a mount hangs")], ..empty() };
    assert_eq!(
        text(Format::JsonLines, &reading),
        concat!(
            r#"{"timestamp":"2026-07-14T10:00:00.250Z","sequence":7,"#,
            r#""troubles":[{"group":"disk","what":"a mount hangs"}]}"#,
            "\n"
        )
    );
    assert_eq!(text(Format::Pretty, &reading), "2026-07-14 10:00:00Z\n    ! disk: a mount hangs\n");
    assert_eq!(
        text(Format::Influx, &reading),
        "infiniservice_trouble,group=disk,index=0 what=\"a mount hangs\" 1784023200250000000\n"
    );
    assert_eq!(text(Format::Influx, &empty()), "");
}

#[test]
fn a_person_sees_a_line_and_the_three_busiest_processes() {
    let reading = SystemMetrics { host: None, agent: None, ..server(9, 0) };
    let expected = concat!(
        "2026-07-14 10:00:00Z  web-1  cpu  12.3 %  42 C  mem    3.0 GiB of    8.0 GiB",
        "  load  0.10  0.22  0.30  /  44 %  read    0.0 B/s   write    4.0 KiB/s",
        "  eth0 in    1.2 KiB/s out  300.0 B/s\n",
        "         800   25.0 %  120.0 MiB  postgres\n",
        "         801   12.5 %   60.0 MiB  nginx\n",
        "         802    8.3 %   40.0 MiB  kworker/0:1-events\n",
    );
    assert_eq!(text(Format::Pretty, &reading), expected);
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
    let disk = Arc::new(Disk { mounts: vec![mount], io: None });
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

/// A line of InfluxDB's protocol, read by its own rules and not by ours.
#[derive(Debug, PartialEq)]
struct Point {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: Vec<(String, String)>,
    nanoseconds: i64,
}

fn parse(line: &str) -> Point {
    /// Up to an unescaped, unquoted one of `ends`: the text without escapes, and what follows.
    fn until<'a>(text: &'a str, ends: &[char], quotes: bool) -> (String, &'a str) {
        let (mut taken, mut quoted) = (String::new(), false);
        let mut rest = text.char_indices();
        while let Some((at, one)) = rest.next() {
            match one {
                '\\' => taken.extend(rest.next().map(|(_, one)| one)),
                '"' if quotes => {
                    quoted = !quoted;
                    taken.push(one);
                }
                one if !quoted && ends.contains(&one) => return (taken, &text[at..]),
                one => taken.push(one),
            }
        }
        assert!(!quoted, "open quote in {text}");
        (taken, "")
    }
    fn pairs(mut rest: &str, quotes: bool) -> (Vec<(String, String)>, &str) {
        let mut pairs = Vec::new();
        while let Some(pair) = rest.strip_prefix(',') {
            let (name, value) = until(pair, &['='], false);
            let (value, after) = until(value.strip_prefix('=').unwrap(), &[',', ' '], quotes);
            assert!(!name.is_empty() && !value.is_empty(), "empty name or value in {pair}");
            pairs.push((name, value));
            rest = after;
        }
        (pairs, rest)
    }
    let (measurement, rest) = until(line, &[',', ' '], false);
    let (tags, rest) = pairs(rest, false);
    let fields = format!(",{}", rest.strip_prefix(' ').unwrap());
    let (fields, rest) = pairs(&fields, true);
    assert!(!fields.is_empty());
    Point { measurement, tags, fields, nanoseconds: rest.trim_start().parse().unwrap() }
}

fn points(reading: &SystemMetrics) -> Vec<Point> {
    let text = text(Format::Influx, reading);
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(parse).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn line_protocol_says_what_the_reading_says() {
    let points = points(&server(1, 1));
    let of = |name: &str| points.iter().find(|point| point.measurement == name).unwrap();
    let common = [("host", "web-1"), ("vm_id", "vm-1"), ("site", "lab-1")];
    assert_eq!(of("infiniservice_cpu").tags, owned(&common));
    assert!(points.iter().all(|point| point.nanoseconds == 1_784_023_200_250_000_000));
    assert_eq!(points.iter().filter(|p| p.measurement == "infiniservice_cpu_core").count(), 4);

    let mount = of("infiniservice_mount");
    let own = [("mount_point", "/"), ("device", "/dev/vda1"), ("filesystem", "ext4")];
    assert_eq!(mount.tags, owned(&[&common[..], &own].concat()));
    let fields = [
        ("total_bytes", "53687091200i"),
        ("used_bytes", "21474836480i"),
        ("available_bytes", "26843545600i"),
    ];
    assert_eq!(mount.fields, owned(&fields));
    let process = of("infiniservice_process");
    assert!(process.fields.contains(&("status".into(), "\"sleeping\"".into())));
    assert_eq!(process.fields[0], ("cpu_percent".into(), "25".into()));
}

#[test]
fn line_protocol_survives_weird_names() {
    let cases = [
        ("a b,c=d", "a b,c=d"),
        ("line\nbreak\ttab", "line break tab"),
        ("back\\slash, end\\", "back/slash, end/"),
        ("quote\" é", "quote\" é"),
        ("", ""),
    ];
    for (name, seen) in cases {
        let interface = Interface { name: name.into(), ..Interface::default() };
        let tags = [(name.to_owned(), name.to_owned()), ("interface".into(), "mine".into())];
        let reading = SystemMetrics {
            network: Some(Arc::new(Network { interfaces: vec![interface] })),
            tags: Some(Arc::new(tags.into())),
            troubles: vec![trouble(name)],
            ..empty()
        };
        let points = points(&reading);
        let mut expected = owned(&[(seen, seen), ("interface", seen)]);
        expected.retain(|(_, value)| !value.is_empty());
        assert_eq!(points[0].tags, expected);
        let what = name.replace(['\n', '\t'], " ");
        assert_eq!(points[1].fields, owned(&[("what", &format!("\"{what}\""))]));
    }
}

#[test]
fn line_protocol_leaves_out_what_is_no_number() {
    let cpu = |usage_percent, cores_usage_percent| Cpu {
        usage_percent,
        cores_usage_percent,
        ..Cpu::default()
    };
    let reading =
        SystemMetrics { cpu: Some(Arc::new(cpu(f64::NAN, vec![f64::INFINITY, 1.0]))), ..empty() };
    let points = points(&reading);
    assert_eq!(points.len(), 1);
    assert_eq!(points[0].tags, owned(&[("core", "1")]));
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..100.0, any::<f64>()]
}

fn process() -> impl Strategy<Value = Process> {
    let ids = (any::<u32>(), any::<Option<u32>>(), any::<i64>());
    let texts = (any::<String>(), any::<Option<String>>(), any::<Option<String>>());
    let numbers = (number(), any::<u64>(), any::<Option<u64>>(), any::<Option<u64>>());
    (ids, texts, numbers).prop_map(|((pid, parent, started), texts, numbers)| Process {
        pid,
        parent,
        name: texts.0,
        executable: texts.1,
        command_line: texts.2,
        cpu_percent: numbers.0,
        rss_bytes: numbers.1,
        read_bytes: numbers.2,
        written_bytes: numbers.3,
        status: "running",
        started: match Duration::from_millis(started.unsigned_abs() / 1_000) {
            before if started < 0 => UNIX_EPOCH - before,
            after => UNIX_EPOCH + after,
        },
        uid: 0,
    })
}

fn interface() -> impl Strategy<Value = Interface> {
    let counters = (any::<u64>(), any::<u64>(), any::<u64>());
    let rates = proptest::option::of((number(), number()));
    let addresses = proptest::collection::vec(any::<std::net::IpAddr>(), 0..3);
    (any::<String>(), counters, rates, addresses, any::<bool>()).prop_map(
        |(name, counters, rates, addresses, is_up)| Interface {
            name,
            received_bytes: counters.0,
            sent_packets: counters.1,
            send_errors: counters.2,
            addresses,
            is_up,
            rates: rates.map(|(received, sent)| InterfaceRates {
                received_bytes_per_sec: received,
                sent_packets_per_sec: sent,
                ..InterfaceRates::default()
            }),
            ..Interface::default()
        },
    )
}

fn disk() -> impl Strategy<Value = Disk> {
    let mount = (any::<String>(), any::<String>(), any::<u64>(), any::<u64>());
    let mount = mount.prop_map(|(mount_point, device, total_bytes, used_bytes)| Mount {
        mount_point,
        device,
        total_bytes,
        used_bytes,
        ..Mount::default()
    });
    let io = proptest::option::of((any::<u64>(), number()));
    (proptest::collection::vec(mount, 0..3), io).prop_map(|(mounts, io)| Disk {
        mounts,
        io: io.map(|(read_bytes_per_sec, utilization_percent)| DiskIo {
            read_bytes_per_sec,
            utilization_percent,
            ..DiskIo::default()
        }),
    })
}

fn reading() -> impl Strategy<Value = SystemMetrics> {
    use proptest::collection::vec;
    use proptest::option::of;
    let cpu = (number(), vec(number(), 0..4), of(number()));
    let memory = (any::<u64>(), any::<u64>());
    let load = (number(), any::<u64>());
    let port = (any::<u16>(), any::<Option<u32>>(), any::<Option<String>>(), any::<u32>());
    (
        (of(cpu), of(memory), of(load), of(disk())),
        (of(vec(interface(), 0..3)), of(vec(process(), 0..4)), of(vec(port, 0..3))),
    )
        .prop_map(|((cpu, memory, load, disk), (interfaces, processes, ports))| {
            let port = |(port, pid, process_name, connection_count)| Port {
                port,
                protocol: "tcp",
                state: "time_wait",
                pid,
                process_name,
                connection_count,
                ..Port::default()
            };
            SystemMetrics {
                cpu: cpu.map(|(usage_percent, cores_usage_percent, temperature_celsius)| {
                    let steal_percent = None;
                    let iowait_percent = Some(usage_percent);
                    let (usage, cores) = (usage_percent, cores_usage_percent);
                    Arc::new(Cpu {
                        usage_percent: usage,
                        cores_usage_percent: cores,
                        steal_percent,
                        iowait_percent,
                        temperature_celsius,
                    })
                }),
                memory: memory.map(|(total_bytes, used_bytes)| {
                    Arc::new(Memory { total_bytes, used_bytes, ..Memory::default() })
                }),
                load: load.map(|(one, uptime_seconds)| {
                    Arc::new(Load { one, five: -one, fifteen: one / 3.0, uptime_seconds })
                }),
                disk: disk.map(Arc::new),
                network: interfaces.map(|interfaces| Arc::new(Network { interfaces })),
                processes: processes.map(Arc::new),
                ports: ports.map(|ports| Arc::new(ports.into_iter().map(port).collect())),
                ..empty()
            }
        })
}

/// What the host does with a needed number: not finite or negative is 0.
fn needed(value: f64) -> f64 {
    if value.is_finite() && value > 0.0 { value } else { 0.0 }
}

/// Every number in the line is one that the host can keep, and no text holds a NUL.
fn check(value: &Value) {
    match value {
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            assert!(number.abs() <= MAX_INTEGER as f64 + 1.0, "{number}");
        }
        Value::String(text) => assert!(!text.contains('\0')),
        Value::Array(items) => items.iter().for_each(check),
        Value::Object(fields) => fields.values().for_each(check),
        Value::Null | Value::Bool(_) => {}
    }
}

proptest! {
    #[test]
    fn any_reading_is_one_ascii_line_that_the_host_can_keep(reading in reading()) {
        let line = text(Format::Infinibay, &reading);
        prop_assert!(line.is_ascii() && line.ends_with('\n') && line.len() <= MAX_LINE);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        check(&line);

        let system = &line["data"]["system"];
        prop_assert!(system["cpu"]["usage_percent"].is_f64());
        prop_assert!(system["cpu"]["cores_usage"].is_array());
        for key in ["total_kb", "used_kb", "available_kb"] {
            prop_assert!(system["memory"][key].is_u64());
        }
        prop_assert!(system["disk"]["usage_stats"].is_array());
        prop_assert!(system["disk"]["io_stats"].is_object());
        prop_assert!(system["network"]["interfaces"].is_array());
        prop_assert!(system["uptime_seconds"].is_u64());

        if let Some(memory) = &reading.memory {
            let kib = (memory.total_bytes / 1024).min(MAX_INTEGER);
            prop_assert_eq!(&system["memory"]["total_kb"], &Value::from(kib));
        }
        if let Some(load) = &reading.load {
            let (read, sent) = (system["load_average"]["load_1min"].as_f64(), needed(load.one));
            let read = read.unwrap();
            prop_assert!((read - sent).abs() <= 0.000_6 + sent * 1e-15 || sent > 1e12, "{} {}", read, sent);
        }
        let kept = |process: &&Process| {
            (1..=i32::MAX as u32).contains(&process.pid)
                && process.cpu_percent.is_finite()
                && process.cpu_percent >= 0.0
        };
        let empty = Vec::new();
        let sent = line["data"]["processes"].as_array().unwrap_or(&empty);
        let read: Vec<_> = reading.processes.iter().flat_map(|all| all.iter().filter(kept)).collect();
        prop_assert_eq!(sent.len(), read.len());
        for (sent, read) in sent.iter().zip(read) {
            prop_assert_eq!(&sent["pid"], &Value::from(read.pid));
            prop_assert_eq!(&sent["name"], &Value::from(read.name.replace('\0', "")));
            let time = sent["start_time"].as_str().unwrap();
            prop_assert!(humantime::parse_rfc3339(time).is_ok(), "{}", time);
        }
    }

    #[test]
    fn any_reading_is_one_json_line_and_gives_its_numbers_back(reading in reading()) {
        let line = text(Format::JsonLines, &reading);
        prop_assert!(line.is_ascii() && line.ends_with('\n'));
        prop_assert_eq!(line.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(memory) = &reading.memory {
            prop_assert_eq!(&line["memory"]["used_bytes"], &Value::from(memory.used_bytes));
        }
    }

    #[test]
    fn any_reading_is_line_protocol(reading in reading()) {
        let points = points(&reading);
        let finite = |cpu: &Arc<Cpu>| {
            cpu.cores_usage_percent.iter().filter(|share| share.is_finite()).count()
        };
        let cores = reading.cpu.as_ref().map_or(0, finite);
        prop_assert_eq!(points.iter().filter(|p| p.measurement == "infiniservice_cpu_core").count(), cores);
    }

    #[test]
    fn any_reading_is_shown_without_control_characters(reading in reading()) {
        let text = text(Format::Pretty, &reading);
        prop_assert!(text.ends_with('\n'));
        prop_assert!(text.lines().all(|line| !line.contains(char::is_control)));
    }
}
