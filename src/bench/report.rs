//! What a measurement came to, as a table for people and as data. Measures nothing.

use std::fmt;

use serde::Serialize;

use super::against::LoopResult;
use super::baseline::Plain;
use super::meter::Delivered;
use super::usage::{Used, rss_peak_bytes};
use crate::pipeline::StageCounts;
use crate::pipeline::{ExitStatus, Outcome};

/// What a measurement came to. An event is one reading or record.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The pipeline's name.
    pub pipeline: String,
    /// Whether what was delivered is what was made.
    pub complete: bool,
    /// What is not as it must be, where it is not complete.
    pub wrong: Vec<String>,
    /// Readings or records that went in.
    pub made: u64,
    /// Readings or records delivered.
    pub delivered: u64,
    /// Bytes delivered.
    pub delivered_bytes: u64,
    /// CRC-32 of all delivered bytes.
    pub checksum: u32,
    /// The pipeline.
    pub speed: Speed,
    /// A plain loop doing the same work on one thread.
    pub plain_loop: Speed,
    /// Processor time of the pipeline over that of the plain loop.
    pub cpu_ratio_to_plain_loop: f64,
    /// Plain loops over the same lines, where they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub against: Vec<LoopResult>,
    /// The most memory that was resident, before the loops ran.
    pub rss_peak_bytes: Option<u64>,
    /// From made to written, of the oldest reading in each frame.
    pub latency: Latency,
    /// The books of each node.
    pub nodes: Vec<StageCounts>,
}

/// How fast, and at what price.
#[derive(Debug, Serialize)]
pub(crate) struct Speed {
    /// Time on the wall.
    pub seconds: f64,
    /// Time on processors, all threads.
    pub cpu_seconds: f64,
    /// Readings or records that went in, per second on the wall.
    pub events_per_second: f64,
    /// Delivered bytes per second on the wall, in MiB.
    pub mib_per_second: f64,
    /// The same per second on processors.
    pub events_per_cpu_second: f64,
}

/// Microseconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    /// Half were quicker.
    pub p50_us: u64,
    /// 99 of a hundred were quicker.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Latency {
    /// The three in milliseconds, in their order.
    pub(super) fn milliseconds(&self) -> [f64; 3] {
        [self.p50_us, self.p99_us, self.max_us].map(|us| us as f64 / 1000.0)
    }

    pub(super) fn of(delivered: &Delivered) -> Self {
        Self {
            p50_us: delivered.latency.value_at_quantile(0.5),
            p99_us: delivered.latency.value_at_quantile(0.99),
            max_us: delivered.latency.max(),
        }
    }
}

impl Report {
    pub(super) fn new(
        name: &str,
        made: u64,
        outcome: Outcome,
        used: Used,
        delivered: Delivered,
        plain: Plain,
        nodes: Vec<StageCounts>,
    ) -> Self {
        let checksum = delivered.checksum.clone().finalize();
        let mut wrong = Vec::new();
        if outcome.end != ExitStatus::Done || !outcome.drained {
            wrong.push("not everything was written in time; can the target be written?".to_owned());
        }
        if made == 0 {
            wrong.push("nothing was made".to_owned());
        }
        let differs = [
            ("readings", delivered.readings, plain.delivered.readings),
            ("lines", delivered.lines, plain.delivered.lines),
            ("bytes", delivered.bytes, plain.delivered.bytes),
            ("CRC-32", checksum.into(), plain.delivered.checksum.clone().finalize().into()),
        ];
        for (what, was, should) in differs {
            if was != should {
                wrong.push(format!("delivered {what}: {was}, but a plain loop makes {should}"));
            }
        }
        for node in &nodes {
            if node.received != node.sent + node.not_sent_total() + node.buffered {
                wrong.push(format!("the books of {} do not balance", node.node));
            }
        }
        Self {
            pipeline: name.to_owned(),
            complete: wrong.is_empty(),
            wrong,
            made,
            delivered: delivered.readings,
            delivered_bytes: delivered.bytes,
            checksum,
            speed: Speed::new(made, &delivered, used),
            plain_loop: Speed::new(made, &plain.delivered, plain.used),
            against: Vec::new(),
            cpu_ratio_to_plain_loop: used.cpu.as_secs_f64()
                / plain.used.cpu.as_secs_f64().max(1e-9),
            rss_peak_bytes: rss_peak_bytes(),
            latency: Latency::of(&delivered),
            nodes,
        }
    }
}

impl Speed {
    fn new(made: u64, delivered: &Delivered, used: Used) -> Self {
        let (seconds, cpu_seconds) = (used.wall.as_secs_f64(), used.cpu.as_secs_f64());
        let made = made as f64;
        Self {
            seconds,
            cpu_seconds,
            events_per_second: made / seconds.max(1e-9),
            mib_per_second: delivered.bytes as f64 / f64::from(1 << 20) / seconds.max(1e-9),
            events_per_cpu_second: made / cpu_seconds.max(1e-9),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} made, {} delivered\n", self.pipeline, self.made, self.delivered)?;
        writeln!(f, "{:<24}{:>14}{:>14}", "", "pipeline", "plain loop")?;
        let (pipeline, plain) = (&self.speed, &self.plain_loop);
        let rows = [
            ("events/s", pipeline.events_per_second, plain.events_per_second, 0),
            ("MiB/s", pipeline.mib_per_second, plain.mib_per_second, 1),
            ("wall seconds", pipeline.seconds, plain.seconds, 2),
            ("CPU seconds", pipeline.cpu_seconds, plain.cpu_seconds, 2),
            (
                "events per CPU second",
                pipeline.events_per_cpu_second,
                plain.events_per_cpu_second,
                0,
            ),
        ];
        for (name, pipeline, plain, digits) in rows {
            writeln!(f, "{name:<24}{pipeline:>14.digits$}{plain:>14.digits$}")?;
        }
        writeln!(f, "{:<24}{:>14.2}", "CPU, times plain loop", self.cpu_ratio_to_plain_loop)?;
        for LoopResult { name, events_per_cpu_second, pipeline_to_it } in &self.against {
            writeln!(
                f,
                "{name:<38}{events_per_cpu_second:>14.0}  pipeline {pipeline_to_it:.2} times"
            )?;
        }
        if let Some(bytes) = self.rss_peak_bytes {
            writeln!(f, "{:<24}{:>14.1}", "peak RSS, MiB", bytes as f64 / f64::from(1 << 20))?;
        }
        let Latency { p50_us, p99_us, max_us } = self.latency;
        writeln!(f, "{:<24}{:>14}", "made to written, µs", format!("p50 {p50_us}"))?;
        writeln!(f, "{:<24}{:>14}", "  (oldest in a frame)", format!("p99 {p99_us}"))?;
        writeln!(f, "{:<24}{:>14}\n", "", format!("max {max_us}"))?;
        let width =
            self.nodes.iter().map(|node| node.node.chars().count()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:<width$}{:>12}{:>12}{:>10}{:>8}{:>8}",
            "node", "in", "out", "lost", "held", "faults"
        )?;
        for node in &self.nodes {
            let lost = node.not_sent_total();
            write!(
                f,
                "{:<width$}{:>12}{:>12}{:>10}{:>8}{:>8}",
                node.node, node.received, node.sent, lost, node.buffered, node.failed
            )?;
            let why: Vec<String> =
                node.not_sent().map(|(reason, weight)| format!("{weight} {reason}")).collect();
            writeln!(f, "  {}", why.join(", "))?;
        }
        writeln!(f)?;
        match &self.wrong[..] {
            [] => writeln!(f, "complete: delivered what was made (CRC-32 {:08x})", self.checksum),
            wrong => wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}")),
        }
    }
}
