//! The formats that are not for today's host, where they say little.

use std::collections::BTreeSet;

use infiniservice::metrics::collect::{GROUPS, Tasks};
use infiniservice::model::{
    Agent, Cpu, CpuSeconds, Disk, DiskCounters, Field, Group, Kind, Mount, OwnGroup, SystemMetrics,
};
use infiniservice::pipeline::StageCounts;
use infiniservice::wire::Format;
use serde_json::Value;

use crate::golden::golden;

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
fn each_format_writes_a_reading_as_its_golden_lines() {
    let (server, nothing) =
        (server(2, 2), SystemMetrics { troubles: vec![trouble("it hangs")], ..empty() });
    let mut now = String::new();
    for format in Format::ALL {
        for (what, reading) in [("a small server", &server), ("a trouble and no more", &nothing)] {
            now += &format!("== {}, {what}\n{}", format.name(), text(format, reading));
        }
    }
    assert_eq!(now, golden("formats.txt", &now));
}

#[test]
fn a_person_sees_columns_and_the_three_busiest_processes_on_lines_of_a_terminal() {
    let reading = SystemMetrics { host: None, agent: None, ..server(9, 0) };
    let expected = concat!(
        "2026-07-14 10:00:00Z  web-1  cpu  12.3 %  42 C  mem    3.0 GiB of    8.0 GiB",
        "\n    load  0.10  0.22  0.30  /  44 %  read    0.0 B/s   write    4.0 KiB/s",
        "\n    eth0 in    1.2 KiB/s out  300.0 B/s\n",
        "         800   25.0 %  120.0 MiB  postgres\n",
        "         801   12.5 %   60.0 MiB  nginx\n",
        "         802    8.3 %   40.0 MiB  kworker/0:1-events\n",
    );
    assert_eq!(text(Format::Pretty, &reading), expected);
    let troubles = vec![trouble(&"a mount hangs, ".repeat(20))];
    let all = text(Format::Pretty, &SystemMetrics { troubles, ..server(9, 9) });
    let widest = all.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{all}");
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
    let inodes = Some(9);
    let mount = Mount {
        total_inodes: inodes,
        used_inodes: inodes,
        free_inodes: inodes,
        ..Mount::default()
    };
    let devices = vec![DiskCounters::default()];
    reading.disk = Some(Disk { devices, mounts: vec![mount], ..sample::disk() }.into());
    reading.put(Tasks::default());
    let text = std::fs::read_to_string("docs/metrics.md").unwrap();
    for group in GROUPS {
        assert!(text.contains(&format!("\n## {}\n", group.name())), "{}", group.name());
    }
    let mut names = BTreeSet::new();
    fields(&serde_json::to_value(reading).unwrap(), &mut names);
    names.retain(|name| !GROUPS.iter().any(|group| group.name() == name));
    let words: BTreeSet<_> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let missing: Vec<_> = names.iter().filter(|name| !words.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not tell of {missing:?}");
}

/// A group of a library user.
#[derive(Debug, PartialEq, serde::Serialize)]
struct Mail {
    waiting: u64,
    done: u64,
    server: String,
    lanes: Vec<Lane>,
}

#[derive(Debug, PartialEq, serde::Serialize)]
struct Lane {
    site: String,
    length: f64,
}

impl OwnGroup for Mail {
    const GROUP: Group = Group::new("mail");
    const FIELDS: &'static [Field] = &[Field {
        name: "done",
        kind: Kind::Counter,
        unit: "letters",
        about: "sent since the start",
    }];
}

#[test]
fn a_group_of_ones_own_is_in_every_format_that_has_a_place_for_it() {
    let lane = |site: &str, length| Lane { site: site.into(), length };
    let mail = |done| {
        let lanes = vec![lane("a b", 0.5), lane("a b", 2.0), lane("", f64::NAN)];
        Mail { waiting: 3, done, server: "mx \x1b[2J".into(), lanes }
    };
    let mut reading = SystemMetrics { tags: server(0, 0).tags, ..empty() };
    reading.put(mail(7));
    assert!(reading.has(Mail::GROUP) && reading.get::<Mail>().unwrap().done == 7);
    assert_eq!(
        text(Format::JsonLines, &reading),
        concat!(
            r#"{"timestamp":"2026-07-14T10:00:00.250Z","sequence":7,"tags":{"site":"lab-1"},"mail":{"done":7,"lanes":["#,
            r#"{"length":0.5,"site":"a b"},{"length":2.0,"site":"a b"},{"length":null,"site":""}],"#,
            r#""server":"mx \u001b[2J","waiting":3}}"#,
            "\n"
        )
    );
    assert_eq!(
        text(Format::Influx, &reading),
        concat!(
            "infiniservice_mail,site=lab-1 done=7i,server=\"mx  [2J\",waiting=3i 1784023200250000000\n",
            "infiniservice_mail_lanes,site=a\\ b length=0.5 1784023200250000000\n",
            "infiniservice_mail_lanes,site=a\\ b,instance=1 length=2 1784023200250000000\n",
        )
    );
    assert_eq!(
        text(Format::Pretty, &reading),
        "2026-07-14 10:00:00Z\n    mail: done 7, server mx ?[2J, waiting 3\n"
    );
    assert!(!text(Format::Infinibay, &reading).contains("mail"));
    assert!(!Format::Infinibay.carries(Mail::GROUP) && Format::Influx.carries(Mail::GROUP));
}

#[test]
fn the_enrichers_treat_a_group_of_ones_own_like_any_other() {
    use infiniservice::metrics::enrich::{Changes, Rates, Select};
    use infiniservice::pipeline::{Output, Transform};
    use std::time::Duration;

    let reading = |seconds, done| {
        let mut reading = empty();
        reading.taken = tokio::time::Instant::now() + Duration::from_secs(seconds);
        reading.put(Mail { waiting: 0, done, server: "mx".into(), lanes: Vec::new() });
        reading
    };
    fn apply(
        stage: &mut dyn Transform<In = SystemMetrics, Out = SystemMetrics>,
        reading: &SystemMetrics,
    ) -> Option<SystemMetrics> {
        let mut out = Output::default();
        stage.apply(reading.taken, reading, &mut out);
        out.drain().next()
    }
    let mut rates = Rates::default();
    let value = |reading: SystemMetrics| reading.own.find(Mail::GROUP).unwrap().value();
    assert_eq!(value(apply(&mut rates, &reading(0, 10)).unwrap())["done_per_sec"], Value::Null);
    let rate =
        value(apply(&mut rates, &reading(10, 30)).unwrap())["done_per_sec"].as_f64().unwrap();
    assert!((rate - 2.0).abs() < 0.1, "{rate}");
    assert_eq!(value(apply(&mut rates, &reading(20, 5)).unwrap())["done_per_sec"], Value::Null);

    let mut changes = Changes::new(0);
    assert!(apply(&mut changes, &reading(0, 1)).is_some());
    assert!(apply(&mut changes, &reading(1, 1)).is_none(), "nothing has changed");
    assert!(apply(&mut changes, &reading(2, 2)).is_some());

    assert!(apply(&mut Select::keep(&[Mail::GROUP]), &reading(0, 1)).unwrap().has(Mail::GROUP));
    assert!(apply(&mut Select::drop(&[Mail::GROUP]), &reading(0, 1)).is_none());
}
