//! Why a program could not be run.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use thiserror::Error;

use crate::commands::argument::Account;
use crate::files::accounts::PASSWD;

/// Why a program could not be run. Its text is the end of a sentence for the reply; it never has a value of a
/// variable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// No such program.
    #[error("there is no program \"{}\" on this machine{}", .0.display(), install(.0))]
    NotFound(PathBuf),
    /// A file that cannot be executed.
    #[error("\"{}\" is no program; make it executable", .0.display())]
    NotExecutable(PathBuf),
    /// Neither a bare name nor an absolute path.
    #[error("\"{}\" is no program; give a name or an absolute path", .0.display())]
    RelativePath(PathBuf),
    /// An argument has a NUL.
    #[error("an argument has a NUL; leave it out")]
    NulInArgument,
    /// The command line has a NUL.
    #[error("the command has a NUL; leave it out")]
    NulInCommand,
    /// The value of this variable has a NUL.
    #[error("the value of variable {0:?} has a NUL; leave it out")]
    NulInVariable(String),
    /// Not a name of a variable.
    #[error("{0:?} is no name of a variable; leave out '=' and NUL")]
    VariableName(String),
    /// The working directory is relative.
    #[error("directory \"{}\" is not absolute; begin it with a slash", .0.display())]
    RelativeDirectory(PathBuf),
    /// The working directory is another kind of file.
    #[error("\"{}\" is no directory; name one that is", .0.display())]
    NotDirectory(PathBuf),
    /// The working directory cannot be looked at.
    #[error("directory \"{}\" cannot be used: {error}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The working directory cannot be entered by the program's user.
    #[error("directory \"{}\" cannot be entered: {error}", path.display())]
    Enter {
        /// The directory.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// A shell of Windows.
    #[error("shell \"cmd\" is of Windows; use sh or bash")]
    WindowsShell,
    /// The shell is not installed.
    #[error("shell \"{0}\" is not on this machine; install it or use sh")]
    NoShell(&'static str),
    /// The account is not in `/etc/passwd`.
    #[error(
        "account \"{0}\" is not in {PASSWD}; accounts of a directory service are not looked up"
    )]
    UnknownAccount(Account),
    /// The file of accounts cannot be read.
    #[error("{path} cannot be read: {error}")]
    Accounts {
        /// The file.
        path: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
    /// The agent is not root.
    #[error("only root may run programs as \"{account}\"; the agent is uid {own}")]
    NotRoot {
        /// Whom the program was to run as.
        account: Account,
        /// The agent's user id.
        own: u32,
    },
    /// The helper process cannot change to the user.
    #[error("user {uid} cannot be taken on: {error}")]
    User {
        /// The user id.
        uid: u32,
        /// What the kernel says.
        error: io::Error,
    },
    /// A text came with standard input, or without a helper process to pass it.
    #[error("this process cannot hand a text to it; use an argument")]
    TextNotPossible,
    /// No memory for the text.
    #[error("its text cannot be kept in memory: {0}")]
    KeepText(io::Error),
    /// The helper process cannot pass the text.
    #[error("its text cannot be handed over: {0}")]
    PassText(io::Error),
    /// No control group.
    #[error("no control group can be made for it: {0}; end some commands first")]
    CreateGroup(io::Error),
    /// The control group refuses the process.
    #[error("its control group cannot be entered: {0}")]
    EnterGroup(io::Error),
    /// The kernel refuses to make the helper process a subreaper.
    #[error("its descendants cannot be kept together: {0}")]
    Subreaper(io::Error),
    /// The kernel cannot start the file.
    #[error("{}", describe_exec(program, error))]
    Exec {
        /// The program.
        program: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The exit status is lost.
    #[error("how it ended cannot be learnt: {0}")]
    Wait(io::Error),
    /// The helper process has said why it could not become the program: one of the other reasons, as text.
    #[error("{0}")]
    Helper(String),
    /// The agent is stopping.
    #[error("the agent stops; ask again when it is back")]
    Stopping,
    /// The agent's own code panicked.
    #[error("running it failed inside the agent; see the agent's log")]
    Panicked,
}

/// The replies and the audit take texts.
impl From<ProcessError> for String {
    fn from(error: ProcessError) -> Self {
        error.to_string()
    }
}

/// A name could be installed; a path could not.
fn install(program: &Path) -> &'static str {
    if program.is_absolute() { "" } else { "; install it first" }
}

fn describe_exec(program: &Path, error: &io::Error) -> String {
    let shown = program.display();
    let why = match Errno::from_io_error(error) {
        Some(Errno::NOEXEC) => "it is no program for this machine, or a script without #!",
        Some(Errno::NOENT) => "the interpreter or loader it asks for is missing",
        Some(Errno::TOOBIG) => "arguments or environment are too long; use a file",
        _ => return format!("\"{shown}\" cannot be run: {error}"),
    };
    format!("\"{shown}\" cannot be run: {why}")
}
