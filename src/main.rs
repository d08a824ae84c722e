//! The program: arguments → load → assemble → run → exit code. All of it is in the library.

use std::process::ExitCode;

use infiniservice::internals::cli;
use infiniservice::internals::commands::execute::unit::supervisor;
use infiniservice::internals::commands::process::exec_helper;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    match arguments.nth(1) {
        Some(word) if word == exec_helper::WORD => exec_helper::main(arguments),
        Some(word) if word == supervisor::WORD => supervisor::main(),
        _ => cli::main(),
    }
}
