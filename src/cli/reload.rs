//! `reload`: has the running agent read its files again, and prints the result.
//! Everything that is done is done there.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::running::{RunningAgent, another_question, ask_or_report};
use super::{EXIT_CONFIG, complain, say};
use crate::agent::control::{Answer, Request};
use crate::wire::shown;

/// How long an agent has for its answer. One whose flows take longer to change goes on with that.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    agent: RunningAgent,
}

impl Reload {
    pub(super) fn main(self) -> ExitCode {
        let socket = match self.agent.socket() {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        let if_late = "; if it takes the files later, its log says so";
        match ask_or_report(&socket, &Request::Reload, PATIENCE, if_late) {
            Err(code) => code,
            Ok(Answer::Reloaded(report)) if report.wrong.is_empty() => say(&shown(&report.lines())),
            Ok(Answer::Reloaded(report)) => {
                for wrong in report.wrong {
                    complain(&shown(&wrong.to_string()));
                }
                complain("infiniservice: nothing was taken; the agent goes on as it was");
                ExitCode::from(EXIT_CONFIG)
            }
            Ok(_) => another_question(),
        }
    }
}
