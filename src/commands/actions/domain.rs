//! Joins a domain with realmd, which sets up sssd or winbind and Kerberos. Keeps no password: it goes to `realm` by
//! standard input, and is taken out of whatever comes back.

use serde::Deserialize;
use serde_json::json;

use super::action::{Action, Refused, Unfit};
use super::page::{Missing, Name, json as parameter, text};
use super::plan::{Effect, Part, Plan};
use super::{ActionOutcome, Afterwards, Context, blocking, find_program};
use crate::commands::argument::{Account, ArgumentError, ComputerName, DomainName};
use crate::commands::outcome::Outcome;
use crate::commands::process::Program;
use crate::commands::secret::Secret;
use crate::redact::REDACTED;
use crate::wire::inbound::Password;

/// Joins a domain: `{domain, computer_name, ou, restart_after}`; the machine is restarted once that was answered,
/// where it was asked for and the machine has joined.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JoinDomain {
    /// Which.
    pub domain: DomainName,
    /// Who may let machines join.
    pub username: Account,
    /// Shown nowhere, and overwritten when it is dropped.
    pub password: Secret,
    /// Where in the directory the machine's account is made: a distinguished name.
    pub ou: Option<String>,
    /// What the machine is called there; its host name where absent.
    pub computer_name: Option<ComputerName>,
    /// Whether the machine is restarted, seconds after the answer.
    pub restart_after: bool,
}

/// The arguments of [`JoinDomain`].
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct JoinArguments {
    domain: Option<String>,
    username: Option<String>,
    password: Option<Password>,
    ou: Option<String>,
    computer_name: Option<String>,
    restart_after: Option<bool>,
}

/// The longest distinguished name of a place in a directory.
const OU_MAX: usize = 1024;
/// The longest password.
const PASSWORD_MAX: usize = 1024;

impl Action for JoinDomain {
    const NAMES: &'static [Name] = &[Name::new(
        "JoinDomain",
        "runs `realm join` (realmd, with sssd), the password on its standard input; then answers, and restarts three seconds later where asked",
        "`{domain, computer_name, ou, restart_after}`",
    )
    .takes("domain, username, password, ou?, computer_name?, restart_after?")
    .sent(&[
        text("domain", Missing::Refused),
        text("username", Missing::Refused),
        text("password", Missing::Refused),
        text("ou", Missing::Absent),
        text("computer_name", Missing::Absent),
        parameter("restart_after", Missing::Is(false)),
    ])];
    type Arguments = JoinArguments;

    fn new(_: &'static str, arguments: JoinArguments) -> Result<Self, Unfit> {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let JoinArguments { domain, username, password, ou, computer_name, restart_after } =
            arguments;
        let password = password.filter(|password| !password.0.is_empty());
        let (Some(domain), Some(username), Some(password)) =
            (some(domain), some(username), password)
        else {
            let why = "name the domain, and the username and password of an account that may let machines join";
            return Err(Unfit::Refused(Refused::Incomplete(why)));
        };
        // A line break would end it. The error does not contain the text.
        if password.0.len() > PASSWORD_MAX || password.0.contains(['\n', '\r', '\0']) {
            return Err(Unfit::Wrong(ArgumentError::Text {
                what: "the password",
                most: PASSWORD_MAX,
                holds: "a line break",
            }));
        }
        let Some(password) = Secret::new(password.0.as_bytes().to_vec()) else {
            return Err(ArgumentError::Rule("the password is empty").into());
        };
        let ou =
            some(ou).map(|ou| match ou.len() > OU_MAX || ou.chars().any(crate::wire::steers) {
                true => Err(ArgumentError::Text {
                    what: "the place in the directory (ou)",
                    most: OU_MAX,
                    holds: "a control or invisible character",
                }),
                false => Ok(ou),
            });
        let computer_name = some(computer_name).map(|name| ComputerName::new(&name));
        Ok(Self {
            domain: DomainName::new(&domain)?,
            username: Account::new(&username)?,
            password,
            ou: ou.transpose()?,
            computer_name: computer_name.transpose()?,
            restart_after: restart_after.unwrap_or_default(),
        })
    }

    fn plan(&self) -> Plan {
        let then = if self.restart_after {
            ", answers, and three seconds later restarts the machine"
        } else {
            ""
        };
        let domain = &self.domain;
        let does =
            format!("runs realm join for {domain}, the password on its standard input{then}");
        Plan::changes(does).also(self.restart_after.then(|| Effect::restart(Part::SideEffect)))
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let found = blocking(cx.deadline, "looking for realm", || find_program("realm")).await;
        match found {
            Ok(Some(realm)) => {
                join_by(cx, self, Program::new(realm, words(self), cx.deadline)).await
            }
            Ok(None) => Outcome::failed(
                "there is no realm on this machine; install realmd, with sssd and adcli, and ask again",
            )
            .into(),
            Err(why) => Outcome::failed(why).into(),
        }
    }
}

/// realm(8), `join`. It asks for the password, and takes it from standard input where that is no terminal.
fn words(join: &JoinDomain) -> Vec<String> {
    let JoinDomain { domain, username, ou, computer_name, .. } = join;
    let mut words = vec!["join".to_owned(), "--verbose".into(), format!("--user={username}")];
    words.extend(ou.as_ref().map(|ou| format!("--computer-ou={ou}")));
    words.extend(computer_name.as_ref().map(|name| format!("--computer-name={name}")));
    words.extend(["--".to_owned(), domain.to_string()]);
    words
}

async fn join_by(cx: &Context, join: &JoinDomain, mut program: Program) -> ActionOutcome {
    program.input = [join.password.expose(), b"\n"].concat();
    let mut outcome = match cx.runner.run(program).await {
        Ok(finished) => Outcome::from(finished),
        Err(why) => return Outcome::failed(why).into(),
    };
    if let Ok(password) = str::from_utf8(join.password.expose()) {
        for text in [&mut outcome.stdout, &mut outcome.stderr] {
            *text = text.replace(password, REDACTED);
        }
    }
    if !outcome.success {
        // realm says its reason last: `realm: Couldn't join realm: …`.
        let said = outcome.stderr.lines().rev().map(str::trim).find(|line| !line.is_empty());
        let why = said.map(|said| said.trim_start_matches("realm: ").to_owned());
        let why = why.or(outcome.error.take()).unwrap_or_default();
        outcome.error = Some(format!("the machine has not joined {}: {why}", join.domain));
        return outcome.into();
    }
    outcome.data = Some(json!({
        "domain": join.domain.as_str(),
        "computer_name": join.computer_name.as_ref().map(|name| name.as_str()),
        "ou": join.ou,
        "restart_after": join.restart_after,
    }));
    let afterwards = join.restart_after.then_some(Afterwards::Reboot { force: false });
    ActionOutcome { outcome, afterwards }
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const PASSWORD: &str = "hunter2 & 'more'";

    fn asked() -> JoinDomain {
        JoinDomain {
            domain: DomainName::new("lab.example").unwrap(),
            username: Account::new(r"LAB\ann").unwrap(),
            password: Secret::new(PASSWORD.into()).unwrap(),
            ou: Some("OU=Desktops,DC=lab,DC=example".into()),
            computer_name: Some(ComputerName::new("WS-7").unwrap()),
            restart_after: true,
        }
    }

    /// A `realm` that writes down its arguments, its environment and what it reads, and ends with `code`.
    async fn joined(code: u8) -> (ActionOutcome, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let (realm, at) = (folder.path().join("realm"), folder.path().display());
        let script = format!(
            "#!/bin/sh\n(cat /proc/$$/cmdline | tr '\\0' '\\n'; env) > {at}/argv\ncat > {at}/stdin\n\
             cat {at}/stdin\necho \"realm: Couldn't join realm: no such thing as $(cat {at}/stdin)\" >&2\nexit {code}\n"
        );
        std::fs::write(&realm, script).unwrap();
        std::fs::set_permissions(&realm, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (cx, join) = (test_context(), asked());
        let done = join_by(&cx, &join, Program::new(realm, words(&join), cx.deadline)).await;
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        (done, read("argv"), read("stdin"))
    }

    #[tokio::test]
    async fn the_password_goes_by_standard_input_and_nowhere_else() {
        let (done, argv, stdin) = joined(0).await;
        assert_eq!(stdin, format!("{PASSWORD}\n"));
        assert!(!argv.contains("hunter2"), "{argv}");
        for word in [
            "join",
            r"--user=LAB\ann",
            "--computer-ou=OU=Desktops,DC=lab,DC=example",
            "--computer-name=WS-7",
            "lab.example",
        ] {
            assert!(argv.lines().any(|line| line == word), "{word}: {argv}");
        }
        assert!(done.outcome.success && done.outcome.stdout.contains(REDACTED));
        assert_eq!(done.afterwards, Some(Afterwards::Reboot { force: false }));
        assert_eq!(done.outcome.data.as_ref().unwrap()["domain"], "lab.example");
        assert!(!format!("{done:?}{:?}", asked()).contains("hunter2"));
    }

    #[tokio::test]
    async fn a_machine_that_has_not_joined_is_not_restarted_and_says_why() {
        let (done, ..) = joined(1).await;
        assert!(!done.outcome.success && done.afterwards.is_none());
        let error = done.outcome.error.as_deref().unwrap();
        assert_eq!(
            error,
            "the machine has not joined lab.example: Couldn't join realm: no such thing as [redacted]"
        );
        assert!(!format!("{:?}", done.outcome).contains("hunter2"));
    }
}
