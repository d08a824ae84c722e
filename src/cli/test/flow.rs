//! The pipeline of a test: its real stages, driven by hand. Nothing is collected, opened or waited for: time is what the
//! test says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::agent::{record_stages, stages};
use crate::config::{
    ConfigError, Pipeline, RecordsFile, TestCase, TestFile, TestInput, TestPart, WrongTest,
    is_built_in, load,
};
use crate::model::{Receipt, SystemMetrics};
use crate::pipeline::chain::{Chain, Segment, Series, StageRunner};
use crate::pipeline::{MemoryBudget, StageStats, StatsRegistry, Transform, numbered};
use crate::records::Records;
use crate::wire::Format;

/// The wall clock at the start of a test: 2026-01-01T00:00:00Z.
const START: Duration = Duration::from_secs(1_767_225_600);

/// The pipeline that a file of tests names.
pub(super) enum Flow {
    Metrics(Box<Pipeline>),
    Records(Box<Pipeline<RecordsFile>>),
}

/// What has come of a test up to some stage.
pub(super) struct TestOutput {
    /// The lines, each without its end.
    pub lines: Vec<String>,
    /// What was dropped or left out, by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Flow {
    /// The pipeline of the file `named` by the one at `tests`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn load(tests: &Path, named: &Path) -> Result<Self, Vec<ConfigError>> {
        let path = match tests.parent() {
            Some(folder) if !is_built_in(named) => folder.join(named),
            _ => PathBuf::from(named),
        };
        let mut loaded = load(&[path], &|name| std::env::var(name).ok())?;
        match (loaded.pipelines.pop(), loaded.records.pop()) {
            (Some(pipeline), _) => Ok(Self::Metrics(Box::new(pipeline))),
            (None, Some(pipeline)) => Ok(Self::Records(Box::new(pipeline))),
            (None, None) => Err(Vec::new()),
        }
    }

    /// The names of its stages, in their order; the second of a name has `#2` behind it.
    pub(super) fn stages(&self) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Metrics(pipeline) => {
                stages(&pipeline.file, None).enrichers.iter().map(Transform::name).collect()
            }
            Self::Records(pipeline) => {
                pipeline.file.transform.iter().map(|stage| stage.name().to_owned()).collect()
            }
        };
        names.extend(["batch", "serialize"].map(str::to_owned));
        numbered(names.iter().map(String::as_str))
    }

    /// What is wrong with `file` as a test of this pipeline.
    pub(super) fn mistakes(&self, file: &TestFile) -> Vec<WrongTest> {
        let stages = self.stages();
        let mut wrong = Vec::new();
        for (test, case) in file.test.iter().enumerate() {
            let mut tell = |part, message, help| {
                wrong.push(WrongTest { test, part, message, help });
            };
            for (index, given) in case.given.iter().enumerate() {
                for (message, help) in self.unreadable(given) {
                    tell(TestPart::Given(index), message, help);
                }
            }
            for (index, expected) in case.expect.iter().enumerate() {
                if let Some(after) = &expected.after
                    && !stages.contains(after)
                {
                    let message = format!("there is no stage \"{after}\"");
                    let help = format!("the stages of this pipeline are {}", stages.join(", "));
                    tell(TestPart::Expected(index), message, help);
                }
            }
        }
        wrong
    }

    /// What is wrong with what is given, each with its remedy.
    fn unreadable(&self, given: &TestInput) -> Vec<(String, String)> {
        match self {
            Self::Metrics(_) if given.read != 1 => {
                vec![(
                    "a pipeline of metrics has no [[read]]".to_owned(),
                    "leave read out".to_owned(),
                )]
            }
            Self::Metrics(pipeline) => {
                let wrong = |(index, line): (usize, &String)| {
                    let read = reading(pipeline, line, Duration::ZERO, Instant::now(), 0);
                    let help = "write a reading as `infiniservice run --once --format json-lines` does; what it leaves \
                                out has a default";
                    Some((
                        format!("line {} is no reading: {}", index + 1, read.err()?),
                        help.to_owned(),
                    ))
                };
                given.lines.0.iter().enumerate().filter_map(wrong).collect()
            }
            Self::Records(pipeline) => {
                let sources = pipeline.file.read.len();
                if (1..=sources).contains(&given.read) {
                    return Vec::new();
                }
                let help = format!("the pipeline has {sources}, counted from 1");
                vec![(format!("there is no [[read]] number {}", given.read), help)]
            }
        }
    }

    /// What `case` makes come out of the stage of this number, in the order of [`stages`](Self::stages).
    pub(super) fn run(&self, case: &TestCase, last: usize) -> TestOutput {
        let registry = StatsRegistry::default();
        let lines = match self {
            Self::Metrics(pipeline) => metrics(pipeline, case, last, &registry),
            Self::Records(pipeline) => records(pipeline, case, last, &registry),
        };
        let mut dropped = BTreeMap::new();
        for stage in registry.counts() {
            for (reason, count) in stage.not_sent() {
                *dropped.entry((*reason).to_owned()).or_default() += count;
            }
        }
        TestOutput { lines, dropped }
    }
}

fn reading(
    pipeline: &Pipeline,
    line: &str,
    at: Duration,
    taken: Instant,
    sequence: u64,
) -> serde_json::Result<SystemMetrics> {
    let mut reading = SystemMetrics::from_json(line, wall(at), taken, sequence)?;
    let cadences = &pipeline.file.collect;
    let own =
        cadences.iter().find(|cadence| cadence.from.iter().any(|read| reading.has(read.group())));
    // One without a group of the file is of its quickest cadence.
    let own = own.or_else(|| cadences.iter().min_by_key(|cadence| cadence.every));
    reading.every = own.map(|cadence| cadence.every.get()).unwrap_or_default();
    Ok(reading)
}

fn wall(at: Duration) -> SystemTime {
    UNIX_EPOCH + START + at
}

fn metrics(
    pipeline: &Pipeline,
    case: &TestCase,
    last: usize,
    registry: &StatsRegistry,
) -> Vec<String> {
    let start = Instant::now();
    let mut sequence = 0;
    let mut readings = |given: &TestInput| {
        let taken = start + given.at;
        let read = given.lines.0.iter().filter_map(|line| {
            let reading = reading(pipeline, line, given.at, taken, sequence).ok()?;
            sequence += 1;
            Some(reading)
        });
        (taken, read.collect::<Vec<_>>())
    };
    let given: Vec<_> = case.given.iter().map(&mut readings).collect();
    let mut stages = stages(&pipeline.file, None);
    let enrichers = stages.enrichers.len();
    stages.enrichers.truncate(last + 1);
    let mut chain = Runners { registry, upstream: None };
    let enrich = Series::new(stages.enrichers.into_iter().map(|one| chain.runner(one)).collect());
    if last < enrichers {
        return drive(enrich, given).iter().flat_map(as_json).collect();
    }
    let batch = Chain::new(enrich, chain.runner(stages.batcher));
    if last == enrichers {
        return drive(batch, given).iter().flat_map(|batch| &batch.0).flat_map(as_json).collect();
    }
    let frames = drive(Chain::new(batch, chain.runner(stages.serialize)), given);
    frames.iter().flat_map(|frame| lines_of(&frame.bytes)).collect()
}

fn records(
    pipeline: &Pipeline<RecordsFile>,
    case: &TestCase,
    last: usize,
    registry: &StatsRegistry,
) -> Vec<String> {
    let start = Instant::now();
    let batches = |given: &TestInput| {
        let (oldest, mut bytes, mut ends) = (start + given.at, Vec::new(), Vec::new());
        for line in &given.lines.0 {
            bytes.extend_from_slice(line.as_bytes());
            bytes.push(b'\n');
            ends.push(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        let source = pipeline.file.read.get(given.read.saturating_sub(1));
        let decode = source.map(|read| read.decode(0)).unwrap_or_default();
        let (bytes, receipt) = (bytes.into(), Receipt::default());
        (oldest, vec![Records { bytes, ends, too_long: 0, oldest, decode, receipt }])
    };
    let given: Vec<_> = case.given.iter().map(batches).collect();
    let mut file = pipeline.file.clone();
    let transforms = file.transform.len();
    file.transform.truncate(last + 1);
    let Ok(stages) = record_stages(&file, &MemoryBudget::default()) else {
        return Vec::new(); // a file that was checked has none that cannot be built
    };
    let mut chain = Runners { registry, upstream: None };
    let transform = chain.runner(stages.transform);
    if last <= transforms {
        let batches = drive(transform, given);
        return batches.iter().flat_map(|batch| lines_of(&batch.bytes)).collect();
    }
    let frames = drive(Chain::new(transform, chain.runner(stages.serialize)), given);
    frames.iter().flat_map(|frame| lines_of(&frame.bytes)).collect()
}

/// Makes the runners of one chain.
struct Runners<'a> {
    registry: &'a StatsRegistry,
    upstream: Option<std::sync::Arc<StageStats>>,
}

impl Runners<'_> {
    fn runner<T: Transform>(&mut self, stage: T) -> StageRunner<T> {
        let stats = self.registry.node(stage.name());
        let upstream = self.upstream.replace(std::sync::Arc::clone(&stats));
        StageRunner::new(stage, stats, upstream)
    }
}

/// Runs what is given through, each at its time; stages that wait for a time get it. Then the input ends.
fn drive<S: Segment>(mut segment: S, given: Vec<(Instant, Vec<S::In>)>) -> Vec<S::Out> {
    let (mut out, mut now) = (Vec::new(), Instant::now());
    for (at, items) in given {
        now = at;
        while let Some(deadline) = deadline(&mut segment).filter(|deadline| *deadline <= now) {
            segment.expire(deadline);
            out.append(segment.ready());
            if self::deadline(&mut segment) == Some(deadline) {
                break; // it waits for something else
            }
        }
        segment.inbox().extend(items);
        segment.advance(now);
        out.append(segment.ready());
    }
    segment.finish(now);
    out.append(segment.ready());
    out
}

fn deadline(segment: &mut impl Segment) -> Option<Instant> {
    let mut first = None;
    segment.each_stage(&mut |stage| first = [first, stage.deadline()].into_iter().flatten().min());
    first
}

fn as_json(reading: &SystemMetrics) -> Vec<String> {
    let mut line = Vec::new();
    match Format::JsonLines.encode(reading, &mut line) {
        Ok(()) => lines_of(&line).collect(),
        Err(refused) => vec![format!("(a reading that cannot be written: {})", refused.reason())],
    }
}

fn lines_of(bytes: &[u8]) -> impl Iterator<Item = String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}
