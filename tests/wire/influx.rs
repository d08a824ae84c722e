//! InfluxDB's line protocol, read back by its own rules.

use std::sync::Arc;

use infiniservice::model::{Cpu, Interface, Network, SystemMetrics};
use infiniservice::wire::Format;

use super::rig::text;
use super::sample::{empty, server, trouble};

/// A line of InfluxDB's protocol, read by its own rules and not by ours.
#[derive(Debug, PartialEq)]
pub struct Point {
    pub measurement: String,
    pub tags: Vec<(String, String)>,
    pub fields: Vec<(String, String)>,
    pub nanoseconds: i64,
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

pub fn points(reading: &SystemMetrics) -> Vec<Point> {
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
    let names: Vec<_> = process.tags.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["host", "vm_id", "site", "name"], "a process id would be a series each");
}

#[test]
fn lines_of_one_reading_never_overwrite_each_other() {
    let mut reading = server(4, 3);
    let processes = Arc::make_mut(reading.processes.as_mut().unwrap());
    processes.iter_mut().for_each(|process| process.name = "sh".into());
    let points = points(&reading);
    let mut keys: Vec<_> = points.iter().map(|point| (&point.measurement, &point.tags)).collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
    let instances: Vec<_> = points
        .iter()
        .filter(|point| point.measurement == "infiniservice_process")
        .map(|point| {
            point.tags.iter().find(|(name, _)| name == "instance").map(|tag| tag.1.as_str())
        })
        .collect();
    assert_eq!(instances, [None, Some("1"), Some("2"), Some("3")]);
    assert!(points.iter().any(|point| point.fields.iter().any(|(name, _)| name == "pid")));
}

#[test]
fn a_tag_cannot_take_the_name_of_anything_that_a_line_has() {
    for point in points(&server(2, 2)) {
        for (name, _) in point.tags.iter().filter(|(name, _)| name != "site").chain(&point.fields) {
            assert!(Format::Influx.refused_tag(name).is_some(), "{name}");
        }
    }
    for name in ["status", "total_bytes", "_field", "_measurement", "time", "_\tx"] {
        assert!(Format::Influx.refused_tag(name).is_some(), "{name}");
        let reading = SystemMetrics {
            tags: Some(Arc::new([(name.to_owned(), "x".to_owned())].into())),
            ..server(0, 0)
        };
        assert!(points(&reading).iter().all(|point| point.tags.iter().all(|tag| tag.1 != "x")));
    }
    assert_eq!(Format::Influx.refused_tag("site"), None);
    assert_eq!(Format::JsonLines.refused_tag("status"), None);
}

#[test]
fn a_float_is_as_short_as_it_can_be_and_reads_back() {
    for value in [0.0, 0.1, 33.300000000000004, 1e-7, 5e-324, 1e16, 1.7e300, -2.5, 123456789.0] {
        let cpu = Cpu { usage_percent: value, ..Cpu::default() };
        let reading = SystemMetrics { cpu: Some(Arc::new(cpu)), ..empty() };
        let told = points(&reading)[0].fields[0].1.clone();
        assert!(told.len() <= 24, "{told}");
        assert_eq!(told.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{told}");
    }
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
