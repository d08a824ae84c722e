//! `bench`: a pipeline flat out over made-up readings or lines, measured and checked. The pipeline is the one
//! that `run` would build; only its sources are others, and its output unless `--real-outputs` is given.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    BadArgument, EXIT_INTERRUPTED, cannot_start, complain, interrupted, refuse, say, unless,
};
use crate::agent;
use crate::agent::Log;
use crate::bench::{
    BenchError, Comparison, Curve, Load, Output, Pinned, Plan, Point, Progress, Report, Row,
    Scaling,
};
use crate::config::{
    Count, Destination, Loaded, NotASetting, RuntimeKind, Setting, Target, load_with,
};

/// Not all that was made was delivered.
const EXIT_INCOMPLETE: u8 = 1;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  infiniservice bench my.toml                    nothing is written
  infiniservice bench my.toml --sink file        to a temporary file
  infiniservice bench before.toml after.toml     two files, and the ratios
  infiniservice bench my.toml --sink null --sink unix
                                                 one file, two outputs
  infiniservice bench my.toml --set batch.max_items=1 --set batch.max_items=64
                                                 one file, two settings
  infiniservice bench logs.toml --input app.ndjson --sink file --against
                                                 records, and plain loops
  infiniservice bench my.toml --set \"batch.max_items=64; batch.max_delay=10ms\"
                                                 two keys at once
  infiniservice bench my.toml --plot curve.svg   latency against load
  infiniservice bench my.toml --scale            more pipelines, threads and
                                                 batch sizes
If a file has several [[write]], one output replaces all of them.")]
pub(super) struct Bench {
    /// The pipeline file, or built-in:NAME; two files are compared
    #[arg(value_name = "FILE", default_value = "built-in:bench.toml", num_args = 1..=2)]
    files: Vec<PathBuf>,

    /// How long each measurement lasts
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = some_time)]
    time: Duration,

    /// What replaces the output of the file [default: null]; two are measured and compared
    #[arg(long, value_name = "SINK", value_enum, action = clap::ArgAction::Append)]
    sink: Vec<SinkName>,

    /// Measure with another value in the place of what the file, or its agent.toml, says: a key with its section, several
    /// with ; between them. Given twice, both are measured and compared
    #[arg(long, value_name = "KEY=VALUE", value_parser = Settings::parse, action = clap::ArgAction::Append)]
    set: Vec<Settings>,

    /// A file of lines for a pipeline of records, read over and over [default: made-up lines]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Also run plain loops over the same lines, and print how many times as fast the pipeline is
    #[arg(long)]
    against: bool,

    /// Write the made-up readings to the output that the file names; asks first on a terminal
    #[arg(long, conflicts_with = "sink")]
    real_outputs: bool,

    /// Draw throughput and latency into this SVG file, against loads from 25 to 200 % of what the pipeline takes flat out:
    /// ten measurements
    #[arg(long, value_name = "FILE", conflicts_with_all = ["against", "real_outputs"])]
    plot: Option<PathBuf>,

    /// Measure 1 to 64 pipelines on 1 processor to all of them, with as many threads, and batches of 1 to 4096 items
    #[arg(long, conflicts_with_all = ["plot", "against", "real_outputs"])]
    scale: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SinkName {
    /// Nothing is written
    Null,
    /// A temporary file, rotated as the file says, at 16 MiB at most
    File,
    /// A Unix socket with a reader, whose work is counted too
    Unix,
    /// A port with a reader at its other end, whose work is counted too
    Port,
}

/// One `--set`.
#[derive(Debug, Clone, Default)]
struct Settings(Vec<Setting>);

impl Settings {
    fn parse(text: &str) -> Result<Self, NotASetting> {
        let settings = text.split(';').filter(|one| !one.trim().is_empty()).map(str::parse);
        settings.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|setting| write!(f, ", {setting}"))
    }
}

/// One requested measurement.
struct Run<'a> {
    file: &'a PathBuf,
    output: Output,
    set: Settings,
}

impl From<SinkName> for Output {
    fn from(name: SinkName) -> Self {
        match name {
            SinkName::Null => Self::Null,
            SinkName::File => Self::File,
            SinkName::Unix => Self::Unix,
            SinkName::Port => Self::Port,
        }
    }
}

impl Bench {
    pub(super) fn main(self) -> ExitCode {
        self.measure().unwrap_or_else(|code| code)
    }

    fn measure(&self) -> Result<ExitCode, ExitCode> {
        let runs = self.runs()?;
        let env = |name: &str| std::env::var(name).ok();
        let loaded = runs.iter().map(|Run { file, set, .. }| {
            load_with(std::slice::from_ref(*file), &set.0, &env)
                .map_err(|errors| super::report(&errors))
        });
        let loaded = loaded.collect::<Result<Vec<_>, _>>()?;
        if loaded.iter().any(|loaded| loaded.pipelines.len() + loaded.records.len() != 1) {
            return Err(refuse(
                "bench measures one pipeline of readings or records; name its file",
            ));
        }
        if (self.against || self.input.is_some()) && loaded.iter().any(|one| one.records.is_empty())
        {
            return Err(refuse("--input and --against are for a file with [[read]]"));
        }
        if self.real_outputs {
            consent(&loaded)?;
        }
        let log = agent::start_log("warn").map_err(refuse)?;
        if self.scale || self.plot.is_some() {
            let ([loaded], [run]) = (&loaded[..], &runs[..]) else {
                return Err(refuse("--plot and --scale measure one file with one output"));
            };
            let mut bench =
                Several { bench: self, loaded: loaded.clone(), output: run.output, log };
            return match &self.plot {
                Some(path) => bench.plot(path),
                None => bench.scale(),
            };
        }
        let mut reports = Vec::new();
        for (index, (loaded, run)) in loaded.iter().zip(&runs).enumerate() {
            let title = match runs.len() {
                1 => run.file.display().to_string(),
                _ => format!("{} {}", ["A", "B"][index], run.file.display()),
            };
            reports.push(self.run(loaded, run.output, &title, log)?);
        }
        match (reports.pop(), reports.pop()) {
            (Some(second), Some(first)) => {
                let both = Comparison::new(first, second);
                let heading: Vec<String> = runs
                    .iter()
                    .zip(["A", "B"])
                    .map(|(Run { file, output, set }, name)| {
                        format!("{name}: {}{set}, {}\n", file.display(), named(*output))
                    })
                    .collect();
                Ok(tell(&both, both.is_complete(), self.json, &format!("{}\n", heading.concat())))
            }
            (Some(report), None) => Ok(tell(&report, report.complete, self.json, "")),
            (None, _) => Err(refuse("nothing was measured")),
        }
    }

    /// One measurement, in a runtime of its own.
    fn run(
        &self,
        loaded: &Loaded,
        output: Output,
        title: &str,
        log: Log,
    ) -> Result<Report, ExitCode> {
        let mut plan = self.plan(loaded, output)?;
        let time = self.time;
        measured(loaded, log, ProgressLine::new(title, time), async |line| {
            plan.run(time, |progress| line.show(progress)).await
        })
    }

    fn plan(&self, loaded: &Loaded, output: Output) -> Result<Plan, ExitCode> {
        let plan = match (&loaded.pipelines[..], &loaded.records[..]) {
            ([], [records, ..]) => {
                Plan::of_records(records, output, self.input.as_deref(), self.against)
            }
            (pipelines, _) => Plan::new(&pipelines[0], output),
        };
        plan.map_err(refuse)
    }

    /// What is measured, one after the other: what is given once holds for both.
    fn runs(&self) -> Result<Vec<Run<'_>>, ExitCode> {
        let outputs: Vec<Output> = match (&self.sink[..], self.real_outputs) {
            (_, true) => vec![Output::Real],
            ([], false) => vec![Output::Null],
            (sinks, false) => sinks.iter().map(|sink| (*sink).into()).collect(),
        };
        let count = self.files.len().max(outputs.len()).max(self.set.len());
        if count > 2 {
            let help = "name one or two files, and --sink and --set twice at most";
            return Err(refuse(format_args!("bench compares two at most; {help}")));
        }
        let run = |index: usize| {
            let set = self.set.get(index).or(self.set.last()).cloned().unwrap_or_default();
            let output = outputs.get(index).or(outputs.last()).copied().unwrap_or(Output::Null);
            let file = self.files.get(index).or(self.files.last())?;
            Some(Run { file, output, set })
        };
        Ok((0..count).filter_map(run).collect())
    }
}

fn named(output: Output) -> &'static str {
    match output {
        Output::Null => "to nowhere",
        Output::File => "to a temporary file",
        Output::Unix => "to a Unix socket of its own",
        Output::Port => "to a port of its own",
        Output::Real => "to its real output",
    }
}

/// Says where made-up readings will be written, and asks a person whether that is meant. Without a terminal,
/// the flag is the answer.
fn consent(loaded: &[Loaded]) -> Result<(), ExitCode> {
    for (.., target) in loaded.iter().flat_map(Loaded::targets) {
        let rotates = matches!(target, Target::Sink(Destination::File(_)));
        let lost = if rotates { ", which rotates what is in it away" } else { "" };
        complain(&format!("infiniservice: bench writes made-up readings to {target}{lost}"));
    }
    if !io::stdin().is_terminal() {
        return Ok(());
    }
    let _ = write!(io::stderr(), "Write them there? [y/N] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    if !answer.ends_with('\n') {
        complain(""); // the end of input: the next line begins anew
    }
    match answer.trim() {
        "y" | "Y" | "yes" if read.is_ok() => Ok(()),
        _ => Err(refuse("nothing was written; without --real-outputs bench writes nowhere")),
    }
}

/// Runs one measurement in a runtime of its own, as the settings of `loaded` have it.
///
/// # Errors
/// The exit code, after the reason was reported.
fn measured<'a, T>(
    loaded: &Loaded,
    log: Log,
    mut line: ProgressLine<'a>,
    measure: impl AsyncFnOnce(&mut ProgressLine<'a>) -> Result<T, BenchError>,
) -> Result<T, ExitCode> {
    let runtime = agent::build_runtime(&loaded.agent.runtime).map_err(cannot_start)?;
    let log = log.write_on(&runtime);
    let measured = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted() => None,
            measured = measure(&mut line) => Some(measured),
        }
    });
    line.clear();
    drop(log);
    runtime.shutdown_timeout(Duration::from_millis(100));
    match measured {
        None => Err(ExitCode::from(EXIT_INTERRUPTED)),
        Some(measured) => measured.map_err(refuse),
    }
}

/// Many measurements of one file.
struct Several<'a> {
    bench: &'a Bench,
    loaded: Loaded,
    output: Output,
    log: Log,
}

impl Several<'_> {
    /// Measures the knee, then loads around it, and draws them.
    fn plot(&mut self, path: &Path) -> Result<ExitCode, ExitCode> {
        let flat_out = self.point(Load::FLAT_OUT, "flat out")?;
        let knee_per_second = flat_out.per_second;
        let mut points = Vec::new();
        for percent in Curve::PERCENT {
            let per_second = Some(knee_per_second * f64::from(percent) / 100.0);
            let point = self.point(Load { pipelines: 1, per_second }, &format!("{percent} %"))?;
            points.push((percent, point));
        }
        let curve = Curve { pipeline: self.title(), knee_per_second, points };
        if let Err(error) = std::fs::write(path, curve.to_svg()) {
            return Err(refuse(format_args!("cannot write {}: {error}", path.display())));
        }
        Ok(tell(&curve, curve.is_complete(), self.bench.json, ""))
    }

    /// Measures many pipelines, with as many processors as threads, and then batches of several sizes.
    fn scale(&mut self) -> Result<ExitCode, ExitCode> {
        let as_configured = self.loaded.clone();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let powers = (0..).map(|power| 1 << power).take_while(|threads| *threads < processors);
        let all_threads: Vec<usize> = powers.chain([processors.min(MAX_THREADS)]).collect();
        let mut rows = Vec::new();
        for pipelines in Scaling::PIPELINES {
            let mut row = Row { pipelines, threads: Vec::new() };
            for threads in &all_threads {
                let runtime = &mut self.loaded.agent.runtime;
                runtime.kind = match threads {
                    1 => RuntimeKind::CurrentThread,
                    _ => RuntimeKind::MultiThread,
                };
                let count = u32::try_from(*threads).unwrap_or(1);
                runtime.worker_threads = (*threads > 1).then(|| Count::fixed(count));
                let what = format!("{pipelines} on {threads}");
                let pinned = Pinned::to(*threads).map_err(|error| {
                    refuse(format_args!("cannot measure on {threads} of the processors: {error}"))
                })?;
                let point = self.point(Load { pipelines, per_second: None }, &what)?;
                drop(pinned);
                row.threads.push((*threads, point));
            }
            rows.push(row);
        }
        self.loaded = as_configured;
        let mut batches = Vec::new();
        for items in Scaling::BATCHES {
            let max_items = Count::fixed(items);
            for pipeline in &mut self.loaded.pipelines {
                pipeline.file.batch.max_items = max_items;
            }
            for pipeline in &mut self.loaded.records {
                pipeline.file.batch.max_items = max_items;
            }
            batches.push((items, self.point(Load::FLAT_OUT, &format!("batches of {items}"))?));
        }
        let scaling = Scaling { pipeline: self.title(), pipelines: rows, batches };
        Ok(tell(&scaling, scaling.is_complete(), self.bench.json, ""))
    }

    fn point(&self, load: Load, what: &str) -> Result<Point, ExitCode> {
        let time = self.bench.time;
        let mut plan = self.bench.plan(&self.loaded, self.output)?;
        measured(&self.loaded, self.log, ProgressLine::new(what, time), async |line| {
            plan.run_under(load, time, |progress| line.show(progress)).await
        })
    }

    fn title(&self) -> String {
        let origins = self.loaded.pipelines.iter().map(|one| &one.origin);
        let mut origins = origins.chain(self.loaded.records.iter().map(|one| &one.origin));
        origins.next().cloned().unwrap_or_default()
    }
}

/// The most worker threads that are measured, as many as `agent.toml` takes.
const MAX_THREADS: usize = 256;

/// How far it is, on one line of a terminal that is written over.
struct ProgressLine<'a> {
    title: &'a str,
    time: Duration,
    is_shown: bool,
}

impl<'a> ProgressLine<'a> {
    fn new(title: &'a str, time: Duration) -> Self {
        let title = Path::new(title).file_name().and_then(|name| name.to_str()).unwrap_or(title);
        Self { title, time, is_shown: false }
    }

    fn show(&mut self, progress: Progress) {
        if !io::stderr().is_terminal() {
            return;
        }
        let title: String = self.title.chars().take(30).collect();
        let (elapsed, time) = (progress.elapsed.as_secs_f64(), self.time.as_secs_f64());
        let doing = if elapsed < time { "" } else { ", writing the rest" };
        let text =
            format!("{title}: {elapsed:.0} of {time:.0} s, {} written{doing}", progress.delivered);
        self.is_shown |= write!(io::stderr(), "\r{text}\x1b[K").is_ok();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn tell<R: Serialize + std::fmt::Display>(
    report: &R,
    complete: bool,
    json: bool,
    heading: &str,
) -> ExitCode {
    let said = if json {
        match serde_json::to_string(report) {
            Ok(line) => say(&format!("{line}\n")),
            Err(error) => return refuse(format_args!("cannot print the report: {error}")),
        }
    } else {
        say(&format!("{heading}{report}"))
    };
    if complete { said } else { unless(said, EXIT_INCOMPLETE) }
}

fn some_time(text: &str) -> Result<Duration, BadArgument> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => {
            Err(BadArgument("nothing can be measured in no time; write 1s or more".to_owned()))
        }
        Ok(time) => Ok(time),
        Err(error) => Err(BadArgument(error.to_string())),
    }
}
