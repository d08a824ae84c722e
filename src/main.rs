//! The program: arguments → load → assemble → run → exit code. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    infiniservice::cli::main()
}
