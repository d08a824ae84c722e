//! Records at a steady rate: memory is allocated for batches, and not for records.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use infiniservice::internals::agent::record_stages;
use infiniservice::internals::config::RecordsFile;
use infiniservice::internals::records::Records;
use infiniservice::internals::records::batch::Decode;
use infiniservice::model::Receipt;
use infiniservice::pipeline::tap::Tap;
use infiniservice::pipeline::{MemoryBudget, Output, Transform};
use tokio::time::Instant;

/// Records in a batch.
const RECORDS: usize = 1_000;

/// Batches before it counts, and as many while it does.
const ROUNDS: u64 = 5;

/// The most allocations for one batch: of its buffers and of what is sent on.
const ALLOCATIONS_MAX: u64 = 40;

/// A batch of application logs: texts with escapes, numbers, an object, a key beyond what is remembered of keys.
fn batch() -> Records {
    let (mut text, mut ends) = (String::new(), Vec::new());
    for n in 0..RECORDS {
        let (a, b) = (n % 7, n % 11);
        text += &format!(
            "{{\"ts\":\"2026-11-28T12:00:00.{n:03}Z\",\"level\":\"info\",\"msg\":\"order \\\"{n}\\\" took {a} ms\",\"line\":\"host=web-{a} n={n} text=\\\"a b\\\"\",\
             \"dur_ms\":{a}.{b},\"user\":{{\"id\":[{n},{a}]}},\"kubernetes.annotations.of.the.application\":null,\"a\\u0062\":1}}\n",
        );
        ends.push(u32::try_from(text.len()).unwrap());
    }
    let (oldest, decode, receipt) = (Instant::now(), Decode::default(), Receipt::default());
    Records { bytes: Bytes::from(text), ends, too_long: 0, oldest, decode, receipt }
}

#[test]
fn no_stage_and_no_format_allocates_for_a_record() {
    let cases = [
        ("tags = { site = \"lab-1\", level = \"x\" }", "json-lines"),
        ("filter = { field = \"msg\", prefix = \"order \\\"\" }", "json-lines"),
        ("filter = { field = \"dur_ms\", greater = 1.5 }", "json-lines"),
        ("filter = { field = \"msg\", regex = \"[0-9] ms$\" }", "json-lines"),
        ("keep = { fields = [\"ts\", \"msg\"] }", "json-lines"),
        ("drop = { fields = [\"ts\", \"user\"] }", "json-lines"),
        ("rename = { msg = \"message\", ts = \"time\" }", "json-lines"),
        ("parse = { field = \"line\", as = \"logfmt\" }", "json-lines"),
        ("parse = { field = \"msg\", regex = \"^order \\\"(?<order>[0-9]+)\\\"\" }", "json-lines"),
        ("sample = { one_in = 3 }", "json-lines"),
        ("tags = { site = \"lab-1\" }", "logfmt"),
        ("rename = { msg = \"message\" }", "raw"),
        ("tags = { site = \"lab-1\" }", "influx"),
    ];
    let input = batch();
    for (stage, format) in cases {
        let file = format!(
            "[[read]]\nlines = {{ stdin = true }}\n[[transform]]\n{stage}\n[serialize]\nformat = \"{format}\"\n\
             [write]\nnull = true\n"
        );
        let file: RecordsFile = toml::from_str(&file).unwrap();
        let mut stages = record_stages(&file, &MemoryBudget::default()).unwrap();
        let (mut batches, mut frames, mut records) = (Output::default(), Output::default(), 0);
        let mut take = |times: u64| {
            for _ in 0..times {
                stages.transform.apply(input.oldest, &input, &mut batches);
                for batch in batches.drain() {
                    stages.serialize.apply(input.oldest, &batch, &mut frames);
                }
                records += frames.drain().map(|frame| u64::from(frame.readings)).sum::<u64>();
            }
        };
        take(ROUNDS);
        let allocations = allocation_counter::measure(|| take(ROUNDS)).count_total;
        assert!(allocations <= ROUNDS * ALLOCATIONS_MAX, "{stage}, {format}: {allocations}");
        assert!(records >= ROUNDS * RECORDS as u64 / 4, "{stage} lets them on: {records}");
    }
}

#[test]
fn a_stage_allocates_for_the_lines_that_are_looked_at_and_for_no_other() {
    const RATE: u32 = 7;
    let file = "[[read]]\nlines = { stdin = true }\n[[transform]]\ntags = { site = \"lab-1\" }\n[write]\nnull = true\n";
    let file: RecordsFile = toml::from_str(file).unwrap();
    let (input, tap) = (batch(), Arc::<Tap>::default());
    let stages = || record_stages(&file, &MemoryBudget::default()).unwrap().transform;
    let mut out = Output::default();
    let mut counted = |mut pass: infiniservice::internals::records::transform::Pass| {
        for _ in 0..ROUNDS {
            pass.apply(input.oldest, &input, &mut out);
            out.drain();
        }
        let mut take = || {
            pass.apply(input.oldest, &input, &mut out);
            out.drain();
        };
        allocation_counter::measure(&mut take).count_total
    };
    let plain = counted(stages());
    let tapped = || stages().tapped(&file.transform, |_| Arc::clone(&tap));
    assert_eq!(counted(tapped()), plain, "nobody looks");
    let mut looking = tap.attach(RATE);
    let pass = tapped();
    // The same moment: the lines of the second have gone in the first batch.
    assert_eq!(counted(pass), plain, "the lines of this second have been shown");
    let shown = std::iter::from_fn(|| looking.ready()).count();
    assert_eq!(
        (shown as u32, looking.skipped()),
        (RATE, (ROUNDS + 1) * RECORDS as u64 - u64::from(RATE))
    );
}
