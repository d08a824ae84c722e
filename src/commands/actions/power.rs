//! Restarts the machine. Does not send the answer that must leave before.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::ActionError;
use super::action::{Action, Unfit};
use super::page::{Missing, Name, json as parameter};
use super::plan::Plan;
use super::{ActionOutcome, Afterwards, Context, blocking, find_program, program};
use crate::commands::outcome::Outcome;
use crate::commands::process::{Exit, Finished, ProcessError, Program, Runner};
use crate::commands::systemd;

/// How long a program may take to hand the restart to the system.
const PATIENCE: Duration = Duration::from_secs(30);

/// Restarts the machine, seconds after the answer: success where a program is there that can do it. Restarts nothing
/// by itself: that is `reboot`, once the answer has been flushed.
#[derive(Debug, Clone, PartialEq)]
pub struct RebootSystem {
    /// Without asking programs to end.
    pub force: bool,
}

/// How to restart.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct RebootArguments {
    force: Option<bool>,
}

impl Action for RebootSystem {
    const NAMES: &'static [Name] = &[Name::new(
        "RebootSystem",
        "answers, and restarts the machine three seconds later",
        "`{rebooting, force}`",
    )
    .takes("force?")
    .sent(&[parameter("force", Missing::Is(false))])];
    const IN_AGENT: bool = true;
    type Arguments = RebootArguments;

    fn new(_: &'static str, arguments: RebootArguments) -> Result<Self, Unfit> {
        Ok(Self { force: arguments.force.unwrap_or_default() })
    }

    fn plan(&self) -> Plan {
        let does = match self.force {
            false => {
                "answers, and three seconds later restarts the machine with systemctl, shutdown or reboot"
            }
            true => {
                "answers, and three seconds later restarts the machine with systemctl or reboot, without \
                 asking programs to end"
            }
        };
        Plan::changes(does).force(self.force)
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let force = self.force;
        let found = blocking(cx.deadline, "looking for a program that restarts", move || {
            ways(force, systemd::is_running()).iter().any(|way| find_program(way[0]).is_some())
        });
        match found.await {
            Ok(true) => {
                let mut outcome = Outcome::text("the machine restarts in a few seconds");
                outcome.data = Some(json!({ "rebooting": true, "force": force }));
                ActionOutcome { outcome, afterwards: Some(Afterwards::Reboot { force }) }
            }
            Ok(false) => Outcome::failed(
                "there is no program that restarts this machine (systemctl, shutdown, reboot)",
            )
            .into(),
            Err(error) => Outcome::failed(error).into(),
        }
    }
}

/// Switches the machine off: hands it to the system, which ends everything including the agent.
///
/// # Errors
/// What each way answered, where none worked.
pub(crate) async fn off(runner: &Runner) -> Result<(), ActionError> {
    let mut ways: Vec<&[&str]> = vec![&["shutdown", "-P", "now"], &["poweroff"]];
    if systemd::is_running() {
        ways.insert(0, &["systemctl", "--no-ask-password", "--no-wall", "-i", "poweroff"]);
    }
    tried("switch the machine off", ways, |program| runner.run(program).boxed()).await
}

/// Restarts the machine: hands it to the system, which ends everything including the agent. With
/// `force` programs are not asked to end; file systems are still written back.
///
/// # Errors
/// What each way answered, where none worked.
pub(crate) async fn reboot(force: bool, runner: &Runner) -> Result<(), ActionError> {
    let systemd = systemd::is_running();
    tried("restart the machine", ways(force, systemd), |program| runner.run(program).boxed()).await
}

/// Tries one way after the other until one is accepted.
async fn tried<'a>(
    what: &'static str,
    ways: Vec<&'static [&'static str]>,
    run: impl Fn(Program) -> BoxFuture<'a, Result<Finished, ProcessError>>,
) -> Result<(), ActionError> {
    let mut answers = Vec::new();
    for way in ways {
        tracing::warn!(
            program = way[0],
            goal = what,
            "asking the system to restart or switch off the machine"
        );
        let deadline = Instant::now() + PATIENCE;
        match run(program(way[0], &way[1..], deadline)).await {
            Ok(Finished { exit: Exit::Code(0), .. }) => return Ok(()),
            Ok(Finished { exit, stderr, .. }) => {
                let said = stderr.text.lines().next().unwrap_or_default().to_owned();
                answers.push(format!("{}: {exit:?} {said}", way[0]));
            }
            Err(error) => answers.push(format!("{}: {error}", way[0])),
        }
    }
    Err(ActionError::MachineRefuses(what, answers.join("; ")))
}

/// Programs with their arguments, the most orderly first. `--no-wall` and `-i`: nobody is asked, the
/// host has decided.
fn ways(force: bool, systemd: bool) -> Vec<&'static [&'static str]> {
    let mut ways: Vec<&[&str]> = Vec::new();
    if systemd && force {
        ways.push(&["systemctl", "--no-ask-password", "--no-wall", "--force", "reboot"]);
    } else if systemd {
        ways.push(&["systemctl", "--no-ask-password", "--no-wall", "-i", "reboot"]);
    }
    if force {
        ways.push(&["reboot", "-f"]);
    } else {
        ways.push(&["shutdown", "-r", "now"]);
        ways.push(&["reboot"]);
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::super::test_context;
    use super::*;
    use crate::commands::process::Captured;
    use std::sync::Mutex;

    fn finished(code: i32) -> Finished {
        let stderr = Captured { text: "Call failed\nmore".into(), ..Captured::default() };
        Finished { exit: Exit::Code(code), stdout: Default::default(), stderr }
    }

    async fn tried(
        force: bool,
        systemd: bool,
        works: &str,
    ) -> (Vec<String>, Result<(), ActionError>) {
        let lines = Mutex::new(Vec::new());
        let ways = ways(force, systemd);
        let result = super::tried("restart the machine", ways, |program: Program| {
            let name = program.program.to_str().unwrap().to_owned();
            let mut line = name.clone();
            for argument in &program.arguments {
                line = format!("{line} {}", argument.to_str().unwrap());
            }
            lines.lock().unwrap().push(line);
            let answer = match name.as_str() {
                "shutdown" => Err(ProcessError::NotFound("shutdown".into())),
                _ => Ok(finished(i32::from(name != works))),
            };
            std::future::ready(answer).boxed()
        });
        let result = result.await;
        (lines.into_inner().unwrap(), result)
    }

    #[tokio::test]
    async fn the_orderly_way_comes_first_and_the_next_only_when_it_is_refused() {
        let (lines, result) = tried(false, true, "systemctl").await;
        assert_eq!(lines, ["systemctl --no-ask-password --no-wall -i reboot"]);
        assert!(result.is_ok());
        let (lines, result) = tried(false, true, "reboot").await;
        assert_eq!(lines.len(), 3);
        assert!(lines[2] == "reboot" && result.is_ok());
    }

    #[tokio::test]
    async fn force_asks_no_program_and_without_systemd_systemctl_is_not_tried() {
        let (lines, _) = tried(true, true, "none").await;
        assert!(
            lines.iter().all(|line| line.contains(" --force ") || line.ends_with(" -f")),
            "{lines:?}"
        );
        let (lines, result) = tried(false, false, "none").await;
        assert_eq!(lines, ["shutdown -r now", "reboot"]);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("shutdown: there is no program \"shutdown\" on this machine; install it first; reboot: Code(1) Call failed"), "{error}");
    }

    #[tokio::test]
    async fn the_answer_promises_a_restart_and_leaves_it_to_who_sends_the_answer() {
        let done = RebootSystem { force: true }.run(&test_context()).await;
        let can =
            ["systemctl", "reboot", "shutdown"].iter().any(|name| find_program(name).is_some());
        if can && done.outcome.success {
            assert_eq!(done.afterwards, Some(Afterwards::Reboot { force: true }));
        } else {
            assert_eq!(done.afterwards, None);
            assert!(done.outcome.error.is_some());
        }
    }
}
