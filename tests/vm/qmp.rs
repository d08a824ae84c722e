//! QEMU's control channel: one command at a time, and the events that came meanwhile
//! (QEMU: docs/interop/qmp-spec.txt).

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::wait::{Lines, NoLine};

/// How long QEMU may take to answer a command.
const ANSWER: Duration = Duration::from_secs(20);

/// A connected control channel that has left the negotiation behind.
#[derive(Debug)]
pub struct Qmp {
    lines: Lines,
    events: VecDeque<Value>,
}

impl Qmp {
    pub fn start(stream: UnixStream) -> Result<Self, String> {
        let mut qmp = Self { lines: Lines::new(stream), events: VecDeque::new() };
        let greeting = qmp.read(Instant::now() + ANSWER)?;
        if greeting.get("QMP").is_none() {
            return Err(format!("QEMU did not greet: {greeting}"));
        }
        qmp.ask("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command.
    ///
    /// # Panics
    /// Where QEMU refuses it.
    pub fn run(&mut self, command: &str, arguments: Value) -> Value {
        self.ask(command, arguments).unwrap_or_else(|why| panic!("{command}: {why}"))
    }

    /// Waits for an event that `wanted` accepts, those that came already included; drops the ones
    /// before it.
    ///
    /// # Panics
    /// Where it does not come within `limit`.
    pub fn event(&mut self, name: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + limit;
        loop {
            while let Some(event) = self.events.pop_front() {
                if event["event"] == name && wanted(&event["data"]) {
                    return event;
                }
            }
            let message = self.read(until).unwrap_or_else(|why| panic!("no event {name}: {why}"));
            if message.get("event").is_some() {
                self.events.push_back(message);
            }
        }
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Result<Value, String> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.lines.stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let until = Instant::now() + ANSWER;
        loop {
            let mut message = self.read(until)?;
            if message.get("event").is_some() {
                self.events.push_back(message);
            } else if message.get("error").is_some() {
                return Err(message["error"].to_string());
            } else {
                return Ok(message["return"].take());
            }
        }
    }

    fn read(&mut self, until: Instant) -> Result<Value, String> {
        let line = self.lines.next(until).map_err(|why| match why {
            NoLine::Late => "QEMU said nothing in time",
            NoLine::Closed => "QEMU has ended",
        })?;
        serde_json::from_slice(&line).map_err(|error| format!("QEMU said no JSON: {error}"))
    }
}
