//! Why `install` or `uninstall` stops.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use thiserror::Error;

use super::PATIENCE;
use super::RECORD;
use crate::sinks::io_reason;

/// Why `install` or `uninstall` stops. Its text says what to do, where people can do something.
#[derive(Debug, Error)]
pub(super) enum InstallError {
    /// A file or folder cannot be looked at, written or removed.
    #[error("cannot {action} {path}: {}{}", io_reason(error), hint(error))]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// From the root of the tree on.
        path: String,
        /// What the system says.
        error: io::Error,
    },
    /// There is no tree to work in.
    #[error("{} is no folder (make it, or name another with --root)", .0.display())]
    NoRoot(PathBuf),
    /// A path of another tree goes through a link.
    #[error("{} is a link, and could lead out of the tree (make it a folder or a file)", .0.display())]
    Link(PathBuf),
    /// The record of what was installed cannot be understood.
    #[error(
        "{RECORD} is damaged, so that it is not known what was installed (remove it; install writes it again)"
    )]
    DamagedRecord,
    /// A program of the machine cannot be started.
    #[error("cannot run {command}: {error}")]
    Start {
        /// Its name and arguments.
        command: String,
        /// What the system says.
        error: io::Error,
    },
    /// A program of the machine has failed.
    #[error("{command} failed ({status}): {stderr}")]
    Failed {
        /// Its name and arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed to standard error.
        stderr: String,
    },
    /// A program of the machine takes too long.
    #[error("{command} has not ended after {} s", PATIENCE.as_secs())]
    TooSlow {
        /// Its name and arguments.
        command: String,
    },
}

impl InstallError {
    pub(super) fn file(action: &'static str, path: impl Into<String>, error: io::Error) -> Self {
        Self::File { action, path: path.into(), error }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (run it as root)",
        _ => "",
    }
}
