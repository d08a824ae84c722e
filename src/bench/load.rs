//! A pipeline under a given load: a source that keeps to a rate, and what came of it, as a curve and as a table.

use std::fmt;
use std::time::Duration;

use async_stream::try_stream;
use futures::{Stream, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::Measured;
use super::report::Latency;
use crate::model::SystemMetrics;
use crate::pipeline::{BoxSource, EventCount, Source, StageError};
use crate::records::Records;

/// What a measurement makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many pipelines run side by side, each with a source and an output of its own.
    pub pipelines: usize,
    /// Events a second for all of them; `None` for as many as they take.
    pub per_second: Option<f64>,
}

impl Load {
    /// One pipeline, as fast as it goes.
    pub(crate) const FLAT_OUT: Self = Self { pipelines: 1, per_second: None };
}

/// What came of a load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Point {
    /// Events a second that were to be made; `None` where it was as many as were taken.
    pub offered_per_second: Option<f64>,
    /// Events a second that were written, on the wall.
    pub per_second: f64,
    /// Events per second on processors.
    pub per_cpu_second: f64,
    /// From when the oldest event of a frame was due to when the frame was written.
    pub latency: Latency,
    /// Whether each event that was made went through all stages.
    pub complete: bool,
}

impl Point {
    pub(super) fn new(load: Load, measured: &Measured) -> Self {
        let Measured { made, outcome, used, delivered, .. } = measured;
        let made = *made as f64;
        Self {
            offered_per_second: load.per_second,
            per_second: made / used.wall.as_secs_f64().max(1e-9),
            per_cpu_second: made / used.cpu.as_secs_f64().max(1e-9),
            latency: Latency::of(delivered),
            complete: outcome.drained && made > 0.0,
        }
    }
}

/// One pipeline under more and more load.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    /// The pipeline.
    pub pipeline: String,
    /// Events a second that it takes flat out: the knee.
    pub knee_per_second: f64,
    /// The points, with their share of the knee in percent.
    pub points: Vec<(u32, Point)>,
}

impl Curve {
    /// The loads of the points, in percent of the knee.
    pub(crate) const PERCENT: [u32; 9] = [25, 50, 75, 90, 100, 110, 125, 150, 200];

    /// Whether every point is of a whole run.
    pub(crate) fn is_complete(&self) -> bool {
        self.points.iter().all(|(_, point)| point.complete)
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pipeline, knee_per_second, points } = self;
        writeln!(f, "{pipeline}: {knee_per_second:.0} events/s flat out, the knee\n")?;
        writeln!(
            f,
            "{:>8}{:>14}{:>14}{:>12}{:>12}{:>12}",
            "load", "offered/s", "written/s", "p50 ms", "p99 ms", "max ms"
        )?;
        for (percent, Point { offered_per_second, per_second, latency, .. }) in points {
            let offered = offered_per_second.unwrap_or_default();
            let [p50, p99, max] = latency.milliseconds();
            writeln!(
                f,
                "{:>8}{offered:>14.0}{per_second:>14.0}{p50:>12.2}{p99:>12.2}{max:>12.2}",
                format!("{percent} %")
            )?;
        }
        writeln!(
            f,
            "\nFrom when an event was due until it was written. Above the knee it waits ever longer."
        )
    }
}

/// What more of something changes: threads and pipelines, or the size of a batch.
#[derive(Debug, Serialize)]
pub(crate) struct Scaling {
    /// The pipeline.
    pub pipeline: String,
    /// Each number of pipelines, with each number of threads, on as many processors.
    pub pipelines: Vec<Row>,
    /// Each size of a batch, with one pipeline and the threads of the file.
    pub batches: Vec<(u32, Point)>,
}

/// So many pipelines.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// How many.
    pub pipelines: usize,
    /// What all of them did, with each number of threads.
    pub threads: Vec<(usize, Point)>,
}

impl Scaling {
    /// Numbers of pipelines that are measured.
    pub(crate) const PIPELINES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
    /// Sizes of a batch that are measured.
    pub(crate) const BATCHES: [u32; 7] = [1, 4, 16, 64, 256, 1024, 4096];

    /// Whether every measurement is of a whole run.
    pub(crate) fn is_complete(&self) -> bool {
        let of_rows = self.pipelines.iter().flat_map(|row| &row.threads).map(|(_, point)| point);
        let of_batches = self.batches.iter().map(|(_, point)| point);
        of_rows.chain(of_batches).all(|point| point.complete)
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: events/s of all pipelines, and how many times the first\n",
            self.pipeline
        )?;
        let threads = self.pipelines.first().map_or(&[][..], |row| &row.threads);
        let first = threads.first().map_or(1.0, |(_, point)| point.per_second.max(1e-9));
        write!(f, "{:>10}", "pipelines")?;
        for (threads, _) in threads {
            write!(
                f,
                "{:>22}",
                format!("{threads} thread{}", if *threads == 1 { "" } else { "s" })
            )?;
        }
        writeln!(f)?;
        for row in &self.pipelines {
            write!(f, "{:>10}", row.pipelines)?;
            for (_, Point { per_second, .. }) in &row.threads {
                write!(f, "{per_second:>14.0}{:>8.2}", per_second / first)?;
            }
            writeln!(f)?;
        }
        writeln!(
            f,
            "\n{:>10}{:>14}{:>16}{:>12}{:>12}",
            "max_items", "events/s", "per CPU second", "p50 ms", "p99 ms"
        )?;
        for (items, Point { per_second, per_cpu_second, latency, .. }) in &self.batches {
            let [p50, p99, _] = latency.milliseconds();
            writeln!(
                f,
                "{items:>10}{per_second:>14.0}{per_cpu_second:>16.0}{p50:>12.2}{p99:>12.2}"
            )?;
        }
        Ok(())
    }
}

/// An item that knows when it was made.
pub(super) trait Timestamped: EventCount {
    /// Sets that.
    fn set_made(&mut self, at: Instant);
}

impl Timestamped for SystemMetrics {
    fn set_made(&mut self, at: Instant) {
        self.made = at;
    }
}

impl Timestamped for Records {
    fn set_made(&mut self, at: Instant) {
        self.oldest = at;
    }
}

/// `source`, which makes `per_second` events at most.
pub(super) fn paced<T: Timestamped + Send + 'static>(
    source: impl Source<Out = T>,
    per_second: Option<f64>,
) -> BoxSource<T> {
    match per_second {
        None => BoxSource::new(source),
        Some(per_second) => BoxSource::new(Paced { source, per_second }),
    }
}

/// Hands items on when they are due. An item that the pipeline did not take in time counts as made when it was due, so that
/// its latency has the wait: a source of real life would not have waited either. The clock of tokio ticks each millisecond.
struct Paced<S> {
    source: S,
    per_second: f64,
}

impl<S: Source<Out: Timestamped>> Source for Paced<S> {
    type Out = S::Out;

    fn name(&self) -> String {
        self.source.name()
    }

    fn detail(&self) -> String {
        self.source.detail()
    }

    fn open(&mut self) -> impl Stream<Item = Result<S::Out, StageError>> + Send + '_ {
        let (began, per_second) = (Instant::now(), self.per_second);
        let items = self.source.open();
        try_stream! {
            let mut items = std::pin::pin!(items);
            let mut events = 0_u64;
            while let Some(item) = items.next().await {
                let mut item = item?;
                events += item.weight();
                let due = began + Duration::from_secs_f64(events as f64 / per_second);
                if due > Instant::now() {
                    sleep_until(due).await;
                }
                item.set_made(due);
                yield item;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::synthetic::Generator;
    use crate::model::Group;

    #[tokio::test(start_paused = true)]
    async fn events_come_at_the_rate_and_count_as_made_when_they_were_due() {
        let began = Instant::now();
        let mut source = paced(Generator::new(&[Group::Load], 0, 1), Some(100.0));
        let mut readings = std::pin::pin!(source.open());
        for number in 1..=100_u32 {
            let reading = readings.next().await.unwrap().unwrap();
            assert_eq!(reading.made, began + number * Duration::from_millis(10));
            assert!(Instant::now() - reading.made <= Duration::from_millis(1));
        }
        // The pipeline takes nothing for a second: what comes then is late.
        tokio::time::advance(Duration::from_secs(1)).await;
        let late = readings.next().await.unwrap().unwrap();
        assert_eq!(late.made, began + Duration::from_millis(1_010));
        assert_eq!(Instant::now() - late.made, Duration::from_millis(990));
    }
}
