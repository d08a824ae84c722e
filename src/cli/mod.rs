//! The commands of the two programs, one file each. Only this module prints.

mod run;
mod once;
mod plan;
mod schema;
mod test;
mod init;
mod install;
mod reload;
mod status;
mod tap;
mod top;
mod log;
mod diagnose;
pub(crate) mod validate;
mod explain;
mod graph;
mod bench;
mod spool;
mod audit;
#[cfg(feature = "host")]
pub(crate) mod host;

mod paint;
mod raw_input;
mod running;
mod terminal;
mod trial;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::task::Poll;

use clap::{Args, Parser, Subcommand};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::raise_stack;
use crate::config::{ConfigError, Loaded, StateSettings, load};
use crate::sinks::io_reason;

/// A file or an argument is wrong (`EX_CONFIG` of sysexits.h): nothing was started.
pub const EXIT_CONFIG: u8 = 78;

/// The system does not give what the agent needs (`EX_OSERR` of sysexits.h): nothing was started.
pub(crate) const EXIT_SYSTEM: u8 = 71;

/// A stage failed too often (`EX_SOFTWARE` of sysexits.h).
pub(crate) const EXIT_SPENT: u8 = 70;

/// Standard output is closed or full (`EX_IOERR` of sysexits.h). A closed pipe is not an error.
pub(crate) const EXIT_OUTPUT: u8 = 74;

/// Ended by Ctrl-C, as a shell reports it.
const EXIT_INTERRUPTED: u8 = 130;

/// An agent for virtual machines: streams metrics of the guest to the host, and carries out the host's commands.
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
    /// Write the built-in files, with comments, as a start for files of your own
    Init(init::Init),
    /// Install executable, unit, udev rule and configuration, without a package
    Install(install::Install),
    /// Remove what install wrote
    Uninstall(install::Uninstall),
    /// Make the running agent reload its files, and show what has changed or is wrong
    Reload(reload::Reload),
    /// Show the state of the running agent: rates, queues, losses, port and host
    Status(status::StatusArguments),
    /// Show the running agent live, its pipelines as boxes
    Top(top::Top),
    /// Show the output of a stage of the running agent
    Tap(tap::Tap),
    /// Show the log level of the running agent, or change it for a time
    Log(log::LogArguments),
    /// Find out why agent and host do not communicate, and what to do next
    Diagnose(diagnose::Diagnose),
    /// Check pipeline files, and show every mistake
    Validate(validate::Validate),
    /// Run tests of pipelines: pass input through them and compare the output
    Test(test::Test),
    /// Show what the agent would do with a message of the host, without doing it
    Explain(explain::Explain),
    /// Draw pipelines: stages, tasks, and each channel with its kind and bound
    Graph(graph::Graph),
    /// Show what pipelines cost: memory, bytes a second, delay, wake-ups, and what may be lost
    Plan(plan::Plan),
    /// Print the JSON Schema of a kind of file, for editors
    Schema(schema::Schema),
    /// Measure a pipeline at full speed, over made-up readings
    Bench(bench::Bench),
    /// List, check or drop the messages that wait for the host
    Spool(spool::SpoolArguments),
    /// Check that the audit file is as the agent wrote it
    Audit(audit::AuditArguments),
    /// Name the program for the other end of the port
    #[command(hide = true, disable_help_flag = true)]
    Host(MovedCommand),
}

/// Whatever stands behind the name of a command that is a program of its own now.
#[derive(Debug, Args)]
struct MovedCommand {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _words: Vec<OsString>,
}

/// Parses the arguments, and runs their command.
pub fn main() -> ExitCode {
    if let Err(what) = raise_stack() {
        return cannot_start(what);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version arrive here, too.
            if !error.use_stderr() {
                return say(&error.render().to_string());
            }
            let _ = error.print(); // a failure cannot be reported anywhere
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match arguments.command {
        Command::Run(run) => run.main(),
        Command::Init(init) => init.main(),
        Command::Install(install) => install.main(),
        Command::Uninstall(uninstall) => uninstall.main(),
        Command::Reload(reload) => reload.main(),
        Command::Status(status) => status.main(),
        Command::Top(top) => top.main(),
        Command::Tap(tap) => tap.main(),
        Command::Log(log) => log.main(),
        Command::Diagnose(diagnose) => diagnose.main(),
        Command::Validate(validate) => validate.main(),
        Command::Test(test) => test.main(),
        Command::Explain(explain) => explain.main(),
        Command::Graph(graph) => graph.main(),
        Command::Plan(plan) => plan.main(),
        Command::Schema(schema) => schema.main(),
        Command::Bench(bench) => bench.main(),
        Command::Spool(spool) => spool.main(),
        Command::Audit(audit) => audit.main(),
        Command::Host(_) => refuse(
            "the host is a program of its own: run `infiniservice-host` with the same arguments \
             (the package infiniservice-host has it, or `cargo install --path . --bin infiniservice-host`)",
        ),
    }
}

/// Names the state folder instead of `[state] folder` in `agent.toml`.
const STATE_VARIABLE: &str = "INFINISERVICE_STATE_DIR";

/// The state folder, for all commands that need one.
#[derive(Debug, Clone, Default, Args)]
struct StateOption {
    /// State folder, instead of the one named in agent.toml [env: INFINISERVICE_STATE_DIR=]
    #[arg(long = "state", value_name = "DIR", global = true)]
    state: Option<PathBuf>,
}

impl StateOption {
    /// The folder that was named, and where: by the flag, or else by a variable that is not empty.
    fn chosen(&self) -> Option<(PathBuf, &'static str)> {
        let from = |path: PathBuf, origin| (std::path::absolute(&path).unwrap_or(path), origin);
        let variable = || std::env::var_os(STATE_VARIABLE).filter(|path| !path.is_empty());
        let flag = self.state.clone().map(|path| from(path, "--state"));
        flag.or_else(|| variable().map(|path| from(path.into(), STATE_VARIABLE)))
    }

    /// Overrides the folder of the files; returns the origin of the folder in force.
    fn apply(&self, loaded: &mut Loaded) -> &'static str {
        match self.chosen() {
            Some((folder, origin)) => {
                loaded.agent.state.folder = folder;
                origin
            }
            None if loaded.agent.state != StateSettings::default() => "agent.toml",
            None => "the default",
        }
    }
}

/// Loads files with the variables of the environment, or prints all errors.
fn load_or_report(paths: &[PathBuf]) -> Result<Loaded, ExitCode> {
    load(paths, &|name| std::env::var(name).ok()).map_err(|errors| report(&errors))
}

fn report(errors: &[ConfigError]) -> ExitCode {
    let folds = io::stderr().is_terminal();
    for error in errors {
        complain(folded(&error.to_string(), folds).trim_end());
    }
    ExitCode::from(EXIT_CONFIG)
}

/// Prints to standard output, and reports a failure. A closed pipe (`… | head -1`) is not an error.
fn say(text: &str) -> ExitCode {
    exit_code(print(text.as_bytes()))
}

/// The exit code for the result of printing.
fn exit_code(printed: io::Result<()>) -> ExitCode {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!(
                "infiniservice: cannot write to standard output: {}",
                io_reason(&error)
            ));
            ExitCode::from(EXIT_OUTPUT)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes all bytes to standard output. It returns every error, unlike [`io::stdout`], which ignores a closed descriptor.
fn print(bytes: &[u8]) -> io::Result<()> {
    let out = io::stdout().lock(); // no two threads at once
    let mut file = std::fs::File::from(out.as_fd().try_clone_to_owned()?);
    file.write_all(bytes)
}

/// `code`, unless printing has failed: then the exit code of that.
fn unless(printed: ExitCode, code: u8) -> ExitCode {
    if printed == ExitCode::SUCCESS { ExitCode::from(code) } else { printed }
}

/// Adds `line`, indented by `indent` and broken at spaces to 80 columns.
fn wrapped(text: &mut String, indent: usize, line: &str) {
    const WIDTH: usize = 80;
    let mut column = 0;
    for word in line.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > WIDTH {
            text.push('\n');
            column = 0;
        }
        let blanks = if column == 0 { indent } else { 1 };
        text.extend(std::iter::repeat_n(' ', blanks));
        text.push_str(word);
        column += blanks + length;
    }
    text.push('\n');
}

/// Errors of files as they are printed: on a terminal, where it `folds`, their sentences are broken at spaces, and the lines
/// of the file that they show are left alone.
fn folded(errors: &str, folds: bool) -> String {
    let mut text = String::with_capacity(errors.len() + 1);
    for line in errors.lines() {
        let shows_file = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
        if folds && !shows_file.starts_with('|') {
            wrapped(&mut text, 0, line);
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// What is wrong with an argument, and what to write instead.
#[derive(Debug, Error)]
#[error("{0}")]
struct BadArgument(String);

/// Prints a line to standard error. A failure cannot be reported anywhere.
fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Reports an error outside of the files.
fn refuse(what: impl Display) -> ExitCode {
    complain(&format!("infiniservice: {what}"));
    ExitCode::from(EXIT_CONFIG)
}

/// Waits for a signal that ends the program, so that temporary files are removed.
async fn interrupted() {
    let handle = |kind| signal(kind).ok();
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(handle).collect();
    std::future::poll_fn(|cx| {
        let has_come = signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
        if has_come { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

/// Reports a missing resource of the system.
fn cannot_start(what: impl Display) -> ExitCode {
    complain(&format!("infiniservice: {what}"));
    ExitCode::from(EXIT_SYSTEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_terminal_sentences_of_errors_are_folded_and_lines_of_the_file_are_not() {
        let long = ["word"; 30].join(" ");
        let error = format!("f.toml:12:1: {long}\n   |\n12 | {long}\n   | ^^^^\nhelp: {long}\n");
        assert_eq!(folded(&error, false), error);
        let shown = folded(&error, true);
        let (file, said): (Vec<_>, Vec<_>) = shown.lines().partition(|line| line.contains('|'));
        assert_eq!(file, error.lines().filter(|line| line.contains('|')).collect::<Vec<_>>());
        assert!(said.iter().all(|line| line.len() <= 80), "{shown}");
        assert_eq!(said.join(" "), format!("f.toml:12:1: {long} help: {long}"));
    }
}
