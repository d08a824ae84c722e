//! Command lines and scripts as programs. Runs nothing, and no safe action comes this way.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{ProcessError, Program, installed, text};
use crate::commands::argument::Account;

/// Carries a command line to its shell; gone before the line is run, so nothing of it sees the variable.
const CARRIER: &str = "INFINISERVICE_COMMAND";
/// What the shell is told instead of the line: to forget the variable and run what was in it.
const RUN_CARRIED: &str = "eval \"unset INFINISERVICE_COMMAND; $INFINISERVICE_COMMAND\"";
/// The longest command line that fits there: one argument or variable may have 32 pages
/// (`MAX_ARG_STRLEN` of linux/binfmts.h), with its name and the NUL at its end.
const CARRIED_MAX: usize = 32 * 4096 - CARRIER.len() - 2;

/// A command line for a shell.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawCommand {
    /// The command line; may hold secrets, so it is never in a log.
    pub command: String,
    /// Which shell.
    pub shell: Shell,
    /// Where it starts; must exist.
    pub working_dir: Option<PathBuf>,
    /// Added to the clean environment; may hold secrets.
    pub environment: BTreeMap<String, String>,
    /// As whom; root where absent.
    pub run_as: Option<Account>,
}

/// A pending script. The id of its request is the execution id.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Its name, for the log.
    pub name: String,
    /// Its text; may hold secrets.
    pub content: String,
    /// Which shell.
    pub shell: Shell,
    /// Values for its variables; may hold secrets.
    pub inputs: BTreeMap<String, String>,
    /// As whom; root where absent.
    pub run_as: Option<Account>,
}

/// A shell by the names the host uses, in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shell {
    /// `sh`: also where none is named.
    #[default]
    Sh,
    /// `bash`.
    Bash,
    /// `cmd`: not on Linux.
    Cmd,
    /// `powershell` or `pwsh`.
    PowerShell,
}

impl Shell {
    /// Its name in rules and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sh => "sh",
            Self::Bash => "bash",
            Self::Cmd => "cmd",
            Self::PowerShell => "powershell",
        }
    }
}

impl fmt::Debug for RawCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawCommand").field("shell", &self.shell).finish_non_exhaustive()
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A program for a text of the host, and what was changed in that text.
#[derive(Clone)]
pub struct Prepared {
    /// What is to be run.
    pub program: Program,
    /// What was removed from the text so that its shell can read it, as a sentence without a full stop.
    pub note: Option<String>,
}

/// A command line as a program of `sh`, `bash` or `pwsh`.
///
/// # Why through a variable
/// An argument is there for every user of the machine to read, in `/proc/PID/cmdline`, and command lines
/// hold passwords; `/proc/PID/environ` only its own user can read. So `sh` and `bash` get the line in a
/// variable and are told to `eval` it, on the same line, after it was unset. It is run as `-c` would run it: the same
/// `$0`, no arguments, the same line numbers, standard input and exit code; only the wording of a syntax
/// error differs (`sh: 1: eval: …`), and `sh` stays for the last program of the line where it would have become
/// it. Rejected: a file, whose name would be `$0`; standard input, which is null.
///
/// One that is too long for a variable (131,049 bytes) is run as a script is, as a file: hosts send whole
/// scripts so.
///
/// `pwsh` gets it as an argument: its `Invoke-Expression` does not keep the exit code. What programs of the
/// line get as arguments is the line's own affair.
///
/// # Errors
/// The shell is not on this machine, the line has a NUL.
pub fn command_line(raw: &RawCommand, deadline: Instant) -> Result<Prepared, ProcessError> {
    if raw.command.contains('\0') {
        return Err(ProcessError::NulInCommand);
    }
    let shell = found(raw.shell)?;
    let (command, note) = readable(shell, &raw.command);
    let mut environment = raw.environment.clone();
    let program = if command.len() > CARRIED_MAX {
        from_text(shell, command, deadline)
    } else if shell == "pwsh" {
        let arguments = ["-NoProfile", "-NonInteractive", "-Command", &command];
        Program::new(shell, arguments, deadline)
    } else {
        environment.insert(CARRIER.to_owned(), command);
        Program::new(shell, ["-c", RUN_CARRIED], deadline)
    };
    let (directory, run_as) = (raw.working_dir.clone(), raw.run_as.clone());
    Ok(Prepared { program: Program { environment, directory, run_as, ..program }, note })
}

/// A script as a program: its text as a file in memory, its inputs as variables of their names.
///
/// The shell is the one that the host names, which the policy has seen, too: a `#!` line is a comment.
///
/// # Errors
/// The shell is not on this machine.
pub fn script(script: &Script, deadline: Instant) -> Result<Prepared, ProcessError> {
    let shell = found(script.shell)?;
    let (content, note) = readable(shell, &script.content);
    let (environment, run_as) = (script.inputs.clone(), script.run_as.clone());
    let program = Program { environment, run_as, ..from_text(shell, content, deadline) };
    Ok(Prepared { program, note })
}

fn from_text(shell: &str, content: String, deadline: Instant) -> Program {
    // PowerShell takes a file without its usual ending where files may begin with `#!`.
    let options: &[&str] = match shell {
        "pwsh" => &["-NoProfile", "-NonInteractive", "-File"],
        _ => &[],
    };
    let text = Some(content);
    Program { text, ..Program::new(shell, options.iter().map(OsString::from), deadline) }
}

/// A text as its shell can read it; PowerShell reads what Windows has written.
fn readable(shell: &str, content: &str) -> (String, Option<String>) {
    match shell {
        "pwsh" => (content.to_owned(), None),
        _ => {
            let (content, note) = text::for_posix(content);
            (content.into_owned(), note)
        }
    }
}

/// The program of a shell, if this machine has it.
fn found(shell: Shell) -> Result<&'static str, ProcessError> {
    let program = match shell {
        Shell::Sh => "sh",
        Shell::Bash => "bash",
        Shell::PowerShell => "pwsh",
        Shell::Cmd => return Err(ProcessError::WindowsShell),
    };
    match installed(program) {
        true => Ok(program),
        false => Err(ProcessError::NoShell(program)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn raw(command: &str, shell: Shell) -> RawCommand {
        let environment = [("A".to_owned(), "b".to_owned())].into();
        let command = command.to_owned();
        let run_as = Some(Account::new("nobody").unwrap());
        RawCommand { command, shell, working_dir: Some("/tmp".into()), environment, run_as }
    }

    fn line(command: &str, shell: Shell) -> Result<Prepared, ProcessError> {
        command_line(&raw(command, shell), Instant::now())
    }

    #[tokio::test]
    async fn a_command_line_is_in_a_variable_of_its_shell_and_in_no_argument() {
        let Prepared { program, note } = line("echo $A; id", Shell::Bash).unwrap();
        assert_eq!(program.program, Path::new("bash"));
        assert_eq!(program.arguments, ["-c", RUN_CARRIED]);
        assert_eq!(program.directory.as_deref(), Some(Path::new("/tmp")));
        assert_eq!((program.environment.len(), program.run_as.is_some()), (2, true));
        assert_eq!(program.environment[CARRIER], "echo $A; id");
        assert_eq!((program.text, note), (None, None));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_for_a_variable_is_a_file() {
        let long = " ".repeat(CARRIED_MAX) + "\r\n";
        let Prepared { program, note } = line(&format!("{long}true"), Shell::Sh).unwrap();
        assert_eq!(program.text, Some(long.replace('\r', "") + "true"));
        assert_eq!((program.arguments.len(), program.environment.len()), (0, 1));
        assert!(note.unwrap().contains("the end of 1 line"));
        let fits = " ".repeat(CARRIED_MAX) + "\r";
        assert_eq!(line(&fits, Shell::Sh).unwrap().program.text, None, "a CR does not count");
    }

    /// Whatever a line does, its shell does the same with it as an argument of `-c`.
    #[test]
    fn a_command_line_is_run_as_if_it_were_an_argument() {
        let lines = [
            "",
            "exit 3",
            "(exit 4)",
            "exec false",
            "false; exit",
            "# only a comment",
            "echo $0 $# $-; env | grep -c INFINISERVICE; echo ${INFINISERVICE_COMMAND-unset}",
            "set -e; false; echo not here",
            "cat <<E\nx 'y' \"z\" $((1 + 2))\nE",
            "trap 'echo bye' EXIT; echo hi",
            "echo 'a\nb'; echo $LINENO\necho $LINENO",
            "read x; echo \"[$x]\"",
            "f() { return 7; }; f",
            "alias ll='echo hi'\nll",
            "true && echo \"x'y\\\"z\" \\$HOME `echo q`",
            "if",
            "echo one; )",
            "; echo x",
            "& echo x",
            "nosuchprogram",
            "set -u; echo $nosuch; echo on",
            "sleep 0 & wait; exit 2",
            "kill -KILL $$",
        ];
        let run = |shell: &str, text: &str, carried: Option<&str>| {
            let mut command = std::process::Command::new(shell);
            command.args(["-c", text]).stdin(std::process::Stdio::null()).env_remove(CARRIER);
            let output = command.envs(carried.map(|line| (CARRIER, line))).output().unwrap();
            (output.status, String::from_utf8(output.stdout).unwrap())
        };
        for shell in ["sh", "bash"].into_iter().filter(|shell| installed(shell)) {
            for line in lines {
                let direct = run(shell, line, None);
                assert_eq!(run(shell, RUN_CARRIED, Some(line)), direct, "{shell}: {line}");
            }
        }
    }

    #[tokio::test]
    async fn a_shell_that_is_not_here_and_a_nul_are_refused() {
        let error = |command, shell| line(command, shell).err().unwrap().to_string();
        assert!(error("dir", Shell::Cmd).contains("of Windows"));
        assert!(error("echo \0", Shell::Sh).contains("has a NUL"));
        if !installed("pwsh") {
            assert!(error("dir", Shell::PowerShell).contains("\"pwsh\" is not on this machine"));
        }
        let longest = line(&" ".repeat(CARRIED_MAX), Shell::Sh).unwrap().program;
        let mut command = std::process::Command::new(longest.program);
        command.args(longest.arguments).envs(longest.environment);
        assert!(command.status().unwrap().success(), "the kernel takes the longest");
    }
}
