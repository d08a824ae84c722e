//! `host help`: which actions there are and what each takes, and what a subcommand takes. Needs no guest.

use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::send;
use crate::cli::{Arguments, refuse, say};
use crate::host::action_help;

#[derive(Debug, Args)]
pub(super) struct Help {
    /// An action of the guest, or a subcommand of host
    #[arg(value_name = "ACTION")]
    what: Option<String>,
}

impl Help {
    pub(super) fn main(&self) -> ExitCode {
        let Some(what) = &self.what else { return say(&format!("{}\n", send::actions())) };
        if let Some(help) = action_help(what) {
            return say(&help);
        }
        let mut program = Arguments::command();
        program.build();
        let host = program.find_subcommand_mut("host");
        match host.and_then(|host| host.find_subcommand_mut(what)) {
            Some(subcommand) => say(&subcommand.render_help().to_string()),
            None => refuse(&send::unknown(what)),
        }
    }
}
