//! An enricher of one's own, tried without a pipeline: `cargo run --example enricher`.
//!
//! A transform has no clock and does not wait, so plain calls are enough to try it.
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use infiniservice::model::Load;
use infiniservice::prelude::*;
use tokio::time::Instant;

/// Tags each reading as busy or idle, and drops those that have no load, with a reason.
struct Busy {
    above: f64,
}

impl Transform for Busy {
    type In = SystemMetrics;
    type Out = SystemMetrics;

    fn apply(&mut self, _now: Instant, reading: &SystemMetrics, out: &mut Output<SystemMetrics>) {
        let Some(load) = &reading.load else { return out.drop_items("without_load", 1) };
        let state = if load.one > self.above { "busy" } else { "idle" };
        // A copy shares its groups: it costs a few reference counts.
        let mut reading = reading.clone();
        let mut tags = reading.tags.as_deref().cloned().unwrap_or_default();
        tags.insert("state".to_owned(), state.to_owned());
        reading.tags = Some(tags.into());
        out.push(reading);
    }
}

/// Gives the enricher three readings.
pub fn main() {
    let now = Instant::now();
    let mut reading = SystemMetrics::empty(SystemTime::now(), now, Duration::from_secs(1), 0);
    let (mut busy, mut out) = (Busy { above: 2.0 }, Output::default());
    busy.apply(now, &reading, &mut out);
    assert_eq!(out.dropped(), [("without_load", 1)]);
    assert_eq!(out.drain().count(), 0);

    for (one, expected) in [(0.5, "idle"), (3.5, "busy")] {
        reading.load = Some(Load { one, five: one, fifteen: one, uptime_seconds: 60 }.into());
        busy.apply(now, &reading, &mut out);
        let tags: Vec<BTreeMap<_, _>> =
            out.drain().filter_map(|reading| reading.tags.as_deref().cloned()).collect();
        println!("load {one}: {tags:?}");
        assert!(tags.len() == 1 && tags[0]["state"] == expected);
    }
}
