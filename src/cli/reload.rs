//! `reload`: has the running agent read its files again, and prints the result.
//! Everything that is done is done there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EXIT_CONFIG, StateOption, complain, refuse, say};
use crate::agent::control::{Answer, Request, Unanswered, ask, socket_of};
use crate::config::{AgentSettings, inspect, is_built_in};
use crate::wire::shown;

/// There is no agent, or it did not answer.
const EXIT_UNANSWERED: u8 = 1;

/// How long an agent has for its answer. One whose flows take longer to change goes on with that.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    state: StateOption,

    /// Where the agent's settings are: a pipeline file or folder that it was started with, once for each
    /// [default: as for run]
    #[arg(long, value_name = "DIR|FILE")]
    pipelines: Vec<PathBuf>,
}

impl Reload {
    pub(super) fn main(self) -> ExitCode {
        if let Some(missing) = self.pipelines.iter().find(|path| !is_there(path)) {
            let missing = missing.display();
            return refuse(&format!(
                "there is no {missing}; name what the agent was started with, or its state folder with --state"
            ));
        }
        let socket = socket_of(&self.state());
        let at = socket.display();
        match ask(&socket, &Request::Reload, PATIENCE) {
            Ok(Answer::Reloaded(report)) if report.wrong.is_empty() => say(&shown(&report.lines())),
            Ok(Answer::Reloaded(report)) => {
                for wrong in report.wrong {
                    complain(&shown(&wrong.to_string()));
                }
                complain("infiniservice: nothing was taken; the agent goes on as it was");
                ExitCode::from(EXIT_CONFIG)
            }
            Ok(Answer::SpoolReport(_) | Answer::Status(_)) => {
                unanswered("the agent answers another question")
            }
            Ok(Answer::Refused(why)) => unanswered(&format!("the agent refuses: {why}")),
            Err(Unanswered::NoAgent) => unanswered(&format!(
                "no agent listens at {at} (is it running, and is this its state folder?)"
            )),
            Err(Unanswered::Late) => unanswered(&format!(
                "the agent at {at} has not answered within {} s; if it takes the files later, its log says so",
                PATIENCE.as_secs()
            )),
            Err(Unanswered::Io(error)) => {
                unanswered(&format!("the agent at {at} does not answer: {error}"))
            }
        }
    }

    /// The state folder. Files that are wrong are the agent's to tell: from here only the folder is wanted, which is
    /// taken also from settings that are wrong elsewhere.
    fn state(&self) -> PathBuf {
        if let Some((state, _)) = self.state.chosen() {
            return state;
        }
        let (loaded, _) = inspect(&self.pipelines, &|name| std::env::var(name).ok());
        let AgentSettings { state, .. } = loaded.agent;
        state.folder
    }
}

/// Whether `path` exists. The agent reports if it cannot be read.
fn is_there(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let is_missing = |error: std::io::Error| matches!(error.kind(), NotFound | NotADirectory);
    is_built_in(path) || !path.metadata().is_err_and(is_missing)
}

fn unanswered(what: &str) -> ExitCode {
    complain(&format!("infiniservice: {}", shown(what)));
    ExitCode::from(EXIT_UNANSWERED)
}
