//! `diagnose`: why host and agent do not get together, as one verdict for each cause, with what to do next. Changes nothing.
//!
//! `verdict` has the causes and their exit codes; `machine` looks at the machine's files, `agent` at what the agent reports;
//! this reads the agent's files, asks, and prints. `bundle` writes all of it, and more, into a file for support.

mod agent;
mod bundle;
mod machine;
mod program;
pub(super) mod verdict;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{EXIT_OUTPUT, StateOption, complain, refuse, say, unless};
use crate::agent::control::{Answer, Request, Unanswered, ask, listener, socket_of};
use crate::agent::status::Status;
use crate::commands::secret::{Secret, SecretSource, harden};
use crate::config::{Commands, ConfigError, Loaded, inspect};
use crate::files::StateFolder;
use crate::port::Target;
use crate::sort;
use crate::wire::shown;
use verdict::{Cause, Class, Verdict, as_json, as_text};

/// Where nothing is wrong.
const NOTHING: &str = "the files are right, the agent runs, and every port has a host";

/// How long the agent may take for an answer, and systemd.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between the two looks at what the agent does.
const INTERVAL: Duration = Duration::from_secs(1);
/// The unit of the agent.
const UNIT: &str = "infiniservice.service";
/// The most that is read of what systemd says of it.
const UNIT_BYTES_MAX: u64 = 64 * 1024;
/// Where the packaged unit gets its variables.
const ENVIRONMENT: &str = "/etc/infiniservice/agent.env";

#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes, of the first cause that is found:
   0 nothing is wrong      10 files                11 state folder
  12 driver missing        13 no such port         14 security module
  15 port is busy          16 not running          17 has crashed
  18 no answer             19 host absent          20 host does not read
  21 window full           22 secret               23 clocks apart
  24 policy denies")]
pub(super) struct Diagnose {
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    state: StateOption,

    /// The pipeline file or folder that the agent was started with; may be repeated
    /// [default: as for run]
    #[arg(long, value_name = "DIR|FILE")]
    pipelines: Vec<PathBuf>,

    /// Write a file for support: findings, configuration, status, log and machine, without secrets
    #[arg(long, value_name = "FILE.tar.zst")]
    bundle: Option<PathBuf>,

    /// Replace the file of --bundle if it exists
    #[arg(long, requires = "bundle")]
    overwrite: bool,

    /// Where the machine's files are, for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// What was seen.
struct Findings {
    /// All that is wrong, the first cause first.
    verdicts: Vec<Verdict>,
    loaded: Loaded,
    errors: Vec<ConfigError>,
    /// What the running agent tells.
    status: Option<Box<Status>>,
    /// The running agent, also one that tells nothing.
    pid: Option<u32>,
}

impl Diagnose {
    pub(super) fn main(self) -> ExitCode {
        if let Some(file) = &self.bundle {
            if let Err(error) = harden() {
                return refuse(error);
            }
            if let Err(error) = bundle::check(file, self.overwrite) {
                return refuse(error);
            }
        }
        let findings = self.examine();
        let text = match self.json {
            true => as_json(&findings.verdicts),
            false => shown(&as_text(&findings.verdicts, NOTHING)),
        };
        let said = say(&text);
        match self.bundle.as_ref().map(|file| bundle::write(&self, &findings, file, self.overwrite))
        {
            Some(Ok(written)) => complain(&format!("infiniservice: {}", shown(&written))),
            Some(Err(error)) => {
                complain(&format!("infiniservice: {}", shown(&error.to_string())));
                return ExitCode::from(EXIT_OUTPUT);
            }
            None => {}
        }
        findings.verdicts.first().map_or(said, |first| unless(said, first.cause.exit_code()))
    }

    fn examine(&self) -> Findings {
        let root = &self.root;
        let own = |name: &str| std::env::var(name).ok();
        let (mut loaded, errors) = inspect(&self.pipelines, &own);
        self.state.apply(&mut loaded);
        let mut verdicts = Vec::new();
        if let Some(first) = errors.first() {
            verdicts.push(Verdict::new(
                Cause::Files,
                format!("{}: {} ({} in all)", first.file, first.message, errors.len()),
                "`infiniservice validate` shows each with its line, and what would be right",
            ));
        }
        let folder = loaded.agent.state.folder.clone();
        verdicts.extend(state_folder(&folder));

        let socket = socket_of(&folder);
        let ask_status = || ask(&socket, &Request::Status, PATIENCE);
        let status = match ask_status() {
            Ok(Answer::Status(before)) => {
                std::thread::park_timeout(INTERVAL); // an early return does no harm
                match ask_status() {
                    Ok(Answer::Status(now)) => Some((before, now)),
                    _ => None,
                }
            }
            Err(Unanswered::NoAgent) => {
                verdicts.push(not_running(root, &socket));
                None
            }
            Ok(_) => None,
            Err(Unanswered::Late) => {
                verdicts.push(Verdict::new(
                    Cause::NoAnswer,
                    format!("the agent at {} has not answered within {} s", socket.display(), PATIENCE.as_secs()),
                    "`journalctl -u infiniservice -n 50` has what it said last; `systemctl restart infiniservice` starts it again",
                ));
                None
            }
            Err(Unanswered::Io(error)) => {
                verdicts.push(Verdict::new(
                    Cause::NoAnswer,
                    format!("the agent at {} cannot be asked: {error}", socket.display()),
                    "ask as root, or as the user that the agent runs as",
                ));
                None
            }
        };
        let pid = status.as_ref().map(|(_, now)| now.pid).or_else(|| listener(&socket));
        if let Some((before, now)) = &status {
            verdicts.extend(agent::running(before, now));
            verdicts.extend(
                machine::unit(&unit(root)).filter(|verdict| verdict.cause == Cause::Crashed),
            );
        }
        for target in targets(&loaded, status.as_ref().map(|(_, now)| &**now)) {
            verdicts.extend(machine::port(root, &target, pid));
        }
        verdicts.extend(machine::security_module(root));
        if let Some(commands) = &loaded.commands {
            let known = |name: &str| own(name).is_some() || has_variable(root, pid, name);
            verdicts.extend(secret(commands, &known));
            let audit =
                commands.file.audit.path.clone().unwrap_or_else(|| folder.join("audit.jsonl"));
            verdicts.extend(machine::policy(&audit));
        }
        sort::by_key(&mut verdicts, |verdict| verdict.cause);
        verdicts.dedup();
        Findings { verdicts, loaded, errors, status: status.map(|(_, now)| now), pid }
    }
}

fn state_folder(folder: &Path) -> Option<Verdict> {
    let untrusted = StateFolder::at(folder).check().err()?;
    let another = if untrusted.is_foreign { ", or name another folder: --state DIR" } else { "" };
    Some(Verdict::new(
        Cause::StateFolder,
        format!("{} {}", untrusted.path.display(), untrusted.why),
        format!("`{}`{another}", untrusted.remedy),
    ))
}

/// The ports that files and agent name, each once.
fn targets(loaded: &Loaded, now: Option<&Status>) -> Vec<Target> {
    let writes = loaded.targets().filter_map(|(.., target)| match target {
        crate::config::Target::Port(name) => Some(name.clone()),
        _ => None,
    });
    let receives = loaded.commands.iter().map(|commands| commands.file.receive().port.clone());
    // What the agent has is told by it: `--port` replaces what the files say.
    let names: Vec<String> = match now {
        Some(now) => {
            now.ports.iter().filter(|port| !port.opened).map(|port| port.port.clone()).collect()
        }
        None => writes.chain(receives).collect(),
    };
    let mut targets: Vec<Target> = Vec::new();
    for target in names.iter().filter_map(|name| name.parse().ok()) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

/// Why no agent listens.
fn not_running(root: &Path, socket: &Path) -> Verdict {
    machine::unit(&unit(root)).unwrap_or_else(|| {
        Verdict::new(
            Cause::NotRunning,
            format!("no agent listens at {}", socket.display()),
            "start it: `systemctl start infiniservice`, or `infiniservice run`; if it runs with another state folder, name \
             that with --state",
        )
    })
}

/// What systemd says of the unit; empty where there is none, or it takes too long.
fn unit(root: &Path) -> String {
    const WANTED: &str =
        "LoadState,ActiveState,UnitFileState,Result,ExecMainCode,ExecMainStatus,NRestarts";
    // A test puts it there.
    if root != Path::new("/") {
        return std::fs::read_to_string(root.join("unit")).unwrap_or_default();
    }
    let words = ["systemctl", "show", UNIT, "--property", WANTED];
    program::output(&words, UNIT_BYTES_MAX, PATIENCE).unwrap_or_default()
}

/// Whether there is a secret that can be read. Its value is not kept.
fn secret(commands: &Commands, is_set: &dyn Fn(&str) -> bool) -> Option<Verdict> {
    let locked = |seen: String, next: &str| Some(Verdict::new(Cause::Secret, seen, next));
    match &commands.file.verify.secret {
        None => locked(
            format!("{} names no secret, so no command is carried out", commands.origin),
            "say where it is: [verify] secret = \"env:INFINISERVICE_SHARED_SECRET\"",
        ),
        Some(SecretSource::Env(name)) if !is_set(name) => locked(
            format!("the variable {name} is not set, so no command is carried out"),
            "put it into /etc/infiniservice/agent.env (mode 0600), and restart the agent",
        ),
        // Only the unit's own process has that folder.
        Some(SecretSource::Env(_) | SecretSource::Credential(_)) => None,
        Some(source @ SecretSource::File(_)) => match Secret::load(source) {
            Ok(Some(_)) => None,
            Ok(None) => locked(
                format!("the {source} is empty, so no command is carried out"),
                "write the host's secret for this machine there, and restart the agent",
            ),
            Err(why) => locked(why.to_string(), "mend the file, and restart the agent"),
        },
    }
}

/// Whether the agent has a variable that is not empty: the running one, or the unit's file.
fn has_variable(root: &Path, pid: Option<u32>, name: &str) -> bool {
    let start = format!("{name}=");
    let is_it =
        |line: &[u8]| line.strip_prefix(start.as_bytes()).is_some_and(|value| !value.is_empty());
    let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
    match pid {
        Some(pid) => read(machine::below(root, format!("/proc/{pid}/environ")))
            .split(|byte| *byte == 0)
            .any(is_it),
        None => read(machine::below(root, ENVIRONMENT)).split(|byte| *byte == b'\n').any(is_it),
    }
}

#[cfg(test)]
mod tests;
