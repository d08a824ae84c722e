//! `infiniservice audit`: whether the audit is as the agent wrote it. Changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{StateOption, load_or_report, refuse, say};
use crate::commands::audit::chain::{self, BREAKS_MAX, Verdict};
use crate::sinks::io_reason;

/// Something is wrong with it.
const EXIT_WRONG: u8 = 1;

#[derive(Debug, Args)]
pub(super) struct AuditArguments {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    state: StateOption,

    /// A file of the agent, or a folder of them; may be repeated [default: as for run]
    #[arg(long, value_name = "DIR|FILE", global = true)]
    pipelines: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the hash chain through the audit and its former files, and say where it breaks
    Verify {
        /// The file; its former selves (FILE.1, …) are followed too [default: that of the agent's files]
        file: Option<PathBuf>,
    },
}

impl AuditArguments {
    pub(super) fn main(&self) -> ExitCode {
        let Command::Verify { file } = &self.command;
        let file = match file.clone().map_or_else(|| self.configured(), Ok) {
            Ok(file) => file,
            Err(code) => return code,
        };
        let Verdict { files, lines, unchained, breaks } = match chain::verify(&file) {
            Ok(verdict) => verdict,
            Err(error) => {
                return refuse(format_args!(
                    "cannot read the audit {}: {}",
                    file.display(),
                    io_reason(&error)
                ));
            }
        };
        let mut text = String::new();
        for (file, line, wrong) in &breaks {
            text += &format!("{}:{line}: {wrong}\n", file.display());
        }
        if breaks.len() == BREAKS_MAX {
            text += "more breaks are not shown\n";
        }
        let verdict = if breaks.is_empty() { "the chain is whole" } else { "the chain is broken" };
        let s = if files.len() == 1 { "" } else { "s" };
        text += &format!("{verdict}: {lines} lines in {} file{s}", files.len());
        if unchained > 0 {
            text += &format!("; the first {unchained} are of an agent that chained none");
        }
        let said = say(&(text + "\n"));
        if breaks.is_empty() { said } else { ExitCode::from(EXIT_WRONG) }
    }

    /// The file that the agent writes.
    fn configured(&self) -> Result<PathBuf, ExitCode> {
        let loaded = load_or_report(&self.pipelines)?;
        let chosen = self.state.chosen().map(|(folder, _)| folder);
        let folder = chosen.unwrap_or(loaded.agent.state.folder);
        let audit = loaded.commands.map(|commands| commands.file.audit).unwrap_or_default();
        Ok(audit.file(&folder))
    }
}
