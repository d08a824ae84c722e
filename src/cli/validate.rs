//! `infiniservice validate FILE…`: tells all that is wrong with pipeline files, and what is likely not meant. Starts
//! nothing.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::{EXIT_CONFIG, StateOption, exit_code, folded, print};
use crate::config::{
    ConfigError, Env, Loaded, MemoryLimit, Severity, WorstCase, conflicts, inspect, secret_fault,
};

#[derive(Debug, Args)]
pub(super) struct Validate {
    /// Pipeline files, or folders of them; `agent.toml` too; - reads one from standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,

    #[command(flatten)]
    how: ReportOptions,

    #[command(flatten)]
    state: StateOption,
}

/// The form of the report, and whether warnings count as errors.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct ReportOptions {
    /// Treat warnings as errors: exit 78 if there is one
    #[arg(long)]
    pub deny_warnings: bool,

    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,

    /// Also show the most memory that the files allow, and the state folder
    #[arg(long, short)]
    pub verbose: bool,
}

impl Validate {
    pub(super) fn main(self) -> ExitCode {
        let env = |name: &str| std::env::var(name).ok();
        let (mut right, mut wrong) = (Vec::new(), Vec::new());
        let streams: (&mut dyn Write, &mut dyn Write) = (&mut right, &mut wrong);
        let verdict = report_with(&self.files, self.how, &self.state, &env, streams);
        let mut stderr = io::stderr().lock();
        let wrong = folded(&String::from_utf8_lossy(&wrong), stderr.is_terminal());
        // A failure to write the errors cannot be reported anywhere.
        let _ = stderr.write_all(wrong.as_bytes());
        match exit_code(print(&right)) {
            // A closed pipe (`validate … | head -1`) does not change the result.
            ExitCode::SUCCESS => verdict,
            unwritten => unwritten,
        }
    }
}

/// Checks files and folders as `run` would: a line for each that is right to `right`, every error and warning to `wrong`, and
/// exit code 78 if there is any error.
pub fn report(
    paths: &[PathBuf],
    how: ReportOptions,
    env: &Env<'_>,
    right: &mut dyn Write,
    wrong: &mut dyn Write,
) -> ExitCode {
    report_with(paths, how, &StateOption::default(), env, (right, wrong))
}

fn report_with(
    paths: &[PathBuf],
    how: ReportOptions,
    state: &StateOption,
    env: &Env<'_>,
    (right, wrong): (&mut dyn Write, &mut dyn Write),
) -> ExitCode {
    let (mut loaded, mut errors) = inspect(paths, env);
    let named = state.apply(&mut loaded);
    errors.extend(conflicts(&loaded, &loaded.agent.state.folder, None));
    match secret_fault(&loaded) {
        Some(fault) if fault.severity == Severity::Warning => loaded.warnings.push(fault),
        fault => errors.extend(fault),
    }
    let are_warnings_well = loaded.warnings.is_empty() || !how.deny_warnings;
    let is_right = errors.is_empty() && are_warnings_well;
    let written = if how.json {
        writeln!(right, "{}", as_json(&loaded, &errors, env, is_right)).and_then(|()| right.flush())
    } else {
        as_text(&loaded, &errors, env, how.verbose.then_some(named), right, wrong)
    };
    // A failure to write the errors cannot be reported anywhere.
    let _: io::Result<()> = written;
    if is_right { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) }
}

/// The valid files, each with a summary.
fn files(loaded: &Loaded, errors: &[ConfigError], env: &Env<'_>) -> Vec<(String, String)> {
    let pipelines = loaded.pipelines.iter().chain(&loaded.skipped);
    let mut files: Vec<_> =
        pipelines.map(|pipeline| (pipeline.origin.clone(), pipeline.to_string())).collect();
    let records = loaded.records.iter();
    files.extend(records.map(|pipeline| (pipeline.origin.clone(), pipeline.to_string())));
    if let Some(commands) = &loaded.commands {
        let lock = commands.file.lock(env);
        files.push((commands.origin.clone(), format!("commands: {commands}; {lock}")));
    }
    if let Some(origin) = &loaded.agent_origin {
        let (runtime, log) = (&loaded.agent.runtime, &loaded.agent.log);
        let what = format!("agent: {}, log {}", runtime.kind.name(), log.level);
        files.push((origin.clone(), what));
    }
    files.retain(|(origin, _)| errors.iter().all(|error| error.file != *origin));
    files
}

fn as_text(
    loaded: &Loaded,
    errors: &[ConfigError],
    env: &Env<'_>,
    named: Option<&str>,
    right: &mut dyn Write,
    wrong: &mut dyn Write,
) -> io::Result<()> {
    let files = files(loaded, errors, env);
    for (origin, what) in &files {
        writeln!(right, "{origin}: ok ({what})")?;
    }
    if let Some(named) = named {
        if errors.is_empty() && !files.is_empty() {
            writeln!(right, "{}", WorstCase::of(loaded, MemoryLimit::find().as_ref()))?;
        }
        let folder = loaded.agent.state.folder.display();
        writeln!(right, "state folder: {folder} (from {named})")?;
    }
    right.flush()?;
    let texts: Vec<String> =
        errors.iter().chain(&loaded.warnings).map(|error| format!("{error}\n")).collect();
    wrong.write_all(texts.join("\n").as_bytes())?;
    wrong.flush()
}

/// The report as data.
pub(super) fn as_json(
    loaded: &Loaded,
    errors: &[ConfigError],
    env: &Env<'_>,
    is_right: bool,
) -> Value {
    let to_json = |error: &ConfigError| {
        let place = error.place.as_ref();
        json!({
            "severity": error.severity,
            "file": error.file,
            "line": place.map(|place| place.line),
            "column": place.map(|place| place.column),
            "message": error.message,
            "help": error.help,
        })
    };
    let file = |(origin, what)| json!({ "file": origin, "what": what });
    let memory =
        errors.is_empty().then(|| WorstCase::of(loaded, MemoryLimit::find().as_ref()).bytes());
    json!({
        "ok": is_right,
        "files": files(loaded, errors, env).into_iter().map(file).collect::<Vec<_>>(),
        "errors": errors.iter().map(to_json).collect::<Vec<_>>(),
        "warnings": loaded.warnings.iter().map(to_json).collect::<Vec<_>>(),
        "memory_bytes_max": memory,
        "state_folder": loaded.agent.state.folder,
    })
}
