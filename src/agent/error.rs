//! Why the agent cannot start, or cannot take other files.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use tokio::task::JoinError;

use crate::commands::actions::ActionError;
use crate::commands::secret::SecretError;
use crate::config::ConfigError;
use crate::files::Untrusted;
use crate::port::{InvalidTarget, NotAPort, Target};
use crate::values::Problem;

/// Why the agent cannot start, or cannot take other files. Its text says what to do; it has one line, but for
/// [`Files`](Self::Files) and [`Conflicts`](Self::Conflicts).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AgentError {
    /// The files have these errors.
    #[error("{}", lines(.0))]
    Files(Vec<ConfigError>),
    /// The files name nothing that runs.
    #[error("no pipeline was found, so there is nothing to run")]
    NothingToRun,
    /// The file has made-up readings.
    #[error("{0} has made-up readings; measure it with `infiniservice bench`")]
    Synthetic(String),
    /// `--port` is given, and nothing would write to it.
    #[error("no pipeline writes to a port, so there is nothing to send to {0}")]
    NothingForPort(Target),
    /// Outputs that cannot go together; one line for each.
    #[error("{}", lines(.0))]
    Conflicts(Vec<ConfigError>),
    /// The name of a port is none.
    #[error("cannot use the port: {0}")]
    PortName(#[from] InvalidTarget),
    /// What is at the path of a port is no port.
    #[error(transparent)]
    Port(#[from] NotAPort),
    /// The transform of this number, counted from one, cannot be built.
    #[error("transform {0} {1}")]
    Transform(usize, Problem),
    /// The secret cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Another agent executes requests with this state folder.
    #[error(
        "another agent runs with the state folder {}, and two would run a script twice; stop it, or give \
         this one a folder of its own (--state DIR, or in agent.toml: [state] folder = …)",
        .0.display()
    )]
    StateInUse(PathBuf),
    /// Another user can change the state folder. Who cannot mend a folder of another user can take another one.
    #[error("cannot use the state folder: {}{}", .0, or_another(.0))]
    State(Untrusted),
    /// The request log cannot be read.
    #[error("cannot read what was asked for before: {0}")]
    RequestLog(io::Error),
    /// What the agent knew before its machine was made an image cannot be forgotten.
    #[error(transparent)]
    Image(#[from] ActionError),
    /// A task of the start was cancelled, or has panicked.
    #[error(transparent)]
    Task(#[from] JoinError),
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn or_another(folder: &Untrusted) -> &'static str {
    match folder.is_foreign && !rustix::process::geteuid().is_root() {
        true => ", or name another one: --state DIR",
        false => "",
    }
}
