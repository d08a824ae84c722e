//! `log`: shows or changes the level of the running agent's log. The agent does it, and goes back by itself.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::running::{RunningAgent, another_question, ask_or_report};
use super::{complain, refuse, say};
use crate::agent::control::{Answer, LogRequest, Request};
use crate::agent::log::level::{CHANGE_MAX, LevelStatus};
use crate::config::{LEVELS_HELP, is_log_level, unknown_log_targets};
use crate::wire::shown;

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct LogArguments {
    /// A level, or a list with one per module, such as info,infiniservice::port=debug; reset restores the
    /// configured level [default: show it]
    level: Option<String>,

    /// How long the change lasts, at most 24h; then the configured level applies again
    #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    time: Duration,

    #[command(flatten)]
    agent: RunningAgent,
}

impl LogArguments {
    pub(super) fn main(self) -> ExitCode {
        let wanted = match self.level.as_deref() {
            None => LogRequest::Show,
            Some("reset") => LogRequest::Reset,
            Some(level) if !is_log_level(level) => {
                return refuse(format_args!("cannot read {level:?}: {LEVELS_HELP}"));
            }
            Some(_) if self.time < Duration::from_secs(1) || self.time > CHANGE_MAX => {
                return refuse("--for takes 1s to 24h");
            }
            Some(level) => {
                for (unknown, help) in unknown_log_targets(level) {
                    complain(&format!("infiniservice: warning: {unknown}; {help}"));
                }
                LogRequest::Change(level.to_owned(), self.time.as_secs())
            }
        };
        let socket = match self.agent.socket() {
            Ok(socket) => socket,
            Err(code) => return code,
        };
        match ask_or_report(&socket, &Request::Log(wanted), PATIENCE, "") {
            Err(code) => code,
            Ok(Answer::Log(status)) => say(&shown(&sentence(&status))),
            Ok(_) => another_question(),
        }
    }
}

fn sentence(LevelStatus { level, instead_of }: &LevelStatus) -> String {
    match instead_of {
        None => format!("{level}\n"),
        Some((configured, seconds)) => {
            let time = humantime::format_duration(Duration::from_secs(*seconds));
            format!("{level} for {time}, then {configured}\n")
        }
    }
}
