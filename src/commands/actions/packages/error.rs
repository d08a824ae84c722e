//! Why a package manager could not do, or tell, what it was asked for.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::commands::actions::ActionError;
use crate::commands::process::ProcessError;

/// Why a package manager could not do, or tell, what it was asked for: the end of a sentence for the reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackageError {
    /// It could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// There is no database of packages.
    #[error("no package database of dpkg, rpm, apk or pacman was found on this machine")]
    NoDatabase,
    /// There is a database of rpm and no manager.
    #[error("there is an rpm database and neither dnf nor zypper to work on it; install dnf")]
    NoManager,
    /// This agent does not do that with this manager.
    #[error(
        "cannot {task} with {tool}: this agent drives apt-get, dnf, zypper and pacman only; run {tool} in a script instead"
    )]
    NotDriven {
        /// The manager's tool.
        tool: &'static str,
        /// What was asked for.
        task: &'static str,
    },
    /// It ran and failed: the reason that `failure::explain` finds in its output.
    #[error("{0}")]
    Failed(String),
    /// dpkg has no such names.
    #[error(
        "that is no name of a Debian package: two or more of letters, digits and \"+.-\", a letter or digit first"
    )]
    DebianName,
    /// pacman upgrades everything or nothing.
    #[error(
        "pacman brings a system up to date as a whole only: one package alone may not fit the others; \
         use UpdateSystemSoftware without a package"
    )]
    WholeSystemOnly,
    /// Too many words to search for.
    #[error("zypper is asked for at most {0} words; search for fewer")]
    TooManyWords(usize),
    /// The simulation reports more than is kept of it.
    #[error("what would be changed is too much to be held against the rules; change less at once")]
    TooManyChanges,
    /// Its output is not of the known form: the manager, and what is wrong.
    #[error("{0}'s answer is not as expected: {1}")]
    Output(&'static str, &'static str),
    /// A file cannot be read.
    #[error("cannot read {}: {}", path.display(), describe(error))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// Reading this panicked.
    #[error("reading {0} failed; it is not as expected")]
    Panicked(String),
    /// Reading this took too long.
    #[error("reading {0} took longer than the command may")]
    Late(String),
}

impl From<PackageError> for ActionError {
    fn from(error: PackageError) -> Self {
        Self::Family(Box::new(error))
    }
}

/// Replies take texts.
impl From<PackageError> for String {
    fn from(error: PackageError) -> Self {
        error.to_string()
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "permission denied (does the agent run as root?)".to_owned()
        }
        _ => error.to_string(),
    }
}
