//! What holds of any reading at all, in each format.

use std::sync::Arc;

use infiniservice::model::{Cpu, Process};
use infiniservice::wire::{Format, MAX_INTEGER, MAX_LINE};
use proptest::prelude::*;
use serde_json::Value;

use super::influx::points;
use super::readings::reading;
use super::rig::text;

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
