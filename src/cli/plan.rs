//! `plan`: what files would cost and hold before they run. Collects for some seconds, and opens and writes nothing.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use serde_json::{Value, json};

use super::trial::try_out;
use super::{StateOption, load_or_report, say, wrapped};
use crate::agent::control::LOOK_EVERY;
use crate::config::{
    Batch, Collect, Count, Delivery, Loaded, MemoryLimit, Period, Pipeline, PipelineFile, Read,
    Target, WorstCase, Write,
};
use crate::machine_events::INTERVAL as MACHINE_INTERVAL;
use crate::model::{Frame, Group};
use crate::records::FRAMES_WAITING;
use crate::sinks::{Backlog, Options};
use crate::wire::{Format, shown};

/// Readings that are taken for the measurement, a second apart. The first is not counted: it is whole where the
/// next ones only have what changed.
const READINGS: u32 = 4;
/// How far apart they are at most.
const READING_INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Times a minute that the agent looks whether its socket is there, and whether the machine has stood still.
const OWN_WAKES_PER_MINUTE: f64 =
    60.0 / LOOK_EVERY.as_secs() as f64 + 60.0 / MACHINE_INTERVAL.as_secs() as f64;

#[derive(Debug, Args)]
pub(super) struct Plan {
    /// Pipeline files, or folders of them [default: as for run]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    state: StateOption,
}

impl Plan {
    pub(super) fn main(self) -> ExitCode {
        let mut loaded = match load_or_report(&self.files) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        self.state.apply(&mut loaded);
        let lines = match measure(&loaded) {
            Ok(lines) => lines,
            Err(code) => return code,
        };
        let memory = WorstCase::of(&loaded, MemoryLimit::find().as_ref());
        let flows: Vec<Flow<'_>> =
            loaded.pipelines.iter().zip(lines).map(|(of, lines)| Flow { of, lines }).collect();
        say(&match self.json {
            true => format!("{}\n", as_json(&loaded, &memory, &flows)),
            false => shown(&as_text(&loaded, &memory, &flows)),
        })
    }
}

/// What each cadence of a pipeline writes in each format.
struct Flow<'a> {
    of: &'a Pipeline,
    lines: Vec<Line>,
}

/// One kind of line that a pipeline makes again and again.
struct Line {
    format: Format,
    every: Duration,
    bytes: f64,
}

/// Measures every pipeline: each kind of its lines is a pipeline of its own here, and all of them run at the same time.
fn measure(loaded: &Loaded) -> Result<Vec<Vec<Line>>, ExitCode> {
    let mut parts = Vec::new();
    let mut kinds = Vec::new();
    for (index, pipeline) in loaded.pipelines.iter().enumerate() {
        for format in pipeline.file.formats() {
            let cadences = match format {
                Format::Infinibay => joined_cadences(&pipeline.file),
                _ => pipeline.file.collect.clone(),
            };
            for cadence in cadences {
                kinds.push((index, format, cadence.every.get()));
                parts.push(measured_pipeline(pipeline, format, cadence));
            }
        }
    }
    let mut lines: Vec<Vec<Line>> = loaded.pipelines.iter().map(|_| Vec::new()).collect();
    if parts.is_empty() {
        return Ok(lines);
    }
    let tried = try_out(loaded, &parts, READINGS)?;
    for ((index, format, every), tried) in kinds.into_iter().zip(tried) {
        let frames: Vec<Frame> = tried.into_iter().flatten().collect();
        let mut bytes = bytes_each(&frames);
        // A longer line of `infinibay` comes in the place of a short one.
        if let Some(short) = lines[index].iter().find(|line| line.format == format)
            && format == Format::Infinibay
        {
            bytes = (bytes - short.bytes).max(0.0);
        }
        lines[index].push(Line { format, every, bytes });
    }
    Ok(lines)
}

/// What `infinibay` makes of the cadences: a line with the last value of each group at the shortest interval; processes
/// and ports are only in one after they were read.
fn joined_cadences(file: &PipelineFile) -> Vec<Collect> {
    let Some(lead) = file.collect.iter().map(|collect| collect.every).min() else {
        return Vec::new();
    };
    let is_list = |read: &Read| matches!(read.group(), Group::Processes | Group::Ports);
    let each = |read: &Read, collect: &Collect| collect.every == lead || !is_list(read);
    let mut short = Vec::new();
    for collect in &file.collect {
        short.extend(collect.from.iter().filter(|read| each(read, collect)).cloned());
    }
    let mut lines = vec![Collect { every: lead, from: short.clone() }];
    for collect in file.collect.iter().filter(|collect| collect.every > lead) {
        let lists = collect.from.iter().filter(|read| is_list(read)).cloned();
        let from: Vec<Read> = short.iter().cloned().chain(lists).collect();
        if from.len() > short.len() {
            lines.push(Collect { every: collect.every, from });
        }
    }
    lines
}

/// `pipeline` with one cadence and one format, quick enough to be looked at, each reading in a frame of its own.
fn measured_pipeline(pipeline: &Pipeline, format: Format, cadence: Collect) -> Pipeline {
    let mut part = pipeline.clone();
    let apart = Period::new(READING_INTERVAL_MAX).unwrap_or(cadence.every);
    part.file.collect = vec![Collect { every: cadence.every.min(apart), ..cadence }];
    part.file.batch = Batch { max_items: Count::fixed(1), ..part.file.batch };
    part.file.serialize.format = format;
    part.file.write.truncate(1);
    for write in &mut part.file.write {
        write.format = None;
    }
    part
}

/// The mean size of what a reading becomes. One that was left out, because nothing had changed, counts as nothing.
fn bytes_each(frames: &[Frame]) -> f64 {
    let size = |frame: &Frame| frame.bytes.len() as f64;
    match frames {
        [] => 0.0,
        [only] => size(only),
        [_, rest @ ..] => rest.iter().map(size).sum::<f64>() / f64::from(READINGS - 1),
    }
}

impl Flow<'_> {
    /// Bytes a second in `format`.
    fn bytes_per_second(&self, format: Format) -> f64 {
        let of_format = self.lines.iter().filter(|line| line.format == format);
        of_format.map(|line| line.bytes / line.every.as_secs_f64()).sum()
    }

    fn readings_per_minute(&self) -> f64 {
        self.of.file.collect.iter().map(|collect| per_minute(collect.every.get())).sum()
    }

    /// The longest that a reading waits for others.
    fn delay(&self) -> Duration {
        let file = &self.of.file;
        match file.batch.max_items.items() {
            1 => Duration::ZERO,
            items => {
                let full = 60.0 / self.readings_per_minute().max(f64::MIN_POSITIVE);
                let full = Duration::try_from_secs_f64(full * (items - 1) as f64);
                full.unwrap_or(Duration::MAX).min(file.batch.max_delay.get())
            }
        }
    }

    /// Times a minute that it wakes up: for each reading, and for each batch that its age ends.
    fn wakes_per_minute(&self) -> f64 {
        let readings = self.readings_per_minute();
        let delay = self.delay();
        let by_age = self.of.file.batch.max_delay.get() == delay && !delay.is_zero();
        readings + if by_age { readings.min(per_minute(delay)) } else { 0.0 }
    }
}

fn per_minute(every: Duration) -> f64 {
    60.0 / every.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// What a pipeline takes in, and what becomes of it while an output does not take more.
#[derive(Debug, Clone, Copy)]
enum Input {
    Readings,
    Records,
}

impl Input {
    fn waits(self) -> &'static str {
        match self {
            Self::Readings => "collecting waits",
            Self::Records => "reading waits",
        }
    }

    fn later(self) -> &'static str {
        match self {
            Self::Readings => "a reading that is missed is not made up for",
            Self::Records => "files and the journal are read on from there later",
        }
    }
}

/// What becomes of a frame while this output does not take it and `keep` frames may wait, and what counts a loss.
fn loss_policy<F>(
    write: &Write<F>,
    keep: usize,
    is_alone: bool,
    input: Input,
    loaded: &Loaded,
) -> String {
    let waits = input.waits();
    let spool = ByteSize::b(loaded.agent.spool.size.bytes()).display().iec().to_string();
    let backlog = write.target.sink().map(Options::backlog);
    match (backlog, write.delivery) {
        (None, Delivery::Durable) => format!(
            "durable: on disk below {} until a host has acknowledged it, at most {spool} with all else that is durable; then \
             the least important goes, and the host is told how many",
            loaded.agent.state.folder.display()
        ),
        (None, Delivery::Latest) => format!(
            "in memory only: the newest {keep} are kept; older ones are lost, counted as `overwritten` in `status`"
        ),
        (Some(Backlog::Newest), _) => {
            "the newest reading is served when it is asked for".to_owned()
        }
        (Some(Backlog::Nothing), _) => "nothing is written".to_owned(),
        (Some(Backlog::Waits), _) if is_alone => format!(
            "loses nothing while it can be written: {keep} may wait, then {waits}; a failed write is logged"
        ),
        (_, _) if is_alone => {
            format!("in memory only: {keep} may wait, then {waits}; {}", input.later())
        }
        _ => format!(
            "in memory only: the newest {keep} wait, and none holds up another output; older ones are lost, counted as \
             `overwritten` in `status`"
        ),
    }
}

fn as_text(loaded: &Loaded, memory: &WorstCase, flows: &[Flow<'_>]) -> String {
    let mut text = format!("{memory}\n");
    // Writing to a String cannot fail.
    for flow in flows {
        let file = &flow.of.file;
        let _ = writeln!(text, "\n{} ({})", flow.of.name, flow.of.origin);
        for collect in &file.collect {
            let groups: Vec<&str> = collect.from.iter().map(|read| read.group().name()).collect();
            wrapped(&mut text, 2, &format!("every {}: {}", collect.every, groups.join(", ")));
        }
        let delay = flow.delay();
        let batch = &file.batch;
        wrapped(
            &mut text,
            2,
            &match delay {
                Duration::ZERO => "added delay: none, each reading leaves at once".to_owned(),
                delay => format!(
                    "added delay: up to {}; a batch leaves with {} readings, with {}, or after max_delay",
                    humantime::format_duration(delay),
                    batch.max_items.items(),
                    ByteSize::b(batch.max_bytes.bytes()).display().iec()
                ),
            },
        );
        wrapped(&mut text, 2, &format!("wake-ups: {:.1} a minute", flow.wakes_per_minute()));
        for write in &file.write {
            let format = file.format_of(write);
            let rate = flow.bytes_per_second(format);
            let lines = flow.lines.iter().filter(|line| line.format == format);
            let lines: Vec<String> = lines
                .map(|line| {
                    let every = humantime::format_duration(line.every);
                    format!("{} every {every}", ByteSize::b(line.bytes as u64).display().iec())
                })
                .collect();
            let _ = writeln!(text, "  to {}, {}:", write.target, format.name());
            wrapped(&mut text, 4, &format!("{rate:.0} B/s ({})", lines.join(", ")));
            let (keep, is_alone) = (write.keep.items(), file.write.len() == 1);
            wrapped(&mut text, 4, &loss_policy(write, keep, is_alone, Input::Readings, loaded));
        }
    }
    for records in &loaded.records {
        let _ = writeln!(text, "\n{} ({})", records.name, records.origin);
        let delay = records.file.batch.max_delay;
        wrapped(&mut text, 2, &format!("as much as is read; added delay: up to {delay}"));
        for write in &records.file.write {
            let format = records.file.format_of(write);
            let _ = writeln!(text, "  to {}, {}:", write.target, format.name());
            let is_alone = records.file.write.len() == 1;
            let keep = write.keep.items();
            let is_port = matches!(write.target, Target::Port(_));
            let keep = if is_alone && !is_port { keep.min(FRAMES_WAITING) } else { keep };
            wrapped(&mut text, 4, &loss_policy(write, keep, is_alone, Input::Records, loaded));
        }
    }
    if let Some(commands) = &loaded.commands {
        let file = &commands.file;
        let _ = writeln!(text, "\ncommands ({})", commands.origin);
        let execute = &file.execute;
        wrapped(
            &mut text,
            2,
            &format!(
                "{} run at once, {} may wait, the next one is refused with a reason",
                execute.parallel.get(),
                execute.waiting.get()
            ),
        );
        wrapped(&mut text, 2, &format!("answers: {}", answers(file.reply.delivery, loaded)));
    }
    let _ = writeln!(
        text,
        "\nthe agent itself: {:.1} wake-ups a minute, not counting messages of the host",
        OWN_WAKES_PER_MINUTE
    );
    if !flows.is_empty() {
        let _ = writeln!(
            text,
            "measured over {} readings, at most {} s apart",
            READINGS - 1,
            READING_INTERVAL_MAX.as_secs()
        );
    }
    text
}

/// Where answers are until the host has them.
fn answers(delivery: Delivery, loaded: &Loaded) -> String {
    match delivery {
        Delivery::Durable => format!(
            "durable: on disk below {} until the host has acknowledged them",
            loaded.agent.state.folder.display()
        ),
        Delivery::Latest => "in memory only, for the host that asked".to_owned(),
    }
}

fn as_json(loaded: &Loaded, memory: &WorstCase, flows: &[Flow<'_>]) -> Value {
    let flow = |flow: &Flow<'_>| {
        let file = &flow.of.file;
        let output = |write: &Write| {
            let (keep, is_alone) = (write.keep.items(), file.write.len() == 1);
            json!({
                "to": write.target.to_string(),
                "format": file.format_of(write).name(),
                "bytes_per_second": flow.bytes_per_second(file.format_of(write)),
                "durable": write.delivery == Delivery::Durable,
                "when_not_taken": loss_policy(write, keep, is_alone, Input::Readings, loaded),
            })
        };
        json!({
            "name": flow.of.name,
            "file": flow.of.origin,
            "readings_per_minute": flow.readings_per_minute(),
            "wakeups_per_minute": flow.wakes_per_minute(),
            "delay_seconds_max": flow.delay().as_secs_f64(),
            "outputs": file.write.iter().map(output).collect::<Vec<_>>(),
        })
    };
    let reply = loaded.commands.as_ref().map(|commands| commands.file.reply.delivery);
    json!({
        "memory_bytes_max": memory.bytes(),
        "memory_ceiling_bytes": memory.ceiling,
        "pipelines": flows.iter().map(flow).collect::<Vec<_>>(),
        "answers": reply.map(|delivery| answers(delivery, loaded)),
    })
}
