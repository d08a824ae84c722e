//! Why an action failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::commands::process::ProcessError;
use crate::commands::systemd::SystemdError;

/// Why an action failed, or could not look at what it needs: the end of a sentence for the reply.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ActionError {
    /// A program could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A family of actions failed in its own way: a package manager.
    #[error(transparent)]
    Family(Box<dyn std::error::Error + Send + Sync>),
    /// systemd refused, or could not be reached.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
    /// Work on a thread of its own panicked.
    #[error("{0} broke off; the agent's log says where")]
    Panicked(&'static str),
    /// The deadline passed first.
    #[error("{0} did not finish in time; ask again with a longer time-out")]
    Late(&'static str),
    /// A step of a longer work used up its own time.
    #[error("it took longer than a step may")]
    StepLate,
    /// Measuring takes longer than is left of the timeout.
    #[error(
        "measuring takes {0:?}, which is longer than is left of the time-out; ask with a longer one"
    )]
    MeasuringTakesLonger(Duration),
    /// A reading is missing.
    #[error("{0}")]
    NoReading(String),
    /// A file or folder could not be used.
    #[error("cannot {verb} {}: {error}", path.display())]
    File {
        /// What was tried: `read`, `write`, `remove`, …
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The program failed: its name, and the first line of what it said.
    #[error("{0}: {1}")]
    Program(&'static str, String),
    /// The program did not end by itself.
    #[error("{0} did not finish")]
    Unfinished(&'static str),
    /// A disk does not say how healthy it is.
    #[error("it does not tell its health")]
    NoHealth,
    /// No way to restart the machine, or to switch it off, was accepted: the goal, and what each way said.
    #[error("cannot {0}; {1}")]
    MachineRefuses(&'static str, String),
    /// The agent empties its state folder after an image was made, and could not.
    #[error(
        "this machine was made an image, and {} cannot be removed: {error}; remove it before the agent starts",
        path.display()
    )]
    Forget {
        /// What is left.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A process could not be ended.
    #[error(transparent)]
    Kill(#[from] KillError),
}

/// Why a process could not be ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KillError {
    /// Process 1.
    #[error("process {0} is the system itself; use RebootSystem to restart it")]
    System(u32),
    /// The agent.
    #[error("process {0} is this agent; it is not ended by a command")]
    Agent(u32),
    /// No such process.
    #[error("there is no process {0}; list the processes again")]
    NotFound(u32),
    /// A thread, of this process if that is known.
    #[error("{pid} is a thread of process {leader}; name the process")]
    Thread {
        /// The id of the thread.
        pid: u32,
        /// The id of its process.
        leader: String,
    },
    /// It has ended, and its parent has not read its status.
    #[error("process {0} ({1}) has ended already; its parent has yet to take note")]
    Zombie(u32, String),
    /// The kernel's own.
    #[error("process {0} ({1}) is a thread of the kernel; it cannot be ended")]
    Kernel(u32, String),
    /// Another user's.
    #[error("process {0} ({1}) belongs to another user; run the agent as root")]
    OtherUser(u32, String),
    /// The kernel refuses.
    #[error("cannot {verb} process {pid}: {error}")]
    Refused {
        /// What was tried.
        verb: &'static str,
        /// Its id.
        pid: u32,
        /// What the kernel says.
        error: rustix::io::Errno,
    },
    /// Its description cannot be read.
    #[error("cannot read /proc/{0}/stat")]
    Unreadable(u32),
}

/// Replies take texts.
impl From<ActionError> for String {
    fn from(error: ActionError) -> Self {
        error.to_string()
    }
}
