//! The program: arguments → load → assemble → run → exit code. All of it is in the library.

use std::process::ExitCode;

use infiniservice::{cli, commands::execute::enter};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    match arguments.nth(1) {
        Some(word) if word == enter::WORD => enter::main(arguments),
        _ => cli::main(),
    }
}
