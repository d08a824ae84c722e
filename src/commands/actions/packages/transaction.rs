//! The steps of a change: which programs run, in which order, and how each is waited for. Does not read
//! what they print, beyond whether a lock was held.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout};

use super::super::Context;
use super::PackageError;
use super::failure;
use crate::commands::outcome::Outcome;
use crate::commands::process::{Exit, Finished, Program};
use crate::redact::redact_urls;

/// How long a command is taken to last where it is explained and not run.
pub(super) const NOMINAL: Duration = Duration::from_secs(600);

/// How often a held lock is tried again. With delays from 100 ms, doubling to 30 s, that is over ten
/// minutes; the command's own deadline ends most waits before.
const LOCK_TRIES: usize = 30;

/// How often the log says that a package manager still works.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// One program of a change.
#[derive(Clone)]
pub(crate) struct Step {
    /// What runs.
    pub program: Program,
    /// How its end is taken.
    pub kind: StepKind,
    /// Exit codes besides 0 by which it says that it was done.
    pub fine: &'static [i32],
}

/// How the end of a step is taken.
#[derive(Debug, Clone)]
pub(crate) enum StepKind {
    /// It changes the machine: waits for a lock, and is the answer.
    Act,
    /// It only reports, or makes ready what the next one needs: not worth a line in the log.
    Ask,
    /// It must tell one of these lines, or the name is not known and nothing after it runs.
    Known(Vec<String>),
    /// The same for a package of exactly this name, which this finds in what it prints.
    Listed(String, fn(&str, &str) -> bool),
}

/// Runs steps one after the other; the last one is the answer, or the first that fails.
pub(crate) async fn run(cx: &Context, steps: &[Step], name: &str) -> Outcome {
    let mut answered = Outcome::text("there was nothing to do");
    for (number, step) in steps.iter().enumerate() {
        let tool = step.program.program.display().to_string();
        if matches!(step.kind, StepKind::Act) {
            let (number, of) = (number + 1, steps.len());
            tracing::info!(%tool, package = name, step = number, of, "package manager started");
        }
        let finished = match with_progress(&tool, name, cx.patiently(&step.program)).await {
            Ok(finished) => finished,
            Err(why) => return Outcome::failed(why),
        };
        let said = &finished.stdout.text;
        let known = match &step.kind {
            StepKind::Known(lines) => {
                said.lines().any(|line| lines.iter().any(|known| known == line))
            }
            StepKind::Listed(name, lists) => lists(said, name),
            StepKind::Act | StepKind::Ask => true,
        };
        let done = match finished.exit {
            Exit::Code(code) => code == 0 || step.fine.contains(&code),
            _ => false,
        };
        if done && !known {
            return Outcome::failed(format!(
                "unable to locate package {name}: no package of exactly this name is known (is the package index up to date?)"
            ));
        }
        answered = answer(step, finished, name);
        if done {
            (answered.success, answered.error) = (true, None);
        }
        if matches!(step.kind, StepKind::Act) {
            let why = answered.error.as_deref().unwrap_or_default();
            tracing::info!(%tool, package = name, done = answered.success, why, "package manager ended");
        }
        if !answered.success {
            return answered;
        }
    }
    answered
}

/// Says every now and then that `work` goes on.
async fn with_progress<T>(tool: &str, name: &str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let mut work = std::pin::pin!(work);
    loop {
        match timeout(PROGRESS_EVERY, &mut work).await {
            Ok(done) => return done,
            Err(_) => {
                let seconds = begun.elapsed().as_secs();
                tracing::info!(%tool, package = name, seconds, "package manager still works");
            }
        }
    }
}

/// What a finished program is as an answer: success is exit code 0; what it said is passed on, without users and
/// passwords of repositories; why it failed is reported where that is known.
pub(super) fn answer(step: &Step, finished: Finished, name: &str) -> Outcome {
    let error = step.explain(&finished, name);
    let mut outcome = Outcome { error, ..Outcome::from(finished) };
    for said in [&mut outcome.stdout, &mut outcome.stderr] {
        if let Cow::Owned(without) = redact_urls(said) {
            *said = without;
        }
    }
    outcome
}

/// Runs a step that only reports and gives what it said, and whether something of it was cut.
///
/// # Errors
/// The sentence of an answer.
pub(crate) async fn ask(
    cx: &Context,
    step: &Step,
    fine: &[i32],
) -> Result<(String, bool), PackageError> {
    let finished = finished(cx, step).await?;
    match finished.exit {
        Exit::Code(code) if fine.contains(&code) => {
            Ok((finished.stdout.text, finished.stdout.truncated))
        }
        _ => Err(step.failure(&finished, "")),
    }
}

/// Runs a step and gives how it ended, waiting for a lock as all do.
///
/// # Errors
/// It could not be started: the sentence of an answer.
pub(super) async fn finished(cx: &Context, step: &Step) -> Result<Finished, PackageError> {
    cx.patiently(&step.program).await
}

impl Step {
    /// A step that runs `program` with `arguments`, in the C locale, so that what it says can be read.
    pub(super) fn new(
        program: &str,
        arguments: Vec<String>,
        deadline: Instant,
        kind: StepKind,
    ) -> Self {
        let environment = BTreeMap::from(
            [
                ("LC_ALL", "C.UTF-8"),
                ("DEBIAN_FRONTEND", "noninteractive"),
                ("APT_LISTCHANGES_FRONTEND", "none"),
                ("NEEDRESTART_MODE", "l"), // tell, do not restart: the agent itself may be among them
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let program = Program { environment, ..Program::new(program, arguments, deadline) };
        Self { program, kind, fine: &[] }
    }

    /// It is done with these exit codes too.
    pub(super) fn fine(self, fine: &'static [i32]) -> Self {
        Self { fine, ..self }
    }

    /// Why it failed, as a sentence without users and passwords of repositories; `None` where it did not.
    pub(super) fn explain(&self, finished: &Finished, name: &str) -> Option<String> {
        let why = failure::explain(&self.program.program.to_string_lossy(), finished, name)?;
        Some(redact_urls(&why).into_owned())
    }

    /// Why it failed, where it has.
    pub(super) fn failure(&self, finished: &Finished, name: &str) -> PackageError {
        PackageError::Failed(self.explain(finished, name).unwrap_or_default())
    }

    /// Its program and arguments.
    pub(crate) fn argv(&self) -> Vec<String> {
        let name = self.program.program.to_string_lossy().into_owned();
        let arguments =
            self.program.arguments.iter().map(|word| word.to_string_lossy().into_owned());
        [name].into_iter().chain(arguments).collect()
    }
}

impl Context {
    /// Runs a program, and again with growing delays while another process holds the package
    /// manager's lock, until there is no time left for another try or [`LOCK_TRIES`] are spent.
    async fn patiently(&self, program: &Program) -> Result<Finished, PackageError> {
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(30))
            .with_jitter()
            .with_max_times(LOCK_TRIES)
            .build();
        let tool = program.program.to_string_lossy();
        let (mut waiting, mut before) = (false, None);
        for delay in delays {
            let finished = self.runner.run(program.clone()).await?;
            let held = failure::lock_holder(&tool, &finished);
            // Where the last try was cut short by the deadline, the one before says who was in the way.
            if let (Exit::TimedOut, None, Some(before)) = (finished.exit, &held, before.take()) {
                return Ok(before);
            }
            match held {
                Some(holder) if !waiting => {
                    tracing::info!(%tool, %holder, "waiting for the package manager's lock")
                }
                None if waiting => {
                    tracing::info!(%tool, "the package manager's lock is free again")
                }
                _ => {}
            }
            waiting = failure::lock_holder(&tool, &finished).is_some();
            if !waiting || Instant::now() + delay >= program.deadline {
                return Ok(finished);
            }
            before = Some(finished);
            sleep(delay).await;
        }
        Ok(self.runner.run(program.clone()).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::process::Captured;

    #[test]
    fn what_a_failing_tool_says_of_a_repository_has_no_password_in_it() {
        let text = |text: &str| Captured { text: text.to_owned(), ..Captured::default() };
        let said = [
            ("apt-get", "Err:1 https://ann:h7Ntr2xx@mirror.lab stable/main\n  401  Unauthorized"),
            ("apt-get", "E: Failed to fetch https://ann:h7Ntr2xx@mirror.lab/dists/x  401"),
            ("apt-get", "E: The repository 'https://ann:h7Ntr2xx@mirror.lab stable' is odd."),
            ("dnf", "Error: odd (https://ann:h7Ntr2xx@mirror.lab/repodata/repomd.xml)"),
            ("zypper", "Error: File '/x' not found at 'https://ann:h7Ntr2xx@mirror.lab/'"),
            ("pacman", "error: failed retrieving file 'x' from https://ann:h7Ntr2xx@mirror.lab"),
            (
                "apt-get",
                "db_password=h7Ntr2xx is wrong\ndpkg: error processing package x (--configure):\n installed \
                 x package post-installation script subprocess returned error exit status 1",
            ),
        ];
        for (tool, said) in said {
            let step = Step::new(tool, Vec::new(), Instant::now(), StepKind::Act);
            let finished = |stdout, stderr| {
                let (stdout, stderr) = (text(stdout), text(stderr));
                Finished { exit: Exit::Code(100), stdout, stderr }
            };
            for finished in [finished(said, ""), finished("", said)] {
                let Outcome { error, stdout, stderr, .. } = answer(&step, finished, "x");
                let error = error.unwrap();
                assert!(!error.contains("h7Ntr2xx"), "{error}");
                let is_url = said.contains("mirror.lab");
                assert!(!is_url || !(stdout + &stderr).contains("h7Ntr2xx"), "{said}");
            }
        }
    }
}
