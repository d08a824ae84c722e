//! `infiniservice audit`: whether the audit is as the agent wrote it. Changes nothing.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{refuse, say};
use crate::commands::request_log::chain::{self, BREAKS_MAX, Verdict};
use crate::sinks::why;

/// Where the audit is if no file says otherwise.
const FILE: &str = "/var/lib/infiniservice/audit.jsonl";
/// Something is wrong with it.
const EXIT_WRONG: u8 = 1;

#[derive(Debug, Args)]
pub struct AuditArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the hash chain through the audit and its former files, and say where it breaks
    Verify {
        /// The file; its former selves (FILE.1, …) are followed too
        #[arg(default_value = FILE)]
        file: PathBuf,
    },
}

impl AuditArguments {
    pub fn main(&self) -> ExitCode {
        let Command::Verify { file } = &self.command;
        let Verdict { files, lines, unchained, breaks } = match chain::verify(file) {
            Ok(verdict) => verdict,
            Err(error) => {
                return refuse(&format!(
                    "cannot read the audit {}: {}",
                    file.display(),
                    why(&error)
                ));
            }
        };
        let mut told = String::new();
        for (file, line, wrong) in &breaks {
            told += &format!("{}:{line}: {wrong}\n", file.display());
        }
        if breaks.len() == BREAKS_MAX {
            told += "more breaks are not shown\n";
        }
        let verdict = if breaks.is_empty() { "the chain is whole" } else { "the chain is broken" };
        told += &format!("{verdict}: {lines} lines in {} files", files.len());
        if unchained > 0 {
            told += &format!("; the first {unchained} are of an agent that chained none");
        }
        let said = say(&(told + "\n"));
        if breaks.is_empty() { said } else { ExitCode::from(EXIT_WRONG) }
    }
}
