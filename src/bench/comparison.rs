//! Two measurements side by side, with the ratios of the second to the first, as a table and as data. Measures
//! nothing.

use std::fmt;

use serde::Serialize;

use super::report::Report;

/// What of a report is compared.
type Figure = fn(&Report) -> f64;

/// Two measurements of this machine, one after the other.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// The first.
    pub first: Report,
    /// The second.
    pub second: Report,
    /// The second over the first.
    pub ratios: Vec<Ratio>,
}

/// One figure of both.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    /// What it is, with its unit.
    pub figure: &'static str,
    /// Of the first.
    pub first: f64,
    /// Of the second.
    pub second: f64,
    /// The second over the first; `None` where the first is nothing.
    pub ratio: Option<f64>,
}

impl Comparison {
    /// Compares two reports. Memory is left out: the second run has what the first one left behind.
    pub(crate) fn new(first: Report, second: Report) -> Self {
        let figures: [(&'static str, Figure); 7] = [
            ("events/s", |report| report.speed.events_per_second),
            ("MiB/s", |report| report.speed.mib_per_second),
            ("events per CPU second", |report| report.speed.events_per_cpu_second),
            ("bytes per event", |report| {
                report.delivered_bytes as f64 / (report.delivered as f64).max(1.0)
            }),
            ("CPU, times plain loop", |report| report.cpu_ratio_to_plain_loop),
            ("made to written, p50 µs", |report| report.latency.p50_us as f64),
            ("made to written, p99 µs", |report| report.latency.p99_us as f64),
        ];
        let ratio = |(figure, of): (&'static str, Figure)| {
            let (one, other) = (of(&first), of(&second));
            let ratio = (one > 0.0).then(|| other / one);
            Ratio { figure, first: one, second: other, ratio }
        };
        let ratios = figures.into_iter().map(ratio).collect();
        Self { first, second, ratios }
    }

    /// Whether both delivered what was made.
    pub(crate) fn is_complete(&self) -> bool {
        self.first.complete && self.second.complete
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<24}{:>14}{:>14}{:>10}", "", "A", "B", "B / A")?;
        for Ratio { figure, first, second, ratio } in &self.ratios {
            let digits = if first.max(*second) < 1000.0 { 2 } else { 0 };
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            writeln!(f, "{figure:<24}{first:>14.digits$}{second:>14.digits$}{ratio:>10}")?;
        }
        writeln!(f)?;
        for (name, report) in [("A", &self.first), ("B", &self.second)] {
            match &report.wrong[..] {
                [] => writeln!(f, "{name} is complete: delivered what was made")?,
                wrong => {
                    wrong.iter().try_for_each(|wrong| writeln!(f, "{name} is WRONG: {wrong}"))?
                }
            }
        }
        Ok(())
    }
}
