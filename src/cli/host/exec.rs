//! `infiniservice-host … exec -- CMD…` and `… script FILE`: the guest runs something, its output and exit code
//! become this program's.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Failed, Guest, TIMEOUT, answer, for_whom, print, print_json, say};
use crate::cli::EXIT_CONFIG;
use crate::host::{HostError, RawCommand, Script, Shell, uuid};
use crate::wire::{LINE_BYTES_MAX, plain};

/// The Infinibay host's limit for a script.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    Bash,
    Sh,
    Powershell,
}

impl From<ShellName> for Shell {
    fn from(name: ShellName) -> Self {
        match name {
            ShellName::Bash => Self::Bash,
            ShellName::Sh => Self::Sh,
            ShellName::Powershell => Self::PowerShell,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// The shell that runs the program; its arguments are quoted, so the shell expands none of them
    #[arg(long, value_enum, default_value = "sh")]
    shell: ShellName,

    /// The user to run as [default: the agent's user, which is root]
    #[arg(long, value_name = "USER")]
    run_as: Option<String>,

    /// The working directory in the guest
    #[arg(long, value_name = "DIR")]
    dir: Option<String>,

    /// An environment variable for the program; NAME alone copies the value from this environment
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,

    /// The program and its arguments; for pipes and the like use a shell: -- sh -c 'ls | wc'
    #[arg(value_name = "CMD", required = true, last = true)]
    words: Vec<String>,
}

impl Exec {
    pub(super) async fn run(&self, guest: &Guest<'_>) -> Result<u8, Failed> {
        let shell = Shell::from(self.shell);
        let command = RawCommand {
            raw_command: shell.quote(&self.words),
            shell: Some(shell),
            working_dir: self.dir.clone(),
            env_vars: variables(&self.environment)?,
            run_as: self.run_as.clone(),
        };
        let timeout = guest.timeout(TIMEOUT);
        let host = guest.to_ask(timeout).await?;
        guest.asks();
        let response = guest.answer(&host, host.exec(&command, timeout)).await?;
        if guest.options.json {
            print_json(response.body.to_string().as_bytes())?;
        } else {
            print(&response.stdout)?;
            answer::complain_raw("the command", &response)?;
        }
        Ok(response.code())
    }
}

#[derive(Debug, Args)]
pub(super) struct ScriptFile {
    /// The script; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The shell that runs it
    #[arg(long, value_enum, default_value = "bash")]
    shell: ShellName,

    /// The execution type that the host reports to the guest: FIRST_BOOT, ON_DEMAND or SCHEDULED
    #[arg(long = "type", value_name = "TYPE", default_value = "ON_DEMAND")]
    #[arg(value_parser = ["FIRST_BOOT", "ON_DEMAND", "SCHEDULED"], hide_possible_values = true)]
    kind: String,

    /// The user to run as [default: the agent's user, which is root]
    #[arg(long, value_name = "USER")]
    run_as: Option<String>,

    /// An input value of the script; NAME alone copies the value from this environment
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
}

impl ScriptFile {
    pub(super) async fn run(&self, guest: &Guest<'_>) -> Result<u8, Failed> {
        let timeout = guest.timeout(SCRIPT_TIMEOUT);
        let name = self.file.file_name().unwrap_or(self.file.as_os_str());
        let fresh = || uuid().map_err(HostError::no_random);
        let script = Script {
            execution_id: fresh()?,
            script_id: fresh()?,
            script_name: name.to_string_lossy().into_owned(),
            script_content: read(&self.file)?,
            shell: self.shell.into(),
            execution_type: self.kind.clone(),
            input_values: variables(&self.inputs)?,
            timeout_seconds: timeout.as_secs(),
            run_as: self.run_as.clone(),
        };
        let host = guest.to_ask(timeout).await?;
        guest.asks();
        let end = guest.answer(&host, host.script(&script, timeout)).await?;
        if guest.options.json {
            print_json(end.body.to_string().as_bytes())?;
            return Ok(end.code());
        }
        print(&for_whom(&end.stdout, &io::stdout()))?;
        answer::to_stderr(&for_whom(&end.stderr, &io::stderr()))?;
        if end.code() != 0 {
            let more = end.log_file.as_deref().map(plain);
            let more =
                more.map_or(String::new(), |file| format!("; more is in {file} of the guest"));
            say(&format!("the script ended with exit code {}{more}", end.exit_code));
        }
        Ok(end.code())
    }
}

/// The text of the file, of no more than can be sent.
fn read(file: &Path) -> Result<String, Failed> {
    let shown = file.display();
    let wrong = |what| Failed { code: EXIT_CONFIG, what };
    let cannot = |error: io::Error| wrong(format!("cannot read {shown}: {error}"));
    let mut bytes = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    if file == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    } else {
        let file = std::fs::File::open(file).map_err(cannot)?;
        file.take(limit).read_to_end(&mut bytes).map_err(cannot)?;
    }
    if bytes.len() > LINE_BYTES_MAX {
        return Err(wrong(format!(
            "{shown} is longer than {LINE_BYTES_MAX} bytes, which no guest takes"
        )));
    }
    match String::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => Err(wrong(format!("{shown} is empty"))),
        Ok(text) => Ok(text),
        Err(_) => Err(wrong(format!("{shown} is no text in UTF-8; convert it first"))),
    }
}

/// `NAME=VALUE`, or `NAME` for a variable of this program's own environment.
fn variables(given: &[String]) -> Result<BTreeMap<String, String>, Failed> {
    let one = |text: &String| match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        None if is_name(text) => std::env::var(text)
            .map(|value| (text.clone(), value))
            .map_err(|_| format!("the variable {text} is not set here; write {text}=VALUE")),
        _ => Err(format!(
            "{text:?} is no variable; write it as NAME=VALUE, the name in letters, digits and _"
        )),
    };
    let all: Result<_, _> = given.iter().map(one).collect();
    all.map_err(|what| Failed { code: EXIT_CONFIG, what })
}

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(plain) && !text.starts_with(|c: char| c.is_ascii_digit()) && !text.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_any_value() {
        let given = |text: &str| variables(&[text.to_owned()]).map_err(|failed| failed.what);
        assert_eq!(given("A_1=x=y z").unwrap(), BTreeMap::from([("A_1".into(), "x=y z".into())]));
        assert_eq!(given("A=").unwrap().len(), 1);
        for wrong in ["=x", "1A=x", "A B=x", "", "A;B=x"] {
            assert!(given(wrong).unwrap_err().contains("write it as NAME=VALUE"), "{wrong}");
        }
        assert!(given("NO_SUCH_VARIABLE_HERE").unwrap_err().contains("is not set here"));
        assert_eq!(given("PATH").unwrap().len(), 1);
    }
}
