//! The commands of the program, one file each. They print; the rest of the crate does not.

mod bench;
mod explain;
mod graph;
mod host;
mod reload;
mod run;
mod spool;
pub mod validate;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{ConfigError, Loaded, load};

/// A file or an argument is wrong (`EX_CONFIG` of sysexits.h): nothing was started.
pub const EXIT_CONFIG: u8 = 78;

/// A stage failed too often (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_SPENT: u8 = 70;

/// A guest daemon for virtual machines: reads the machine and streams what it finds to the host.
#[derive(Debug, Parser)]
#[command(name = "infiniservice", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the pipelines until SIGINT or SIGTERM
    Run(run::Run),
    /// Have the agent that runs read its files again, and tell what changed or what is wrong
    Reload(reload::Reload),
    /// Say what is wrong in pipeline files, or that nothing is
    Validate(validate::Validate),
    /// Tell what would become of a message of the host, without doing it
    Explain(explain::Explain),
    /// Draw pipelines: stages, tasks, and each channel with its kind and bound
    Graph(graph::Graph),
    /// Run a pipeline flat out over made-up readings and measure it
    Bench(bench::Bench),
    /// Look at what waits for the host on this machine, check it, or give it up
    Spool(spool::SpoolArguments),
    /// Play the host on a VM's socket: watch metrics, send commands, run programs and scripts
    Host(host::HostArguments),
}

/// Does what the arguments say.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(told) => {
            // Help and version are told this way too. Nobody is left to tell when that fails.
            let _ = told.print();
            return if told.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        Command::Run(run) => run.main(),
        Command::Reload(reload) => reload.main(),
        Command::Validate(validate) => validate.main(),
        Command::Explain(explain) => explain.main(),
        Command::Graph(graph) => graph.main(),
        Command::Bench(bench) => bench.main(),
        Command::Spool(spool) => spool.main(),
        Command::Host(host) => host.main(),
    }
}

/// Loads files with the variables of the environment, or prints everything that is wrong.
fn load_or_tell(paths: &[PathBuf]) -> Result<Loaded, ExitCode> {
    load(paths, &|name| std::env::var(name).ok()).map_err(|errors| tell(&errors))
}

fn tell(errors: &[ConfigError]) -> ExitCode {
    for error in errors {
        eprintln!("{error}");
    }
    ExitCode::from(EXIT_CONFIG)
}

/// Prints to standard output. A reader who has gone (`… | head -1`) is no mistake.
fn say(text: &str) -> ExitCode {
    use std::io::{ErrorKind, Write};
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            refuse(&format!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

/// A mistake that has no place in a file.
fn refuse(what: &str) -> ExitCode {
    eprintln!("infiniservice: {what}");
    ExitCode::from(EXIT_CONFIG)
}
