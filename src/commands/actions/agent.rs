//! What the agent does itself: its status, and a look at a stage. Changes nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::action::{Action, Refused, Unfit};
use super::page::{Missing, Name, json as parameter, text};
use super::plan::Plan;
use super::{ActionOutcome, Context, blocking};
use crate::commands::outcome::Outcome;
use crate::pipeline::tap::TapReader;

/// What an agent tells of itself.
pub trait AgentReport: Send + Sync {
    /// What `infiniservice status --json` prints. May block.
    ///
    /// # Errors
    /// The agent's own use cannot be read.
    fn status(&self) -> Result<Value, ReportError>;

    /// Looks at a stage, at most `rate` lines a second; returns its full name.
    ///
    /// # Errors
    /// There is no such stage, or there are several.
    fn look(
        &self,
        stage: &str,
        pipeline: Option<&str>,
        rate: u32,
    ) -> Result<(String, TapReader), ReportError>;
}

/// Why an agent cannot report something of itself.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Its own use cannot be read: the reason, as the group `agent` of a reading has it.
    #[error("{0}")]
    Usage(String),
    /// The status cannot be written as JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// No pipeline with stages is running.
    #[error("no stage runs that can be looked at")]
    NoStages,
    /// No stage has this name, which may end with that of a pipeline.
    #[error("there is no stage {wanted}; there are {known}")]
    UnknownStage {
        /// The name.
        wanted: String,
        /// All stages.
        known: String,
    },
    /// Several stages have this name.
    #[error("several stages are called {wanted}: {known}; write one of them")]
    SeveralStages {
        /// The name.
        wanted: String,
        /// These stages.
        known: String,
    },
}

/// Replies take texts.
impl From<ReportError> for String {
    fn from(error: ReportError) -> Self {
        error.to_string()
    }
}

/// The report of the agent that an action runs in. A clone is the same.
pub(crate) type SharedReport = Arc<dyn AgentReport>;

/// Why there is nothing to tell.
const NONE: &str = "the agent tells nothing of itself here";

/// What `infiniservice status --json` prints.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgentStatus;

impl Action for AgentStatus {
    const NAMES: &'static [Name] = &[Name::new(
        "AgentStatus",
        "reports what the agent does: rates, queues, losses, ports, running commands, last warnings",
        "as `infiniservice status --json`",
    )
    .offered(&[])];
    const IN_AGENT: bool = true;
    type Arguments = super::action::NoArguments;

    fn new(_: &'static str, _: Self::Arguments) -> Result<Self, Unfit> {
        Ok(Self)
    }

    fn plan(&self) -> Plan {
        Plan::reads("reads the agent's own counters; runs no program")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let Some(report) = cx.agent.clone() else { return Outcome::failed(NONE).into() };
        let status = blocking(cx.deadline, "the agent's status", move || report.status()).await;
        match status {
            Ok(Ok(status)) => Outcome::data(status).into(),
            Ok(Err(why)) => Outcome::failed(why).into(),
            Err(late) => Outcome::failed(late).into(),
        }
    }
}

/// The most lines of one look.
const LINES_MAX: u32 = 100;
/// How many lines are waited for where no number is asked for.
const LINES: u32 = 10;
/// How long they are waited for, at most, and where nothing else is asked for.
const SECONDS: u32 = 10;
const SECONDS_MAX: u32 = 60;

/// The next lines that come out of a stage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AgentTap {
    stage: String,
    pipeline: Option<String>,
    lines: u32,
    seconds: u32,
}

/// Which stage, and how much of it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct TapArguments {
    stage: Option<String>,
    pipeline: Option<String>,
    lines: Option<u32>,
    seconds: Option<u32>,
}

impl Action for AgentTap {
    const NAMES: &'static [Name] = &[Name::new(
        "AgentTap",
        "waits for the next lines (10, at most 100) that come out of a stage of a pipeline, for 10 s, at most 60",
        "`{stage, lines, skipped}`",
    )
    .takes("stage, pipeline?, lines?, seconds?")
    .offered(&[
        text("stage", Missing::Refused),
        text("pipeline", Missing::Absent),
        parameter("lines", Missing::Absent),
        parameter("seconds", Missing::Absent),
    ])];
    const IN_AGENT: bool = true;
    type Arguments = TapArguments;

    fn new(_: &'static str, arguments: TapArguments) -> Result<Self, Unfit> {
        let stage = arguments.stage.filter(|stage| !stage.is_empty());
        Ok(Self {
            stage: stage.ok_or(Unfit::Refused(Refused::Incomplete("stage")))?,
            pipeline: arguments.pipeline,
            lines: arguments.lines.unwrap_or(LINES).clamp(1, LINES_MAX),
            seconds: arguments.seconds.unwrap_or(SECONDS).clamp(1, SECONDS_MAX),
        })
    }

    fn plan(&self) -> Plan {
        Plan::reads("looks at what passes through a pipeline, metrics or records; runs no program")
    }

    async fn run(&self, cx: &Context) -> ActionOutcome {
        let Some(report) = &cx.agent else { return Outcome::failed(NONE).into() };
        let looked = report.look(&self.stage, self.pipeline.as_deref(), self.lines);
        let (stage, mut reader) = match looked {
            Ok(looked) => looked,
            Err(why) => return Outcome::failed(why).into(),
        };
        let end = Instant::now() + Duration::from_secs(self.seconds.into());
        let (end, mut lines, mut bytes) = (end.min(cx.deadline), Vec::new(), 0);
        while lines.len() < self.lines as usize && bytes < super::LINE_MAX {
            let Ok(Some(line)) = timeout_at(end, reader.next()).await else { break };
            bytes += line.len();
            let text = String::from_utf8_lossy(&line);
            // A line of JSON is told as what it is.
            lines.push(serde_json::from_str(&text).unwrap_or_else(|_| Value::from(&*text)));
        }
        let skipped = reader.skipped();
        Outcome::data(json!({ "stage": stage, "lines": lines, "skipped": skipped })).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::actions::{ActionRequest, perform, test_context};
    use crate::pipeline::tap::Tap;

    struct Report(Tap);

    impl AgentReport for Report {
        fn status(&self) -> Result<Value, ReportError> {
            Ok(json!({ "pid": 7 }))
        }

        fn look(
            &self,
            stage: &str,
            _: Option<&str>,
            rate: u32,
        ) -> Result<(String, TapReader), ReportError> {
            match stage {
                "join" => Ok(("metrics/join".to_owned(), self.0.attach(rate))),
                _ => Err(ReportError::UnknownStage {
                    wanted: stage.to_owned(),
                    known: "metrics/join".to_owned(),
                }),
            }
        }
    }

    async fn done(request: impl Into<ActionRequest>, report: Option<SharedReport>) -> Outcome {
        let cx = Context { agent: report, ..test_context() };
        perform(&request.into(), &cx).await.outcome
    }

    fn tap(stage: &str, lines: u32) -> AgentTap {
        let (stage, lines) = (Some(stage.to_owned()), Some(lines));
        AgentTap::new("AgentTap", TapArguments { stage, lines, ..<_>::default() }).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_host_gets_the_status_and_the_next_lines_of_a_stage() {
        let report = Arc::new(Report(Tap::default()));
        let status = done(AgentStatus, Some(report.clone())).await;
        assert_eq!(status.data.unwrap(), json!({ "pid": 7 }));
        let looking = done(tap("join", 3), Some(report.clone()));
        let showing = async {
            while !report.0.is_open() {
                tokio::task::yield_now().await;
            }
            assert!(report.0.allowance(Instant::now()) == 3);
            report.0.line(b"{\"a\":1}");
            report.0.line(b"cpu a=1");
            report.0.skip(4);
        };
        let (outcome, ()) = tokio::join!(looking, showing);
        let expected =
            json!({ "stage": "metrics/join", "lines": [{ "a": 1 }, "cpu a=1"], "skipped": 4 });
        assert_eq!(outcome.data.unwrap(), expected, "the time is over, and two have come");
        let wrong = done(tap("x", 3), Some(report)).await;
        assert_eq!(wrong.error.as_deref(), Some("there is no stage x; there are metrics/join"));
        assert!(!done(AgentStatus, None).await.success);
    }
}
