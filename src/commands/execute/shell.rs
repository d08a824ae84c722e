//! Command lines and scripts as programs. Runs nothing, and no safe action comes this way.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use tokio::time::Instant;

use super::{Program, account, installed};
use crate::commands::request::{RawCommand, Script, Shell};
use crate::commands::words::Account;
use crate::files::open_own;

/// Carries a command line to its shell; gone before the line is run, so nothing of it sees the variable.
const CARRIER: &str = "INFINISERVICE_COMMAND";
/// What the shell is told instead of the line: to forget the variable and run what was in it.
const RUN_CARRIED: &str = "eval \"unset INFINISERVICE_COMMAND; $INFINISERVICE_COMMAND\"";
/// The longest command line: one argument or variable may have 32 pages (`MAX_ARG_STRLEN` of
/// linux/binfmts.h), with its name and the NUL at its end.
const COMMAND_MAX: usize = 32 * 4096 - CARRIER.len() - 2;
/// Users pass through to a file whose name they know; nobody but the owner sees what is there.
const FOLDER: Mode = Mode::RWXU.union(Mode::XGRP).union(Mode::XOTH);

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
/// `pwsh` gets it as an argument: its `Invoke-Expression` does not keep the exit code. What programs of the
/// line get as arguments is the line's own affair.
///
/// # Errors
/// The end of a sentence: the shell is not on this machine, the line is too long or has a NUL.
pub fn command_line(raw: &RawCommand, deadline: Instant) -> Result<Program, String> {
    if raw.command.len() > COMMAND_MAX {
        return Err(format!("the command is longer than {COMMAND_MAX} bytes; send it as a script"));
    }
    if raw.command.contains('\0') {
        return Err("the command has a NUL; leave it out".to_owned());
    }
    let mut environment = raw.environment.clone();
    let (program, arguments) = match found(raw.shell)? {
        "pwsh" => ("pwsh", vec!["-NoProfile", "-NonInteractive", "-Command", &raw.command]),
        shell => {
            environment.insert(CARRIER.to_owned(), raw.command.clone());
            (shell, vec!["-c", RUN_CARRIED])
        }
    };
    Ok(Program {
        environment,
        directory: raw.working_dir.clone(),
        run_as: raw.run_as.clone(),
        ..Program::new(program, arguments, deadline)
    })
}

/// A script as a program: its text in a file below `folder`, its inputs as variables of their names.
/// The file is there as long as what is returned with the program. Writes a file: not for an async
/// worker.
///
/// # Errors
/// The end of a sentence: the shell is not on this machine, or the file cannot be written.
pub fn script(
    script: &Script,
    folder: &Path,
    deadline: Instant,
) -> Result<(Program, ScriptFile), String> {
    let ending = if found(script.shell)? == "pwsh" { ".ps1" } else { ".sh" };
    let file =
        ScriptFile::create(folder, ending, script.content.as_bytes(), script.run_as.as_ref())?;
    Ok((script_at(script, file.path(), deadline)?, file))
}

/// A script as a program, its text being in `file`.
///
/// # Errors
/// The end of a sentence: the shell is not on this machine.
pub fn script_at(script: &Script, file: &Path, deadline: Instant) -> Result<Program, String> {
    let shell = found(script.shell)?;
    let options = match shell {
        "pwsh" => &["-NoProfile", "-NonInteractive", "-File"][..],
        _ => &[][..],
    };
    let mut program = Program::new(shell, options.iter().copied(), deadline);
    program.arguments.push(file.into());
    program.environment = script.inputs.clone();
    program.run_as = script.run_as.clone();
    Ok(program)
}

/// The text of a script in a file that only its user can read, and nobody can write. Dropping it
/// removes the file.
///
/// # Why a file
/// On an argument all users could read it; from standard input the commands in it would read it too; a
/// `memfd` would have to be inherited, and what is inherited leaks into programs started meanwhile.
#[derive(Debug)]
pub struct ScriptFile(PathBuf);

impl ScriptFile {
    /// Writes `content` to a new file in `folder`, which is made where it is missing (0711) and must
    /// belong to this user with nobody else writing to it or to a folder above it. The file (0400) belongs to `owner`, where there is one.
    ///
    /// # Errors
    /// The end of a sentence: which of it could not be done.
    pub fn create(
        folder: &Path,
        ending: &str,
        content: &[u8],
        owner: Option<&Account>,
    ) -> Result<Self, String> {
        let shown = folder.display();
        let wrong = |error: Errno| format!("no script can be written to \"{shown}\": {error}");
        let owner = owner.map(account::identity).transpose()?;
        match rustix::fs::mkdir(folder, FOLDER) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(wrong(error)),
        }
        let held = open_own(folder)
            .map_err(|error| format!("no script is written to \"{shown}\": {error}"))?;
        let name = format!("{:016x}{ending}", RandomState::new().hash_one(std::process::id()));
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&held, &name, flags, Mode::RUSR).map_err(wrong)?;
        // From here on the file is removed, whatever fails.
        let written = Self(folder.join(name));
        let mut file = File::from(file);
        file.write_all(content)
            .map_err(|error| format!("the script cannot be written to \"{shown}\": {error}"))?;
        if let Some(owner) = owner {
            let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
            rustix::fs::fchown(&file, Some(uid), Some(gid)).map_err(wrong)?;
        }
        Ok(written)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "a script's file cannot be removed");
        }
    }
}

/// The program of a shell, if this machine has it.
fn found(shell: Shell) -> Result<&'static str, String> {
    let program = match shell {
        Shell::Sh => "sh",
        Shell::Bash => "bash",
        Shell::PowerShell => "pwsh",
        Shell::Cmd => return Err("shell \"cmd\" is of Windows; use sh or bash".to_owned()),
    };
    match installed(program) {
        true => Ok(program),
        false => Err(format!("shell \"{program}\" is not on this machine; install it or use sh")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn raw(command: &str, shell: Shell) -> RawCommand {
        let environment = [("A".to_owned(), "b".to_owned())].into();
        let command = command.to_owned();
        let run_as = Some(Account::new("nobody").unwrap());
        RawCommand { command, shell, working_dir: Some("/tmp".into()), environment, run_as }
    }

    #[tokio::test]
    async fn a_command_line_is_in_a_variable_of_its_shell_and_in_no_argument() {
        let program = command_line(&raw("echo $A; id", Shell::Bash), Instant::now()).unwrap();
        assert_eq!(program.program, Path::new("bash"));
        assert_eq!(program.arguments, ["-c", RUN_CARRIED]);
        assert_eq!(program.directory.as_deref(), Some(Path::new("/tmp")));
        assert_eq!((program.environment.len(), program.run_as.is_some()), (2, true));
        assert_eq!(program.environment[CARRIER], "echo $A; id");
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
    async fn a_shell_that_is_not_here_and_a_line_that_is_too_long_are_refused() {
        let error = |raw: RawCommand| command_line(&raw, Instant::now()).err().unwrap();
        assert!(error(raw("dir", Shell::Cmd)).contains("of Windows"));
        assert!(error(raw(&"x".repeat(COMMAND_MAX + 1), Shell::Sh)).contains("as a script"));
        assert!(error(raw("echo \0", Shell::Sh)).contains("has a NUL"));
        let longest = raw(&" ".repeat(COMMAND_MAX), Shell::Sh);
        let program =
            command_line(&RawCommand { run_as: None, ..longest }, Instant::now()).unwrap();
        let mut command = std::process::Command::new(program.program);
        command.args(program.arguments).envs(program.environment);
        assert!(command.status().unwrap().success(), "the kernel takes the longest");
        if !installed("pwsh") {
            assert!(
                error(raw("dir", Shell::PowerShell)).contains("\"pwsh\" is not on this machine")
            );
        }
    }

    #[test]
    fn a_script_file_is_its_owners_and_goes_when_dropped() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("scripts");
        let file = ScriptFile::create(&folder, ".sh", b"echo", None).unwrap();
        let (about, above) = (file.path().metadata().unwrap(), folder.metadata().unwrap());
        assert_eq!((about.mode() & 0o7777, above.mode() & 0o7777), (0o400, 0o711));
        assert_eq!(about.uid(), rustix::process::geteuid().as_raw());
        assert_eq!(std::fs::read(file.path()).unwrap(), b"echo");
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_others_can_write_or_a_link_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("open");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = ScriptFile::create(&folder, ".sh", b"", None).unwrap_err();
        assert!(error.contains("has mode 0777") && error.contains("chmod"), "{error}");
        let link = temporary.path().join("link");
        symlink(temporary.path(), &link).unwrap();
        assert!(ScriptFile::create(&link, ".sh", b"", None).is_err());
        assert!(ScriptFile::create(&temporary.path().join("a/b"), ".sh", b"", None).is_err());
    }
}
