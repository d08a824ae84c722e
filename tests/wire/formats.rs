//! The formats that are not for today's host, where they say little.

use std::collections::BTreeSet;

use infiniservice::model::{
    Agent, Cpu, CpuSeconds, Disk, DiskCounters, Group, StageCounts, SystemMetrics,
};
use infiniservice::wire::Format;
use serde_json::Value;

use super::rig::text;
use super::sample::{self, empty, server, trouble};

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
fn every_group_and_field_of_a_reading_is_in_metrics_md() {
    fn fields(value: &Value, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                into.extend(map.keys().cloned());
                map.iter()
                    .filter(|(name, _)| *name != "tags")
                    .for_each(|(_, value)| fields(value, into));
            }
            Value::Array(items) => items.iter().for_each(|item| fields(item, into)),
            _ => {}
        }
    }
    let mut reading = SystemMetrics { troubles: vec![trouble("no such file")], ..server(1, 1) };
    let nodes = vec![StageCounts::default()];
    reading.agent = Some(Agent { nodes, ..Agent::default() }.into());
    reading.cpu = Some(Cpu { seconds: Some(CpuSeconds::default()), ..Cpu::default() }.into());
    reading.disk = Some(Disk { devices: vec![DiskCounters::default()], ..sample::disk() }.into());
    let text = std::fs::read_to_string("docs/metrics.md").unwrap();
    for group in Group::ALL {
        assert!(text.contains(&format!("\n## {}\n", group.name())), "{}", group.name());
    }
    let mut names = BTreeSet::new();
    fields(&serde_json::to_value(reading).unwrap(), &mut names);
    names.retain(|name| !Group::ALL.iter().any(|group| group.name() == name));
    let words: BTreeSet<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not tell of {missing:?}");
}
