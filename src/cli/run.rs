//! `run`: the daemon in the foreground. Everything it does is in [`crate::agent`].

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use rustix::io::Errno;

use super::once::once;
use super::{
    BadArgument, EXIT_CONFIG, EXIT_SPENT, StateOption, cannot_start, exit_code, load_or_report,
    refuse,
};
use crate::agent;
use crate::config::{self, LEVELS_HELP, is_log_level};
use crate::pipeline::{ExitStatus, Outcome};
use crate::port::Target;
use crate::wire::Format;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Pipeline files, or folders of them [default: /etc/infiniservice/pipelines where that exists, else the built-in ones]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The same; may be repeated
    #[arg(long, value_name = "DIR|FILE")]
    pipelines: Vec<PathBuf>,

    /// Use this port instead of the one that the files name: a port name, a device path,
    /// unix:PATH (a listening socket), vsock:CID:PORT, or stdio
    #[arg(long, value_name = "PORT", env = "INFINISERVICE_DEVICE")]
    port: Option<String>,

    /// Print one reading on standard output and exit: no port is opened, no command is accepted
    #[arg(long)]
    once: bool,

    // The formats stand in one place.
    #[arg(long, value_name = "FORMAT", value_parser = format, requires = "once", help = format_help())]
    format: Option<Format>,

    #[command(flatten)]
    state: StateOption,
}

impl Run {
    pub(super) fn main(self) -> ExitCode {
        let pipelines = [self.files, self.pipelines].concat();
        if self.once {
            return match load_or_report(&pipelines) {
                Ok(loaded) => once(&loaded, self.format),
                Err(code) => code,
            };
        }
        agent::close_inherited();
        if let Err(error) = agent::unblock_signals() {
            return cannot_start(format_args!("cannot unblock signals: {error}"));
        }
        let settled = agent::settle_memory();
        if rustix::process::getpid().is_init() {
            return match agent::init::main() {
                Ok(code) => code,
                Err(what) => cannot_start(what),
            };
        }
        if let Err(what) = agent::suffice_descriptors() {
            return cannot_start(what);
        }
        let loaded = match load_or_report(&pipelines) {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let port = self.port.as_deref().filter(|port| !port.is_empty());
        let port = match port.map(str::parse::<Target>).transpose() {
            Ok(port) => port,
            Err(error) => {
                return refuse(format_args!(
                    "cannot use --port (or INFINISERVICE_DEVICE): {error}"
                ));
            }
        };
        let level = std::env::var("RUST_LOG").ok().filter(|level| !level.trim().is_empty());
        let level = level.map(|level| level.to_ascii_lowercase());
        if let Some(level) = level.as_deref().filter(|level| !is_log_level(level)) {
            return refuse(format_args!("cannot read RUST_LOG={level:?}: {LEVELS_HELP}"));
        }
        let level = level.unwrap_or_else(|| loaded.agent.log.level.clone());
        let to_stdout = loaded.targets().any(|(.., target)| match target {
            config::Target::Sink(config::Destination::Stdout(_)) => true,
            config::Target::Port(name) => match &port {
                Some(port) => *port == Target::Stdio,
                None => name.parse() == Ok(Target::Stdio),
            },
            _ => false,
        });
        if to_stdout && let Err(error) = probe() {
            return exit_code(Err(error));
        }
        let runtime = match agent::build_runtime(&loaded.agent.runtime) {
            Ok(runtime) => runtime,
            Err(what) => return cannot_start(what),
        };
        let log = match agent::start_log(&level) {
            Ok(log) => log.write_on(&runtime),
            Err(what) => return refuse(what),
        };
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.line());
        }
        if let Err(error) = settled {
            tracing::debug!(%error, "memory of a burst is kept for the next one");
        }
        let state = self.state.chosen().map(|(folder, _)| folder);
        let ended = runtime.block_on(agent::run(loaded, pipelines, port, state));
        let code = match ended {
            Err(what) => {
                agent::say(&format!("infiniservice: {what}"));
                ExitCode::from(EXIT_CONFIG)
            }
            Ok(Outcome { end: ExitStatus::Spent, .. }) => ExitCode::from(EXIT_SPENT),
            Ok(_) => ExitCode::SUCCESS,
        };
        drop(log);
        // A reading that hangs holds its thread for ever; the program does not wait for it.
        runtime.shutdown_timeout(Duration::from_millis(100));
        code
    }
}

fn format_help() -> String {
    let known = Format::ALL.map(Format::name).join(", ");
    format!("With --once: the format, instead of what the files say: {known}")
}

fn format(name: &str) -> Result<Format, BadArgument> {
    let known = Format::ALL.map(Format::name);
    let format = Format::ALL.into_iter().find(|format| format.name() == name);
    format.ok_or_else(|| BadArgument(format!("write one of {}", known.join(", "))))
}

/// Whether standard output can be written at all: an empty write says no to a descriptor that is not open for that, and
/// to a device that is full.
fn probe() -> io::Result<()> {
    match rustix::io::write(rustix::stdio::stdout(), &[]) {
        Ok(_) | Err(Errno::PIPE | Errno::AGAIN | Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
