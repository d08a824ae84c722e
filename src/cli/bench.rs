//! `bench`: a pipeline flat out over made-up readings or lines, measured and checked. The pipeline is the one
//! that `run` would build; only its sources are others, and its output unless `--real-outputs` is given.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{EXIT_INTERRUPTED, cannot_start, complain, interrupted, refuse, say, unless};
use crate::agent;
use crate::agent::Log;
use crate::bench::{Comparison, Output, Plan, Progress, Report};
use crate::config::{Destination, Loaded, Setting, Target, load_with};

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
                                                 records, beside plain loops over the same lines
  infiniservice bench my.toml --set \"batch.max_items=64; runtime.kind=multi_thread\"
                                                 two keys at once
Of a file with several [[write]], one output stands for all.")]
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
    fn parse(text: &str) -> Result<Self, String> {
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
        let plan = match (&loaded.pipelines[..], &loaded.records[..]) {
            ([], [records, ..]) => {
                Plan::of_records(records, output, self.input.as_deref(), self.against)
            }
            (pipelines, _) => Plan::new(&pipelines[0], output),
        };
        let mut plan = plan.map_err(refuse)?;
        let time = self.time;
        let runtime = agent::build_runtime(&loaded.agent.runtime).map_err(cannot_start)?;
        let log = log.write_on(&runtime);
        let mut line = ProgressLine::new(title, time);
        let measured = runtime.block_on(async {
            tokio::select! {
                biased;
                () = interrupted() => None,
                measured = plan.run(time, |progress| line.show(progress)) => Some(measured),
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

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => {
            Err("nothing can be measured in no time; write 1s or more".to_owned())
        }
        Ok(time) => Ok(time),
        Err(error) => Err(error.to_string()),
    }
}
