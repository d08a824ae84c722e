//! The agent that runs on this machine: where it listens, and what it answers.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{StateOption, complain, refuse};
use crate::agent::control::{Answer, Request, Unanswered, ask, socket_of};
use crate::config::{inspect, is_built_in};
use crate::wire::shown;

/// There is no agent, or it did not answer.
const EXIT_UNANSWERED: u8 = 1;

/// Which agent is meant.
#[derive(Debug, Args)]
pub(super) struct RunningAgent {
    #[command(flatten)]
    state: StateOption,

    /// The pipeline file or folder that the agent was started with; may be repeated
    /// [default: as for run]
    #[arg(long, value_name = "DIR|FILE")]
    pipelines: Vec<PathBuf>,
}

impl RunningAgent {
    /// Its socket; or reports that there is nothing where its settings should be.
    pub(super) fn socket(&self) -> Result<PathBuf, ExitCode> {
        if let Some(missing) = self.pipelines.iter().find(|path| !is_there(path)) {
            let missing = missing.display();
            return Err(refuse(format_args!(
                "there is no {missing}; name what the agent was started with, or its state folder with --state"
            )));
        }
        Ok(socket_of(&self.folder()))
    }

    /// The state folder. Files that are wrong are the agent's to tell: from here only the folder is wanted, which is
    /// taken also from settings that are wrong elsewhere.
    fn folder(&self) -> PathBuf {
        match self.state.chosen() {
            Some((state, _)) => state,
            None => inspect(&self.pipelines, &|name| std::env::var(name).ok()).0.agent.state.folder,
        }
    }
}

/// Whether `path` exists. The agent reports if it cannot be read.
fn is_there(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let is_missing = |error: std::io::Error| matches!(error.kind(), NotFound | NotADirectory);
    is_built_in(path) || !path.metadata().is_err_and(is_missing)
}

/// The answer of the agent at `socket`; or reports why there is none, with `if_late` behind it where it takes longer than
/// `patience`.
pub(super) fn ask_or_report(
    socket: &Path,
    request: &Request,
    patience: Duration,
    if_late: &str,
) -> Result<Answer, ExitCode> {
    Err(unanswered(&match ask(socket, request, patience) {
        Ok(Answer::Refused(why)) => format!("the agent refuses: {why}"),
        Ok(answer) => return Ok(answer),
        Err(error) => why_unanswered(socket, &error, patience, if_late),
    }))
}

/// Why there is no answer, for a person.
pub(super) fn why_unanswered(
    socket: &Path,
    error: &Unanswered,
    patience: Duration,
    if_late: &str,
) -> String {
    let at = socket.display();
    match error {
        Unanswered::NoAgent => {
            format!("no agent listens at {at} (is it running, and is this its state folder?)")
        }
        Unanswered::Late => {
            let seconds = patience.as_secs();
            format!("the agent at {at} has not answered within {seconds} s{if_late}")
        }
        Unanswered::Io(error) => format!("the agent at {at} does not answer: {error}"),
    }
}

/// Reports that the answer fits another request.
pub(super) fn another_question() -> ExitCode {
    unanswered("the agent answers another question")
}

/// Reports why there is no answer.
pub(super) fn unanswered(what: &str) -> ExitCode {
    complain(&format!("infiniservice: {}", shown(what)));
    ExitCode::from(EXIT_UNANSWERED)
}
