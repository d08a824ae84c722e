//! This program once more: as its own child where it is process 1, or in its place with another environment.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A start of this program with the arguments that it was given. It is started by its path, since a process is called by the
/// last part of that, and gets as its first argument the name that this one was called by.
///
/// # Errors
/// The kernel does not say where the executable is.
pub(super) fn same_program() -> io::Result<Command> {
    let mut arguments = std::env::args_os();
    let mut program = Command::new(std::env::current_exe()?);
    if let Some(name) = arguments.next() {
        program.arg0(name);
    }
    program.args(arguments);
    Ok(program)
}
