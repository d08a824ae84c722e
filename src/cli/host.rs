//! The program `infiniservice-host`: plays the host on a VM's socket. What it knows of the wire is in [`crate::host`];
//! here are the arguments, the printing and the exit codes.

mod answer;
mod diagnose;
mod exec;
mod fleet;
mod help;
mod keys;
mod raw;
mod relay;
mod send;
mod view;
mod watch;

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::{
    EXIT_CONFIG, EXIT_INTERRUPTED, EXIT_OUTPUT, EXIT_SYSTEM, complain, interrupted, raise_stack,
};
use crate::commands::secret::{SECRET_VARIABLE, Secret, SecretError, SecretSource, harden};
use crate::host::{Host, HostError, Listener, Settings};
use crate::sinks::io_reason;
use crate::wire::{shown, shown_json};

/// The socket is not there, or its other end has gone (`EX_UNAVAILABLE` of sysexits.h).
const EXIT_UNAVAILABLE: u8 = 69;
/// No answer in time, as `timeout(1)` has it.
const EXIT_LATE: u8 = 124;

/// The default limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often a guest is asked whether it is alive, unless said otherwise: as often as the Infinibay host does.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// The default limit for a guest that sends nothing at all.
const SILENT_MAX: Duration = Duration::from_secs(10);

/// The host's end of a guest's port: watch metrics, send commands, run programs and scripts.
#[derive(Debug, Parser)]
#[command(
    name = "infiniservice-host",
    version,
    arg_required_else_help = true,
    after_help = "\
Exit codes: that of the command in the guest, or 0 success, 1 refused or failed
in the guest, 69 no guest at the socket, 74 standard output is closed or full,
78 an argument is invalid, 124 no answer in time, 130 Ctrl-C. diagnose has exit
codes of its own, which its help lists.

Examples:
  infiniservice-host /run/web-1.socket watch
  infiniservice-host help ServiceControl
  infiniservice-host /run/web-1.socket send PackageInstall package=nginx
  infiniservice-host /run/web-1.socket exec --run-as ann -- ls -l '/home/ann/x y'
  infiniservice-host /tmp/agent.sock --listen watch
      (without a VM; the agent: infiniservice run --port unix:/tmp/agent.sock)"
)]
#[command(subcommand_precedence_over_arg = true, disable_help_subcommand = true)]
#[command(
    override_usage = "infiniservice-host [OPTIONS] <SOCKET> <COMMAND>\n       infiniservice-host relay --config <FILE>\n       infiniservice-host ls|top [--metrics <WHERE>]\n       infiniservice-host help [ACTION]"
)]
struct Arguments {
    /// The Unix socket of the guest's port, at which QEMU listens
    #[arg(value_name = "SOCKET")]
    socket: Option<PathBuf>,

    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "Options for a guest")]
struct Options {
    /// Listen at SOCKET for an agent that was started with --port unix:SOCKET, instead of connecting to SOCKET
    #[arg(long, global = true)]
    listen: bool,

    /// Where the guest's secret is: env:NAME or file:/PATH [default: env:INFINISERVICE_SHARED_SECRET]
    // Not parsed by clap, which would repeat a secret that was given here by mistake.
    #[arg(long, global = true, value_name = "WHERE")]
    secret: Option<String>,

    /// How long to wait for an answer [default: 30s; for a script 10m; for watch: no limit]
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// How often to ask the guest whether it is alive; 0s means never [default: 2m]
    #[arg(long, global = true, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep_alive: Option<Duration>,

    /// Wait until the guest has reported its time before sending; needed if its clock is minutes off
    #[arg(long, global = true)]
    wait_clock: bool,

    /// Print the guest's messages as JSON, one on each line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the guest's metrics as they arrive: as a table on a terminal, else one line for each reading
    Watch(watch::Watch),
    /// Request an action and print its answer
    Send(send::Send),
    /// Run a program in the guest, print its output, and exit with its exit code
    Exec(exec::Exec),
    /// Run a script file in the guest, in the same way as the host's pending scripts
    Script(exec::ScriptFile),
    /// Send each line of standard input as a payload, and print the guest's messages except metrics
    Raw(raw::Raw),
    /// Find out why no guest answers at the socket, and what to do next
    Diagnose(diagnose::Diagnose),
    /// Read all guests of this machine, and forward their lines to files, sockets, NATS, OTLP and Prometheus; needs no SOCKET
    Relay(relay::Relay),
    /// List the guests of a running relay with state, CPU, memory, disk and losses; needs no SOCKET
    Ls(fleet::Fleet),
    /// Show the guests of a running relay live, on a terminal; needs no SOCKET
    Top(fleet::Fleet),
    /// List all actions, or show the arguments of one; needs no SOCKET
    Help(help::Help),
}

/// Why a command ends with nothing, and with which exit code.
#[derive(Debug)]
struct Failed {
    code: u8,
    /// Empty without a message.
    what: String,
}

impl From<HostError> for Failed {
    fn from(error: HostError) -> Self {
        let code = match error {
            HostError::NoSecret
            | HostError::TooLong { .. }
            | HostError::Newline
            | HostError::Nul
            | HostError::NoRandom(_) => EXIT_CONFIG,
            HostError::Socket(_) | HostError::Gone(_) | HostError::Busy => EXIT_UNAVAILABLE,
            HostError::Late { .. } => EXIT_LATE,
        };
        Self { code, what: error.to_string() }
    }
}

impl From<io::Error> for Failed {
    /// The output was closed, which is not an error; or it could not be written.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: 0, what: String::new() },
            _ => Self {
                code: EXIT_OUTPUT,
                what: format!("cannot write to standard output: {}", io_reason(&error)),
            },
        }
    }
}

/// Commands that need no guest, and take none of the options for one.
const WITHOUT_GUEST: [&str; 4] = ["relay", "ls", "top", "help"];

/// The arguments, for parsing, help, man pages and completions. The options for a guest are shown with the commands that have
/// a guest, and their usage begins with its socket.
pub fn arguments() -> clap::Command {
    Arguments::command().mut_subcommands(|command| {
        let name = command.get_name().to_owned();
        if !WITHOUT_GUEST.contains(&name.as_str()) {
            let usage = command.clone().render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ");
            return command.override_usage(format!("infiniservice-host <SOCKET> {usage}"));
        }
        // An option that a command has itself takes the place of the one for all.
        let options = Options::augment_args(clap::Command::new(""));
        command.args(options.get_arguments().map(|option| {
            match option.get_id().as_str() {
                "json" if name == "ls" => option
                    .clone()
                    .help_heading(None::<&str>)
                    .help("Print one JSON object for each guest"),
                _ => option.clone().hide(true),
            }
        }))
    })
}

/// Parses the arguments, and runs their command.
pub fn main() -> ExitCode {
    let parsed = arguments().try_get_matches();
    let ended = match parsed.and_then(|matches| Arguments::from_arg_matches(&matches)) {
        Ok(arguments) => arguments.run(),
        Err(wrong) if wrong.use_stderr() => {
            let _ = wrong.print(); // a failure cannot be reported anywhere
            Ok(EXIT_CONFIG)
        }
        Err(help) => print(&help.render().to_string()).map(|()| 0).map_err(Failed::from),
    };
    let code = ended.unwrap_or_else(|Failed { code, what }| {
        if !what.is_empty() {
            say(&what);
        }
        code
    });
    ExitCode::from(code)
}

impl Arguments {
    fn run(self) -> Result<u8, Failed> {
        let failed = |code, what| Err(Failed { code, what });
        if let Err(what) = raise_stack() {
            return failed(EXIT_SYSTEM, what.to_string());
        }
        match &self.command {
            Command::Help(help) => return help.run(),
            Command::Relay(_) if self.socket.is_some() || self.options != Options::default() => {
                let what = "relay takes the sockets and secrets of its guests from its file; leave out SOCKET and the options for a guest";
                return failed(EXIT_CONFIG, what.to_owned());
            }
            Command::Relay(relay) => return relay.run(),
            Command::Ls(_) | Command::Top(_)
                if self.socket.is_some()
                    || self.options
                        != Options { json: self.options.json, ..Options::default() } =>
            {
                let what = "ls and top read the metrics of a relay; leave out SOCKET and the options for a guest";
                return failed(EXIT_CONFIG, what.to_owned());
            }
            Command::Ls(fleet) => return fleet.list(self.options.json),
            Command::Top(fleet) => return fleet.show(),
            _ => {}
        }
        let Some(socket) = &self.socket else {
            let what = "name the socket of a guest before the command, as in \"infiniservice-host /run/web-1.socket watch\"";
            return failed(EXIT_CONFIG, what.to_owned());
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return failed(EXIT_SYSTEM, format!("cannot start the runtime: {error}")),
        };
        let asked = Cell::new(false);
        let ended = runtime.block_on(async {
            tokio::select! {
                biased; // signals are heard before anything is said
                () = interrupted() => Err(self.interrupted(asked.get())),
                ended = self.ask(socket, &asked) => ended,
            }
        });
        // A read of standard input that hangs holds its thread; the program does not wait for it.
        runtime.shutdown_background();
        ended
    }

    async fn ask(&self, socket: &Path, asked: &Cell<bool>) -> Result<u8, Failed> {
        let guest = Guest { socket, options: &self.options, asked };
        match &self.command {
            Command::Watch(watch) => watch.run(&guest).await,
            Command::Send(send) => send.run(&guest).await,
            Command::Exec(exec) => exec.run(&guest).await,
            Command::Script(script) => script.run(&guest).await,
            Command::Raw(raw) => raw.run(&guest).await,
            Command::Diagnose(diagnose) => diagnose.run(&guest).await,
            Command::Help(_) | Command::Relay(_) | Command::Ls(_) | Command::Top(_) => Ok(0), // they need no guest
        }
    }

    fn interrupted(&self, asked: bool) -> Failed {
        let what = match (&self.command, asked) {
            (Command::Watch(_), _) => return Failed { code: 0, what: String::new() },
            (_, true) => "interrupted; what was asked goes on in the guest until its time is over",
            (_, false) if self.options.listen => {
                "interrupted before an agent could be asked; nothing was sent"
            }
            (_, false) => "interrupted before the guest was asked; nothing was sent",
        };
        Failed { code: EXIT_INTERRUPTED, what: what.to_owned() }
    }
}

/// How to get to the guest.
struct Guest<'a> {
    socket: &'a Path,
    options: &'a Options,
    /// Whether something was sent that the guest does.
    asked: &'a Cell<bool>,
}

impl Guest<'_> {
    /// How long an answer may take.
    fn timeout(&self, otherwise: Duration) -> Duration {
        self.options.timeout.unwrap_or(otherwise)
    }

    /// A guest to send something signed to: connected within the time-out, its clock known where that
    /// is wanted.
    async fn to_ask(&self, timeout: Duration) -> Result<Host, Failed> {
        let settings = self.settings(true)?;
        let host = self.connect(settings, timeout).await?;
        if self.options.wait_clock {
            host.clock_known(timeout).await?;
        }
        Ok(host)
    }

    /// From now on the guest may be at it.
    fn asks(&self) {
        self.asked.set(true);
    }

    async fn connect(&self, settings: Settings, timeout: Duration) -> Result<Host, Failed> {
        if !self.options.listen {
            return Ok(Host::connect(self.socket, settings).await?);
        }
        let listener = self.listen().await?;
        match tokio::time::timeout(timeout, listener.accept(settings)).await {
            Ok(host) => Ok(host?),
            Err(_) => {
                let waited = humantime::format_duration(timeout);
                let what = format!("no agent has connected to {} within {waited}", self.shown());
                Err(Failed { code: EXIT_LATE, what })
            }
        }
    }

    /// The socket for agents, and how to start one.
    async fn listen(&self) -> Result<Listener, Failed> {
        let listener = Listener::bind(self.socket).await?;
        if !self.options.json {
            let shown = self.shown();
            say(&format!("waiting for an agent: infiniservice run --port unix:{shown}"));
        }
        Ok(listener)
    }

    /// What `asking` comes to. Where no time-out was given, a guest of which nothing at all comes is not waited for
    /// until the time of the command is over.
    async fn answer<T>(
        &self,
        host: &Host,
        asking: impl Future<Output = Result<T, HostError>>,
    ) -> Result<T, Failed> {
        let silent = async {
            match self.options.timeout {
                Some(_) => std::future::pending().await,
                None => host.is_heard(SILENT_MAX).await,
            }
        };
        tokio::select! {
            biased;
            answer = asking => Ok(answer?),
            Err(silent) = silent => Err(silent.into()),
        }
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.socket.display()
    }

    /// The secret, which must be there where it is `needed` or was named.
    fn settings(&self, needed: bool) -> Result<Settings, Failed> {
        let wrong = |what| Failed { code: EXIT_CONFIG, what };
        let unusable = |error: SecretError| wrong(error.to_string());
        let named = self.options.secret.as_deref().map(str::parse::<SecretSource>);
        let named = named.transpose().map_err(unusable)?;
        let source = named.clone().unwrap_or(SecretSource::Env(SECRET_VARIABLE.to_owned()));
        harden().map_err(unusable)?;
        let secret = Secret::load(&source).map_err(unusable)?;
        if let (None, Some(named)) = (&secret, &named) {
            return Err(wrong(match named {
                SecretSource::Env(name) => {
                    format!("the variable {name} is not set; set it to the guest's secret")
                }
                SecretSource::File(path) => format!(
                    "there is nothing in {}; write the secret into it that the guest has",
                    path.display()
                ),
                SecretSource::Credential(name) => format!("the credential {name} is empty"),
            }));
        }
        if secret.is_none() && needed {
            return Err(HostError::NoSecret.into());
        }
        Ok(Settings { secret, keep_alive: Some(self.options.keep_alive.unwrap_or(KEEP_ALIVE)) })
    }
}

/// One line to a person, on standard error.
fn say(what: &str) {
    complain(&format!("infiniservice-host: {}", shown(what)));
}

/// Writes to standard output at once.
fn print(text: &str) -> io::Result<()> {
    super::print(text.as_bytes())
}

/// A line of JSON of the guest, which means what came and holds nothing that a terminal would obey.
fn print_json(line: &[u8]) -> io::Result<()> {
    print(&format!("{}\n", shown_json(String::from_utf8_lossy(line).trim())))
}

/// The output of a program in the guest: unchanged for a file or a pipe, escaped for a terminal.
fn for_whom(text: &str, to: &impl io::IsTerminal) -> String {
    if to.is_terminal() { shown(text) } else { text.to_owned() }
}

/// A line of the guest as it came, to standard output at once.
fn print_line(line: &[u8]) -> io::Result<()> {
    super::print(&[line.trim_ascii(), b"\n"].concat())
}
