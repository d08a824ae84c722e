//! What the agent and the process in a command's unit say to each other: a line of JSON each, and after the line of
//! [`FromUnit::Output`] as many bytes as it says.

use std::io;
use std::path::PathBuf;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use zeroize::Zeroizing;

use crate::commands::actions::plan::Effect;
use crate::commands::actions::{ActionOutcome, registry};
use crate::commands::argument::ArgumentError;
use crate::commands::process::{OutputStream, ProgramOutput};
use crate::commands::request::{RawCommand, RequestKind, Script};
use crate::commands::request_log::END_BYTES_MAX;
use crate::metrics::collect::CommandLine;
use crate::wire::inbound::{self, Message};

/// The first line to the unit: what to run, and how.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub request: Portable,
    /// When it must have ended, by [`monotonic_us`].
    pub deadline_us: u64,
    /// Bytes kept of each stream.
    pub output_bytes: usize,
    pub state: PathBuf,
    pub command_line: CommandLine,
    /// Whether rules limit anything: side effects are asked about before it runs.
    pub is_limited: bool,
}

/// The machine's clock that is never set, in microseconds: the same in all its processes.
pub(super) fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// A request as it goes to another process.
#[derive(Serialize, Deserialize)]
pub(super) enum Portable {
    /// The message that an action is read from.
    Action(String),
    Raw(RawCommand),
    Script(Script),
}

/// Why a request cannot be read again.
#[derive(Debug, Error)]
pub(super) enum PortableError {
    /// It is no message of an action.
    #[error("the agent and its unit do not understand each other; restart the agent")]
    NotUnderstood,
    /// The action, or an argument, is not known.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
}

/// What the unit says.
#[derive(Serialize, Deserialize)]
pub(super) enum FromUnit {
    /// What am I to run?
    Ready,
    /// May these happen?
    Effects(Vec<Effect<'static>>),
    /// The program has written more: these bytes follow the line, after `skipped` ones that are not kept.
    Output { stream: OutputStream, skipped: u64, bytes: usize },
    /// It has ended.
    Done(Box<ActionOutcome>),
}

/// What the agent says after the order.
#[derive(Serialize, Deserialize)]
pub(super) enum ToUnit {
    /// The side effects may happen, or may not for this reason.
    Decided(Option<String>),
    /// Nobody waits any more: end all of it.
    End,
}

impl Portable {
    /// `None` for what runs within the agent.
    pub(super) fn of(request: &RequestKind) -> Option<Self> {
        Some(match request {
            RequestKind::Action(action) => Self::Action(action.message()?.to_owned()),
            RequestKind::Raw(raw) => Self::Raw(raw.clone()),
            RequestKind::Script(script) => Self::Script(script.clone()),
        })
    }

    /// The request again.
    ///
    /// # Errors
    /// The agent is of another version than this program.
    pub(super) fn into_request(self) -> Result<RequestKind, PortableError> {
        Ok(match self {
            Self::Action(message) => match inbound::parse(&message, 0) {
                Ok(Message::Safe(safe)) => {
                    let name = safe.action.unwrap_or_default();
                    RequestKind::Action(registry::request(&name, safe.arguments)?)
                }
                _ => return Err(PortableError::NotUnderstood),
            },
            Self::Raw(raw) => RequestKind::Raw(raw),
            Self::Script(script) => RequestKind::Script(script),
        })
    }
}

/// A message as a line; empty for what has no spelling, which is then not understood.
pub(super) fn line(message: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line.into()
}

/// The next line; empty at the end.
pub(super) async fn next_line(
    lines: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::new());
    lines.take(END_BYTES_MAX).read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// What `output` has beyond what was `sent` of each stream, as messages: two of each stream at most, each with half of
/// what is kept.
pub(super) fn news(output: &ProgramOutput, sent: &mut [u64; 2]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut messages = Vec::new();
    for (stream, sent) in [OutputStream::Stdout, OutputStream::Stderr].into_iter().zip(sent) {
        for _ in 0..2 {
            let Some((skipped, bytes)) = output.since(stream, *sent) else { break };
            *sent += skipped + bytes.len() as u64;
            let mut message = line(&FromUnit::Output { stream, skipped, bytes: bytes.len() });
            message.extend_from_slice(&bytes);
            messages.push(message);
        }
    }
    messages
}

/// The next thing that a unit says beside the output, which goes to `output`; each piece has `most` bytes at most.
///
/// # Errors
/// Also where it says something else, or nothing more.
pub(super) async fn next_of_unit(
    lines: &mut (impl AsyncBufRead + Unpin),
    output: &ProgramOutput,
    most: usize,
) -> io::Result<FromUnit> {
    loop {
        match serde_json::from_slice(&next_line(lines).await?)? {
            FromUnit::Output { stream, skipped, bytes } if bytes <= most => {
                let mut piece = vec![0; bytes];
                lines.read_exact(&mut piece).await?;
                output.push(stream, skipped, &piece);
            }
            FromUnit::Output { .. } => return Err(io::ErrorKind::InvalidData.into()),
            other => return Ok(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::actions::plan::{Argument, Part, Value};

    fn there(request: &RequestKind) -> Option<RequestKind> {
        let sent = line(&Portable::of(request)?);
        let read: Portable = serde_json::from_slice(&sent).unwrap();
        Some(read.into_request().unwrap())
    }

    fn action(text: &str) -> RequestKind {
        let Ok(Message::Safe(safe)) = inbound::parse(text, 0) else { panic!("{text}") };
        RequestKind::Action(registry::request(&safe.action.unwrap(), safe.arguments).unwrap())
    }

    #[test]
    fn a_request_is_the_same_in_another_process() {
        for text in [
            r#"{"type":"SafeCommand","id":"a","command_type":{"action":"PackageInstall","package":"a+b"},"timeout":9}"#,
            r#"{"type":"SafeCommand","id":"\"","command_type":{"params":{"package":"a"},"action":"PackageRemove"}}"#,
            r#"{"type":"SafeCommand","id":"a","command_type":{"action":"ServiceControl","service":"x"},"params":{"operation":"stop","service":"y"}}"#,
            "{\"type\":\"SafeCommand\",\"id\":\"a\",\n \"command_type\" : {\"action\":\"CleanTemporaryFiles\"\n}}",
        ] {
            let asked = action(text);
            assert_eq!(there(&asked), Some(asked), "{text}");
        }
        let raw = RawCommand {
            command: "echo 'ö\n\u{1}'".into(),
            shell: Default::default(),
            working_dir: Some("/tmp".into()),
            environment: [("A".to_owned(), "\"".to_owned())].into(),
            run_as: None,
        };
        assert_eq!(there(&RequestKind::Raw(raw.clone())), Some(RequestKind::Raw(raw)));
    }

    #[test]
    fn what_reads_only_within_the_agent_stays_there() {
        for name in [
            "SystemInfo",
            "ProcessList",
            "RebootSystem",
            "CheckWindowsUpdates",
            "GetServiceDetails",
            "AgentStatus",
        ] {
            let text = format!(
                r#"{{"type":"SafeCommand","id":"a","command_type":{{"action":"{name}"}}}}"#
            );
            let Ok(Message::Safe(safe)) = inbound::parse(&text, 0) else { panic!("{text}") };
            let Ok(asked) = registry::request(name, safe.arguments) else { continue };
            assert!(Portable::of(&RequestKind::Action(asked)).is_none(), "{name}");
        }
    }

    #[test]
    fn side_effects_are_the_same_in_another_process() {
        let arguments =
            vec![(Argument::Package, Value::Is("x".into())), (Argument::Path, Value::Everything)];
        let effects =
            vec![Effect::side_effect("PackageRemove", arguments), Effect::restart(Part::Disguised)];
        let sent = line(&FromUnit::Effects(effects.clone()));
        let Ok(FromUnit::Effects(read)) = serde_json::from_slice(&sent) else { panic!() };
        assert_eq!(read, effects);
    }
}
