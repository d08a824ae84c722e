//! Today's host as facts of the interface: how it keeps count of keep-alives, and of what it warns. Answers nothing by
//! itself, and knows no transport.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

#[allow(dead_code)]
/// How often it asks for a sign of life (`VIRTIO_KEEP_ALIVE_INTERVAL_MS`).
pub const REQUEST_EVERY: Duration = Duration::from_secs(120);
/// More characters at once, of a line that is not whole yet and of what is read behind that, are told as large.
const LARGE: usize = 100_000;
/// It reads so much at once.
const READ: usize = 64 * 1024;
/// Times between its request and a keep-alive that it has in mind.
const KEPT: usize = 20;

/// What it knows of one connection.
#[allow(dead_code)] // each user takes what it needs
#[derive(Debug, Default)]
pub struct Connection {
    /// The number of its last request, or of the last keep-alive.
    sequence: u64,
    requested: Option<Instant>,
    round_trips: VecDeque<Duration>,
    /// Requests, and keep-alives since the first of them.
    pub sent: u32,
    pub received: u32,
    /// Commands that wait for their answer.
    pub pending: HashSet<String>,
    /// Answers that came in time.
    pub answered: Vec<String>,
    /// Ends of scripts.
    pub completed: u32,
    /// Every warning.
    pub warnings: Vec<String>,
    /// A line that is not whole yet.
    buffer: Vec<u8>,
}

impl Connection {
    /// The number of the request that it sends now.
    pub fn request(&mut self) -> u64 {
        self.sequence += 1;
        (self.requested, self.sent) = (Some(Instant::now()), self.sent + 1);
        self.sequence
    }

    /// Reads what lies in its socket; gives the numbers that it answers with a `keep_alive_response`.
    pub fn read(&mut self, bytes: &[u8]) -> Vec<u64> {
        let mut answers = Vec::new();
        for chunk in bytes.chunks(READ) {
            self.buffer.extend_from_slice(chunk);
            if self.buffer.len() > LARGE {
                self.warnings.push(format!("large buffer: {} bytes", self.buffer.len()));
            }
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                answers.extend(self.line(str::from_utf8(&line).unwrap()));
            }
        }
        answers
    }

    /// Takes a line; gives the number that it answers with a `keep_alive_response`.
    fn line(&mut self, line: &str) -> Option<u64> {
        if line.trim().is_empty() {
            return None;
        }
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            self.warnings.push(format!("no message: {line}"));
            return None;
        };
        match line["type"].as_str().unwrap_or_default() {
            "metrics" | "request_pending_scripts" | "circuit_breaker_state" => {}
            "script_completion" => self.completed += 1,
            "keep_alive" => {
                return line["sequence_number"].as_u64().inspect(|n| self.keep_alive(*n));
            }
            "response" => {
                let id = line["id"].as_str().unwrap_or_default().to_owned();
                if self.pending.remove(&id) {
                    self.answered.push(id);
                } else {
                    self.warnings.push(format!("response for unknown command {id}"));
                }
            }
            kind => self.warnings.push(format!("nobody is there for {kind}")),
        }
        None
    }

    fn keep_alive(&mut self, number: u64) {
        if let Some(requested) = self.requested {
            self.received += 1;
            let round_trip = requested.elapsed();
            self.round_trips.push_back(round_trip);
            if self.round_trips.len() > KEPT {
                self.round_trips.pop_front();
            }
            if round_trip > Duration::from_secs(5) {
                self.warnings.push(format!("keep-alive latency {round_trip:?}"));
            }
            if self.average() > Duration::from_secs(3) {
                self.warnings.push(format!("average keep-alive latency {:?}", self.average()));
            }
        }
        self.sequence = number;
    }

    #[allow(dead_code)]
    /// Between its last request and each of the last keep-alives.
    pub fn average(&self) -> Duration {
        let sum: Duration = self.round_trips.iter().sum();
        sum.checked_div(self.round_trips.len() as u32).unwrap_or_default()
    }
}
