//! The dry run: the programs that a request would start, without starting them. Reads the machine (does the shell exist,
//! does the account?), so it blocks; changes nothing.
//!
//! Command lines and scripts are resolved by the code that runs them. Only the action itself knows its programs:
//! [`ProgramsOf`] returns them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::commands::actions::{checks, cleanup, golden};
use crate::commands::authorize::policy::operation_name;
use crate::commands::decode::request::{
    Action, ActionRequest, Request, RequestKind, ServiceOperation,
};
use crate::commands::process::{self, Prepared, Program};

/// A program that would run, or a note why none would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DryRun {
    /// The program file and its arguments; empty if no program runs.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Its user; `None` is the agent's own.
    pub user: Option<String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// A remark, as a sentence without a full stop; may be empty.
    pub note: String,
}

/// The programs that an action starts, with arguments, in order: empty if it starts none, `None` if that is not known
/// before it runs.
pub type ProgramsOf = fn(&Action) -> Option<Vec<Vec<String>>>;

/// The programs that `request` would run, in order.
///
/// # Errors
/// The request would fail before any program starts: the end of a sentence that says why.
pub fn plan(request: &Request, programs_of: ProgramsOf) -> Result<Vec<DryRun>, String> {
    match &request.kind {
        RequestKind::Raw(raw) => {
            Ok(vec![of_host(process::command_line(raw, request.deadline())?)?])
        }
        RequestKind::Script(script) => {
            Ok(vec![of_host(process::script(script, request.deadline())?)?])
        }
        RequestKind::Action(ActionRequest { action, .. }) => match programs_of(action) {
            Some(programs) if !programs.is_empty() => {
                let mut note = besides(action);
                let each = |argv| resolve(of_words(argv, request), &std::mem::take(&mut note));
                programs.into_iter().map(each).collect()
            }
            _ => Ok(vec![DryRun { note: does(action), ..DryRun::default() }]),
        },
    }
}

/// Describes an action that runs no program, or none known beforehand.
pub fn does(action: &Action) -> String {
    let text = match action {
        Action::SystemInfo => "reads what system this is; runs no program",
        Action::OsInfo => {
            "reads what system this is and which package managers are there; runs no program"
        }
        Action::UserList => "reads /etc/passwd and /etc/login.defs; runs no program",
        Action::ServiceList => {
            "asks systemd; runs no program where its D-Bus answers, else systemctl"
        }
        Action::ServiceControl { service, operation: ServiceOperation::Status } => {
            return format!(
                "asks systemd how {service} is; runs no program where its D-Bus answers, else systemctl"
            );
        }
        Action::ServiceControl { service, operation } => {
            let operation = operation_name(*operation);
            return format!(
                "asks systemd to {operation} {service}, and how it is then; runs no program where its \
                 D-Bus answers, else systemctl"
            );
        }
        Action::PackageList | Action::GetInstalledApplicationsWMI => {
            "reads the database of installed packages, or asks rpm for it"
        }
        Action::PackageSearch(_)
        | Action::PackageInstall(_)
        | Action::PackageRemove(_)
        | Action::PackageUpdate(_)
        | Action::UpdateSystemSoftware(_)
        | Action::CheckLinuxUpdates
        | Action::CheckApplicationUpdates => {
            "asks the machine's package manager; fails where there is none that this agent can use for it"
        }
        Action::GetUpdateHistory => {
            "reads the log of apt, zypper or pacman, or asks dnf for its history"
        }
        Action::ProcessList { .. } | Action::ProcessTop { .. } => {
            "reads /proc twice, half a second apart; runs no program"
        }
        Action::ProcessKill { pid, force } => {
            let signal = if *force { "SIGKILL" } else { "SIGTERM" };
            return format!("sends {signal} to process {pid}; runs no program");
        }
        Action::CheckDiskSpace { .. } => "measures the file systems; runs no program",
        Action::CheckResourceOptimization => {
            "measures for three seconds; runs no program, changes nothing"
        }
        Action::RunHealthCheck(Some(name)) => return checks::does(name),
        Action::RunHealthCheck(None) | Action::RunAllHealthChecks => {
            "makes all health checks, which change nothing; those that ask a program run smartctl, \
             journalctl, nft, iptables-save, chronyc, systemctl, needs-restarting and the package \
             manager, where they are there"
        }
        Action::DiskCleanup { targets } => return cleanup::does(targets),
        Action::RebootSystem { force: false } => {
            "answers, and three seconds later restarts the machine with systemctl, shutdown or reboot"
        }
        Action::RebootSystem { force: true } => {
            "answers, and three seconds later restarts the machine with systemctl or reboot, without \
             asking programs to end"
        }
        Action::GetApplicationDetails(name) => {
            return format!("looks {name} up among the installed packages");
        }
        Action::JoinDomain(join) => {
            let then = if join.restart_after {
                ", answers, and three seconds later restarts the machine"
            } else {
                ""
            };
            return format!(
                "runs realm join for {}, the password on its standard input{then}",
                join.domain
            );
        }
        Action::PrepareGoldenImage(image) => return golden::does(image),
        Action::Incomplete { why, .. } => return format!("is refused: {why}"),
        Action::OtherSystem(_) => "answers that this is not for Linux; runs no program",
        Action::NotBuilt { why, .. } => return format!("is refused: {why}"),
    };
    text.to_owned()
}

/// Describes what an action does besides the programs that it is known to run.
fn besides(action: &Action) -> String {
    match action {
        Action::DiskCleanup { targets } => cleanup::does(targets),
        Action::CheckLinuxUpdates | Action::UpdateSystemSoftware(_) => {
            "and looks whether the machine waits for a restart: on Debian by its mark, elsewhere with zypper \
             needs-rebooting or needs-restarting -r"
                .to_owned()
        }
        _ => String::new(),
    }
}

/// Resolves a program as the runner would: file, directory and environment.
fn resolve(program: Program, note: &str) -> Result<DryRun, String> {
    let file = process::find(&program.program)?;
    let directory = process::directory(program.directory.as_deref())?;
    let whose = process::variables(program.run_as.as_ref())?;
    let environment = process::environment(whose, &program.environment)?;
    let text_file = program.text.map(|_| "FILE".into());
    let words = std::iter::once(file.into_os_string()).chain(program.arguments).chain(text_file);
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    Ok(DryRun {
        argv: words.map(text).collect(),
        environment: environment
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        user: program.run_as.map(|account| account.to_string()),
        directory,
        note: note.to_owned(),
    })
}

/// Resolves a command line or script of the host.
fn of_host(prepared: Prepared) -> Result<DryRun, String> {
    let Prepared { program, note } = prepared;
    let file = program.text.is_some();
    let file = file.then(|| "FILE is the text in memory, readable by its user alone".to_owned());
    let notes: Vec<String> = file.into_iter().chain(note).collect();
    resolve(program, &notes.join("; "))
}

fn of_words(argv: Vec<String>, request: &Request) -> Program {
    let mut words = argv.into_iter();
    Program::new(words.next().unwrap_or_default(), words, request.deadline())
}
