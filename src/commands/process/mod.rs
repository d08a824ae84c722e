//! Runs programs for requests: with bounded output, and with a deadline at which the whole process tree ends.
//!
//! An action gets a [`Runner`] and passes it a [`Program`]; no action starts a process itself, so that limits, users and
//! process trees are enforced in one place.
//!
//! | file | what it is |
//! |---|---|
//! | `runner` | one program from start to end |
//! | `resolve`, `user` | its file, working directory, environment and user |
//! | [`exec_helper`] | this binary between the agent and the program |
//! | `cgroup`, `process_tree` | all its processes, tracked and ended together |
//! | `leftovers` | processes that still run when the program has ended: reported, and ended or kept |
//! | `capture` | head and tail of its output, also while it runs |
//! | `shell`, `text` | command lines and scripts as programs, as their shells can read them |
//! | `error` | why a program could not be run |
//! | `sealed` | a text in memory that a program reads as a file |

mod user;
mod capture;
pub(crate) mod exec_helper;
mod cgroup;
mod error;
mod leftovers;
mod resolve;
mod runner;
mod sealed;
mod shell;
mod text;
mod process_tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::commands::argument::Account;

pub use capture::{OutputStream, ProgramOutput};
pub(crate) use error::ProcessError;
pub use resolve::PATH;
pub(super) use resolve::{directory, environment};
pub(crate) use resolve::{find, installed};
pub use runner::{Runner, Settings};
pub use shell::{Prepared, RawCommand, Script, Shell, command_line, script};
pub(super) use user::variables;

/// Exit code after a timeout, as `timeout(1)` has it.
pub(crate) const EXIT_TIMEOUT: i32 = 124;

/// What an [`Exit`] by signal has as exit code, as shells have it: this and the signal's number.
const SIGNALLED: i32 = 128;

/// A program to run: typed arguments, never a shell line.
#[derive(Clone)]
pub struct Program {
    /// Absolute path, or a name looked up in the fixed `PATH`.
    pub program: PathBuf,
    /// Its arguments, without its name.
    pub arguments: Vec<OsString>,
    /// Added to the clean environment.
    pub environment: BTreeMap<String, String>,
    /// Where it starts; `/` where absent.
    pub directory: Option<PathBuf>,
    /// As whom; the agent's own user where absent.
    pub run_as: Option<Account>,
    /// What it reads from standard input; nothing where empty.
    pub input: Vec<u8>,
    /// A text that it gets as a file, whose path is its last argument; its standard input is empty then.
    /// Only its user can read it, nobody can change it, and it is on no disk.
    pub text: Option<String>,
    /// Whether what it has started and not waited for goes on when it ends by itself, also after the agent.
    pub detach: bool,
    /// When it must have ended, with everything it started.
    pub deadline: Instant,
    /// Between SIGTERM and SIGKILL at the deadline, where that is less than the [runner](Settings::mercy) has.
    pub mercy: Option<Duration>,
    /// Whether it is asked to end with SIGINT, as by a person's Ctrl-C, where it heeds that and not SIGTERM.
    pub interrupt: bool,
}

impl Program {
    /// A program with these arguments and nothing else.
    pub fn new<A: Into<OsString>>(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = A>,
        deadline: Instant,
    ) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            directory: None,
            run_as: None,
            input: Vec::new(),
            text: None,
            detach: false,
            deadline,
            mercy: None,
            interrupt: false,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal, which was not ours.
    Signal(i32),
    /// Its deadline passed and the whole tree was ended.
    TimedOut,
    /// The agent stops and the whole tree was ended.
    Cancelled,
}

impl Exit {
    /// As one number: 124 when the time was over, 128 and the signal when it was killed, and 143
    /// (SIGTERM) when the agent stopped.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => SIGNALLED + signal,
            Self::TimedOut => EXIT_TIMEOUT,
            Self::Cancelled => SIGNALLED + rustix::process::Signal::TERM.as_raw(),
        }
    }
}

/// What one stream of a program said: head and tail where it said more than is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// What is kept, lossy-decoded; with a line that says what was cut in the middle.
    pub text: String,
    /// What was said in all.
    pub bytes: u64,
    /// Whether something was cut.
    pub truncated: bool,
}

/// What became of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub exit: Exit,
    /// Standard output.
    pub stdout: Captured,
    /// Standard error.
    pub stderr: Captured,
}
