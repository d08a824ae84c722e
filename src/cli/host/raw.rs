//! `infiniservice-host … raw`: payloads from standard input as they are, to see what a guest does
//! with them.

use std::collections::HashSet;
use std::io::{self, BufRead, Read};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc;

use super::{EXIT_LATE, Failed, Guest, TIMEOUT, print_line, say};
use crate::cli::EXIT_CONFIG;
use crate::host::{Host, HostError, Kind};
use crate::tasks::spawn_blocking;
use crate::wire::inbound::id_of;
use crate::wire::{LINE_BYTES_MAX, plain};

/// Lines of standard input that wait to be sent.
const LINES_WAITING: usize = 16;
/// Answers that are looked out for; those of further payloads are printed all the same.
const EXPECTED_MAX: usize = 65_536;

#[derive(Debug, Args)]
#[command(after_help = "\
Ends when standard input has ended and each payload that needs an answer has one.
Answers are matched by id (commands), number (keep_alive_request) or execution id
(scripts). Exits with 124 if an answer does not come in time, else with 0,
whatever the answers say.

Example:
  echo '{\"type\":\"keep_alive_request\",\"sequence_number\":1}' |
    infiniservice-host /run/web-1.socket raw")]
pub(super) struct Raw {
    /// Send the lines unsigned; a guest must not obey them
    #[arg(long)]
    unsigned: bool,

    /// Print metrics, too
    #[arg(long)]
    metrics: bool,
}

impl Raw {
    pub(super) async fn run(&self, guest: &Guest<'_>) -> Result<u8, Failed> {
        let timeout = guest.timeout(TIMEOUT);
        let host = if self.unsigned {
            guest.connect(guest.settings(false)?, timeout).await?
        } else {
            guest.to_ask(timeout).await?
        };
        let mut lines = stdin_lines();
        let mut expected = HashSet::new();
        let mut sending = true;
        // Runs from the last line on.
        let mut late = std::pin::pin!(tokio::time::sleep(Duration::MAX));
        while sending || !expected.is_empty() {
            tokio::select! {
                message = host.next() => {
                    let message = message?;
                    expected.remove(&message.kind);
                    match &message.kind {
                        Kind::Unreadable(why) => say(&format!("the guest sent a line that cannot be read: {}", plain(why))),
                        Kind::Metrics if !self.metrics => {}
                        _ => print_line(&message.line)?,
                    }
                }
                line = lines.recv(), if sending => match line {
                    Some(line) => {
                        guest.asks();
                        self.send(&host, line?, &mut expected).await?;
                    }
                    None => {
                        sending = false;
                        late.as_mut().reset(tokio::time::Instant::now() + timeout);
                    }
                },
                () = &mut late, if !sending => {
                    let what = format!(
                        "no answer to {} of the payloads within {}",
                        expected.len(),
                        humantime::format_duration(timeout)
                    );
                    return Err(Failed { code: EXIT_LATE, what });
                }
            }
        }
        Ok(0)
    }

    async fn send(
        &self,
        host: &Host,
        line: String,
        expected: &mut HashSet<Kind>,
    ) -> Result<(), HostError> {
        if expected.len() < EXPECTED_MAX {
            expected.extend(answers(&line));
        }
        if self.unsigned { host.send_unsigned(line).await } else { host.send(line).await }
    }
}

/// The answer that this payload requires of a guest.
fn answers(payload: &str) -> Vec<Kind> {
    let Ok(body) = serde_json::from_str::<Value>(payload) else { return Vec::new() };
    match body["type"].as_str() {
        Some("keep_alive_request") => {
            body["sequence_number"].as_u64().map(Kind::KeepAlive).into_iter().collect()
        }
        Some("pending_scripts_response") => {
            let scripts = body["scripts"].as_array().map_or(&[][..], Vec::as_slice);
            let ids = scripts.iter().filter_map(|script| id_of(&script["execution_id"]));
            ids.map(Kind::ScriptCompletion).collect()
        }
        _ => id_of(&body["id"]).map(Kind::Response).into_iter().collect(),
    }
}

/// The lines of standard input, without blank ones; read by a thread, because a terminal cannot be
/// waited for in another way.
fn stdin_lines() -> mpsc::Receiver<Result<String, Failed>> {
    let (to, lines) = mpsc::channel(LINES_WAITING);
    spawn_blocking(move || {
        let mut stdin = io::stdin().lock();
        loop {
            let line = match next_line(&mut stdin) {
                Ok(Some(line)) if line.trim().is_empty() => continue,
                Ok(Some(line)) => Ok(line),
                Ok(None) => return,
                Err(error) => Err(Failed { code: EXIT_CONFIG, what: error.to_string() }),
            };
            let last = line.is_err();
            if to.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    lines
}

/// Why no more lines come of standard input.
#[derive(Debug, Error)]
enum InputError {
    #[error("cannot read standard input: {0}")]
    Unreadable(#[from] io::Error),
    #[error("a line is longer than {LINE_BYTES_MAX} bytes, which no guest takes")]
    TooLong,
    #[error("standard input is no text in UTF-8")]
    NotUtf8,
}

fn next_line(from: &mut impl BufRead) -> Result<Option<String>, InputError> {
    let mut line = Vec::new();
    let limit = LINE_BYTES_MAX as u64 + 1;
    from.take(limit).read_until(b'\n', &mut line)?;
    if line.len() > LINE_BYTES_MAX {
        return Err(InputError::TooLong);
    }
    if line.is_empty() {
        return Ok(None);
    }
    let text = String::from_utf8(line).map_err(|_| InputError::NotUtf8)?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_requests_are_awaited() {
        let scripts = r#"{"type":"pending_scripts_response","scripts":[{"execution_id":"e"},{}]}"#;
        assert_eq!(answers(scripts), [Kind::ScriptCompletion("e".into())]);
        let alive = r#"{"type":"keep_alive_request","sequence_number":7}"#;
        assert_eq!(answers(alive), [Kind::KeepAlive(7)]);
        assert_eq!(answers(r#"{"type":"SafeCommand","id":"a"}"#), [Kind::Response("a".into())]);
        assert_eq!(answers(r#"{"type":"SafeCommand","id":22}"#), [Kind::Response("22".into())]);
        for none in ["{nonsense", "7", r#"{"type":"keep_alive_response","sequence_number":7}"#] {
            assert_eq!(answers(none), []);
        }
    }

    #[test]
    fn lines_end_with_the_input_and_a_monstrous_one_is_refused() {
        let mut input = io::Cursor::new(b"one\r\n\ntwo".to_vec());
        let mut next = || next_line(&mut input).unwrap();
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("two"));
        assert_eq!(next(), None);
        let wrong = next_line(&mut io::BufReader::new(io::repeat(b'x')));
        assert!(matches!(wrong, Err(InputError::TooLong)), "{wrong:?}");
        let wrong = next_line(&mut io::Cursor::new(b"\xff\n".to_vec()));
        assert!(matches!(wrong, Err(InputError::NotUtf8)), "{wrong:?}");
    }
}
