//! `help`: which actions there are and what each takes, and what a subcommand takes. Needs no guest.

use clap::Args;

use super::{Failed, arguments, print, send};
use crate::cli::EXIT_CONFIG;
use crate::host::action_help;

#[derive(Debug, Args)]
pub(super) struct Help {
    /// An action of the guest, or a command of this program
    #[arg(value_name = "ACTION")]
    what: Option<String>,
}

impl Help {
    pub(super) fn run(&self) -> Result<u8, Failed> {
        let help = match &self.what {
            None => format!("{}\n", send::actions()),
            Some(what) => action_help(what)
                .or_else(|| help_of(what))
                .ok_or_else(|| Failed { code: EXIT_CONFIG, what: send::unknown(what) })?,
        };
        print(&help)?;
        Ok(0)
    }
}

fn help_of(command: &str) -> Option<String> {
    let mut program = arguments();
    program.build();
    Some(program.find_subcommand_mut(command)?.render_help().to_string())
}
