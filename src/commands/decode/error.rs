//! Why a message is no request.

use thiserror::Error;

use super::{DIRECTORY_MAX, VARIABLE_NAME_MAX, VARIABLES_MAX};
use crate::commands::argument::ArgumentError;

/// Why a command line or a script is refused: a sentence for the reply. It has no value of a variable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum DecodeError {
    /// The account is wrong.
    #[error(transparent)]
    Account(#[from] ArgumentError),
    /// There is no command line.
    #[error("there is no command line to run")]
    NoCommandLine,
    /// The shell is unknown.
    #[error("the shell {0:?} is not known to this agent; name bash, sh, cmd or powershell")]
    Shell(String),
    /// A text was saved as UTF-16.
    #[error("{0} is not UTF-8 (it begins as UTF-16 does); save it as UTF-8")]
    NotUtf8(&'static str),
    /// A text for a shell has a NUL.
    #[error("{0} holds a NUL character; if it was saved as UTF-16, save it as UTF-8")]
    NulInText(&'static str),
    /// A value has a NUL.
    #[error("{0} holds a NUL character")]
    Nul(&'static str),
    /// The working directory is too long.
    #[error("the working directory is longer than {DIRECTORY_MAX} bytes")]
    DirectoryTooLong,
    /// The working directory is relative.
    #[error("the working directory is not absolute; begin it with /")]
    RelativeDirectory,
    /// Too many variables.
    #[error("more than {VARIABLES_MAX} variables come with it")]
    TooManyVariables,
    /// The name of a variable.
    #[error(
        "the name of a variable is empty, longer than {VARIABLE_NAME_MAX} bytes, or holds = or NUL"
    )]
    VariableName,
    /// The value of a variable.
    #[error("the value of a variable is no text")]
    VariableValue,
}
