//! Runs programs for requests: bounded, with a deadline that ends the whole process tree. Does not
//! decide what may run.
//!
//! An action gets a [`Runner`] and says what is to run as a [`Program`]; it starts no process itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use tokio::time::Instant;

use super::words::Account;

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
    /// When it must have ended, with everything it started.
    pub deadline: Instant,
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

/// What one stream of a program said: head and tail where it said more than is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// What is kept, lossy-decoded; with a line that tells what was cut in the middle.
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
