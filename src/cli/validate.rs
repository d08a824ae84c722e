//! `infiniservice validate FILE…`: tells what is wrong with pipeline files. Starts nothing.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::EXIT_CONFIG;
use crate::config::{Env, WorstCase, inspect};

#[derive(Debug, Args)]
pub(super) struct Validate {
    /// Pipeline files, or folders of them; `agent.toml` too
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Validate {
    pub(super) fn main(self) -> ExitCode {
        validate(&self.files)
    }
}

/// Checks files and folders as `run` would: a line for each that is right on standard output, every
/// error on standard error, and exit code 78 if there is any.
pub fn validate(paths: &[PathBuf]) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    report(paths, &env, &mut io::stdout().lock(), &mut io::stderr().lock())
}

/// [`validate`] with its surroundings passed in.
pub fn report(
    paths: &[PathBuf],
    env: &Env<'_>,
    right: &mut dyn Write,
    wrong: &mut dyn Write,
) -> ExitCode {
    let (loaded, errors) = inspect(paths, env);
    let verdict = if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) };
    let written = (|| {
        for pipeline in loaded.pipelines.iter().chain(&loaded.skipped) {
            writeln!(right, "{}: ok ({pipeline})", pipeline.origin)?;
        }
        if let Some(commands) = &loaded.commands {
            let lock = commands.file.lock(env);
            writeln!(right, "{}: ok (commands: {commands}; {lock})", commands.origin)?;
        }
        if let Some(origin) = &loaded.agent_origin {
            let (runtime, log) = (&loaded.agent.runtime, &loaded.agent.log);
            writeln!(right, "{origin}: ok (agent: {}, log {})", runtime.flavour.name(), log.level)?;
        }
        let is_nothing = loaded.pipelines.is_empty() && loaded.commands.is_none();
        if errors.is_empty() && !(is_nothing && loaded.agent_origin.is_none()) {
            writeln!(right, "{}", WorstCase::of(&loaded))?;
        }
        right.flush()?;
        let told: Vec<String> = errors.iter().map(|error| format!("{error}\n")).collect();
        wrong.write_all(told.join("\n").as_bytes())?;
        wrong.flush()
    })();
    // A reader who has left (`validate … | head -1`) changes nothing about the verdict.
    let _: io::Result<()> = written;
    verdict
}
