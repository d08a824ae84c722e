//! The other program: the host's end of guests' ports. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    infiniservice::internals::cli::host::main()
}
